import { describe, expect, it } from 'vitest';
import { repository, siteLink } from '../../docs/.vitepress/links.js';
import { sections } from '../../docs/.vitepress/pages.js';
import { filesBelow, textOf } from '../workspace/repository.js';

describe('the contents of the site', () => {
  it('have every page of docs once, with the start page first', () => {
    const listed = sections().flatMap(({ items }) => items.map(({ link }) => `docs${link}.md`));
    const written = filesBelow('docs').filter((path) => path.endsWith('.md') && path !== 'docs/index.md');
    expect(listed.filter((path) => !path.startsWith('docs/reference/api/')).sort()).toEqual(written.sort());
  });

  it('name a page by its heading', () => {
    expect(
      sections()
        .find(({ text }) => text === 'Methods')
        ?.items.slice(0, 3),
    ).toEqual([
      { text: 'SoRA', link: '/methods/sora' },
      { text: 'LoRA', link: '/methods/lora' },
      { text: 'AdaLoRA', link: '/methods/adalora' },
    ]);
  });
});

describe('the page of a method', () => {
  const overviews = ['docs/methods/baselines.md', 'docs/methods/controls.md'];
  const pages = filesBelow('docs/methods').filter((path) => !overviews.includes(path));
  const parts = {
    'an equation': /^\$\$\n[^$]+\n\$\$$/m,
    'a picture': /^!\[[^\]]+\]\(\.\.\/images\/[\w-]+\.svg\)$/m,
    options: /^## Options/m,
    deviations: /^## .*deviations/im,
    'when to use it': /^## When to use it$/m,
    'a citation': /^## .*citation$/im,
  };

  it.each(pages)(
    '%s has an equation, a picture, options, deviations, advice on when to use it, and a citation',
    (path) => {
      const text = textOf(path);
      expect(Object.entries(parts).flatMap(([part, pattern]) => (pattern.test(text) ? [] : [part]))).toEqual([]);
    },
  );
});

describe('a link on a page', () => {
  it.each([
    ['sora.md#options', 'sora.md#options'],
    ['../concepts/the-whole-idea.md', '../concepts/the-whole-idea.md'],
    ['#options', '#options'],
    ['https://arxiv.org/abs/2311.11696', 'https://arxiv.org/abs/2311.11696'],
    ['../../packages/lora/README.md#use', `${repository}/blob/main/packages/lora/README.md#use`],
    ['../benchmarks/results/speed/perf.json', `${repository}/blob/main/docs/benchmarks/results/speed/perf.json`],
  ])('%s leads to %s', (target, expected) => {
    expect(siteLink('methods/lora.md', target)).toBe(expected);
  });
});
