import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { SiteConfig } from 'vitepress';
import { home } from './links.js';
import { sections } from './pages.js';
import { firstSentence } from './sentence.js';

/** Writes llms.txt (llmstxt.org) into the built site: every page with its first sentence, in the sidebar's order. */
export async function writeLlms({ srcDir, outDir, pages, site }: SiteConfig): Promise<void> {
  const line = async (path: string) => lineOf(path, await readFile(join(srcDir, path), 'utf8'));
  const parts = sections().map(async ({ text, items }) => {
    const links = items.map(({ link }) => link.slice(1));
    // A link to a folder covers its pages, except those with a later link.
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

/** Returns the line of a page: its title, address and first sentence. */
export function lineOf(path: string, page: string): string {
  const { title, sentence } = opening(page);
  const address = new URL(path.replace(/(^|\/)index\.md$/, '$1').replace(/\.md$/, '.html'), home);
  return `- [${title}](${address.href}): ${sentence}`;
}

/** Returns the heading of a page, and the first sentence of its description or else of its first prose paragraph. */
function opening(page: string): { title: string; sentence: string } {
  const [, frontmatter = '', body = ''] = /^(?:---\n([^]*?\n)---\n)?([^]*)$/.exec(page) ?? [];
  const field = (name: string) => new RegExp(`^${name}: "?(.+?)"?$`, 'm').exec(frontmatter)?.[1];
  const title = /^# (.+)$/m.exec(body)?.[1] ?? field('title') ?? '';
  const prose = body.split(/\n{2,}/).find((paragraph) => /^[\p{L}*_`[]/u.test(paragraph.trim())) ?? '';
  const plain = (field('description') ?? prose).replace(/\*\*/g, '').replace(/\[([^\]]*)\]\([^)]*\)/g, '$1');
  return { title, sentence: firstSentence(plain) };
}
