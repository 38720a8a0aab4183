/**
 * Writes the README of the package peftjs, which npm shows: that of the repository, whose links are relative there.
 *
 *   npx tsx tools/release/readme.ts
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { argv } from 'node:process';
import { fileURLToPath } from 'node:url';

const REPOSITORY = 'github.com/peftjs/peftjs';
const FILES = {
  image: `https://raw.githubusercontent.com/peftjs/peftjs/main`,
  page: `https://${REPOSITORY}/blob/main`,
};

/** Returns Markdown whose relative links are addresses in the repository. */
export function forNpm(markdown: string): string {
  return markdown.replaceAll(
    /(!?)\[([^\]]*)\]\((?!https?:|#)([^)]+)\)/g,
    (_, mark: string, text: string, to: string) => {
      const isFolder = !/\.\w+(?:#|$)|^LICENSE$/.test(to);
      const base = mark === '!' ? FILES.image : isFolder ? `https://${REPOSITORY}/tree/main` : FILES.page;
      return `${mark}[${text}](${base}/${to})`;
    },
  );
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync('packages/peftjs/README.md', forNpm(readFileSync('README.md', 'utf8')));
}
