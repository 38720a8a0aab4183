import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { SiteConfig } from 'vitepress';
import { home } from './links.js';
import { sections } from './pages.js';
import { firstSentence } from './sentence.js';

/** Writes llms.txt (llmstxt.org) beside the built site: every page with its first sentence, in the order of the sidebar. */
export async function writeLlms({ srcDir, outDir, pages, site }: SiteConfig): Promise<void> {
  const line = async (path: string) => lineOf(path, await readFile(join(srcDir, path), 'utf8'));
  const parts = sections().map(async ({ text, items }) => {
    const links = items.map(({ link }) => link.slice(1));
    // The link of a folder holds what no link after it has.
    const place = (path: string) =>
      links.findLastIndex((link) => (link.endsWith('/') ? path.startsWith(link) : path === `${link}.md`));
    const listed = pages.filter((path) => place(path) >= 0).sort((one, other) => place(one) - place(other));
    return [`## ${text}`, '', ...(await Promise.all(listed.map(line))), ''];
  });
  const lines = [
    '# peftjs',
    '',
    `> ${site.description}`,
    '',
    await line('index.md'),
    '',
    ...(await Promise.all(parts)).flat(),
  ];
  await writeFile(join(outDir, 'llms.txt'), lines.join('\n'));
}

/** A page in a line: what it is called, where it is and what it says first. */
export function lineOf(path: string, page: string): string {
  const { title, sentence } = opening(page);
  const address = new URL(path.replace(/(^|\/)index\.md$/, '$1').replace(/\.md$/, '.html'), home);
  return `- [${title}](${address.href}): ${sentence}`;
}

/** The heading of a page and its first sentence: of its description, or of the first paragraph that is prose. */
function opening(page: string): { title: string; sentence: string } {
  const [, frontmatter = '', body = ''] = /^(?:---\n([^]*?\n)---\n)?([^]*)$/.exec(page) ?? [];
  const field = (name: string) => new RegExp(`^${name}: "?(.+?)"?$`, 'm').exec(frontmatter)?.[1];
  const title = /^# (.+)$/m.exec(body)?.[1] ?? field('title') ?? '';
  const prose = body.split(/\n{2,}/).find((paragraph) => /^[\p{L}*_`[]/u.test(paragraph.trim())) ?? '';
  const plain = (field('description') ?? prose).replace(/\*\*/g, '').replace(/\[([^\]]*)\]\([^)]*\)/g, '$1');
  return { title, sentence: firstSentence(plain) };
}
