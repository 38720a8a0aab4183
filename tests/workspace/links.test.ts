import { existsSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, expect, it } from 'vitest';
import { anchorOf } from '../../docs/.vitepress/links.js';
import { filesBelow, root, textOf } from './repository.js';

const pages = filesBelow('.').filter((path) => path.endsWith('.md'));

/** Markdown without code. */
function prose(markdown: string): string {
  return markdown.replace(/^(```|~~~)[\s\S]*?^\1/gm, '').replace(/`[^`\n]*`/g, '');
}

/** The targets of links and images in Markdown and HTML. */
function targetsOf(markdown: string): string[] {
  const inline = [...prose(markdown).matchAll(/\]\(\s*<?([^)\s>]+)>?[^)]*\)/g)];
  const defined = [...prose(markdown).matchAll(/^\[[^\]]+\]:\s*(\S+)/gm)];
  const html = [...prose(markdown).matchAll(/\b(?:href|src)="([^"]+)"/g)];
  return [...inline, ...defined, ...html].map(([, target]) => target ?? '');
}

/** The anchors of a page's headings. */
function anchorsOf(markdown: string): Set<string> {
  const headings = [...markdown.replace(/^(```|~~~)[\s\S]*?^\1/gm, '').matchAll(/^#{1,6}\s+(.+?)\s*$/gm)];
  return new Set(headings.map(([, heading = '']) => anchorOf(heading)));
}

/** Our files by address, as the READMEs that npm shows link them. */
const ADDRESS =
  /^https:\/\/(?:github\.com\/peftjs\/peftjs\/(?:blob|tree)|raw\.githubusercontent\.com\/peftjs\/peftjs)\/main\//;

/** Broken links of a page within the repository; links to the web are not checked. */
function brokenLinks(page: string, markdown: string): string[] {
  return targetsOf(markdown).filter((target) => {
    const isOurs = ADDRESS.test(target);
    if (!isOurs && /^[a-z]+:/i.test(target)) return false;
    const [path = '', anchor] = target.replace(ADDRESS, '').split('#');
    const from = isOurs ? '.' : dirname(page);
    const file = path === '' ? page : normalize(join(from, decodeURI(path)));
    if (!existsSync(join(root, file))) return true;
    return anchor !== undefined && file.endsWith('.md') && !anchorsOf(textOf(file)).has(anchor);
  });
}

describe('links inside the repository', () => {
  it.each(pages)('%s', (page) => {
    expect(brokenLinks(page, textOf(page))).toEqual([]);
  });

  it('a broken one would be found', () => {
    const markdown = [
      '[a](nowhere.md) [b](docs/package.json "title") ![c](docs/no.svg) [d](https://example.org)',
      '[e](#heading) [f](#nothing) <img src="no.png"> `[g](code.md)`',
      '[h]: docs/none.md',
      '[j](https://github.com/peftjs/peftjs/blob/main/none.md) [k](https://github.com/peftjs/peftjs/tree/main/docs)',
      '# Heading',
      '```\n[i](code.md)\n```',
    ].join('\n');
    expect(brokenLinks('CONTRIBUTING.md', markdown)).toEqual([
      'nowhere.md',
      'docs/no.svg',
      '#heading',
      '#nothing',
      'https://github.com/peftjs/peftjs/blob/main/none.md',
      'docs/none.md',
      'no.png',
    ]);
  });
});
