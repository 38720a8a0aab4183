import { describe, expect, it } from 'vitest';
import { apiSidebars, type ApiContents } from '../../docs/.vitepress/api-contents.js';
import { lineOf } from '../../docs/.vitepress/llms.js';
import { home } from '../../docs/.vitepress/links.js';
import { search } from '../../docs/.vitepress/search.js';
import { firstSentence } from '../../docs/.vitepress/sentence.js';
import { allEntries } from '../../docs/api/entries.js';
import { allExamples, exampleOf } from '../../docs/api/examples.js';

describe('the first sentence of a paragraph', () => {
  it.each([
    ['One thing. And another.', 'One thing.'],
    ['It is of Ding et al. (2023), eq. 4, e.g. `x`. More.', 'It is of Ding et al. (2023), eq. 4, e.g. `x`.'],
    ['What is 0.5\nor so. `fit` goes on.', 'What is 0.5 or so.'],
    ['As torch computes it:', 'As torch computes it.'],
    ['no sentence at all', 'no sentence at all'],
  ])('%j', (paragraph, sentence) => {
    expect(firstSentence(paragraph)).toBe(sentence);
  });
});

describe('a page in llms.txt', () => {
  it('has its heading, its address and its first sentence without markup', () => {
    const page = '# Install\n\n![picture](a.svg)\n\n**Of [npm](x.md).** And more.\n';
    expect(lineOf('install.md', page)).toBe(`- [Install](${home}install.html): Of npm.`);
  });

  it('prefers its description', () => {
    const page = '---\neditLink: false\ndescription: "What it is."\n---\n\n[API](x.md)\n\n# train()\n\nMore.\n';
    expect(lineOf('reference/api/core/index.md', page)).toBe(`- [train()](${home}reference/api/core/): What it is.`);
  });
});

describe('the API', () => {
  it('has every entry point of every package, user-facing ones first', () => {
    const specifiers = allEntries().map(({ specifier }) => specifier);
    expect(specifiers.slice(0, 3)).toEqual(['peftjs', 'peftjs/progress', '@peftjs/core']);
    expect(specifiers).toEqual(expect.arrayContaining(['@peftjs/cli/progress', '@peftjs/safetensors']));
  });

  it('has a sidebar per entry point, with the others collapsed', () => {
    const entry = (folder: string) => ({
      text: folder,
      folder,
      groups: [{ text: 'Functions', items: [{ text: 'f', page: `${folder}/functions/f.md` }] }],
    });
    const contents: ApiContents = [entry('core'), entry('core/nn')];
    const functions = { text: 'Functions', collapsed: false };
    expect(apiSidebars(contents)['/reference/api/core/nn/']).toEqual([
      {
        text: 'API',
        items: [
          { text: 'All packages', link: '/reference/api/' },
          { text: 'core', link: '/reference/api/core/' },
          {
            text: 'core/nn',
            link: '/reference/api/core/nn/',
            items: [{ ...functions, items: [{ text: 'f', link: '/reference/api/core/nn/functions/f' }] }],
          },
        ],
      },
    ]);
  });

  it('shows code blocks of pages that import and call a function', () => {
    const examples = allExamples();
    expect(exampleOf('attach', examples)?.code).toMatch(/\battach\(/);
    expect(exampleOf('attach', examples)?.link).toMatch(/^\/[\w/-]+\.md$/);
    expect(exampleOf('nobodyCallsThis', examples)).toBeUndefined();
  });

  it('ranks last in the search', () => {
    const { boostDocument } = search.options.miniSearch.searchOptions;
    const [api, method] = ['/peftjs/reference/api/core/functions/train.html#train', '/peftjs/methods/sora.html'];
    expect(boostDocument(api)).toBeLessThan(boostDocument(method) / 10);
  });
});
