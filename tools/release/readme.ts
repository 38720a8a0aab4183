/**
 * Writes the README of the package peftjs, which npm shows: that of the repository, whose links are relative there.
 *
 *   npx tsx tools/release/readme.ts
 *   npx tsx tools/release/readme.ts --released    first removes what the pages say of the time before the first release
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

/** Returns a page without what only holds before the first release. */
export function released(markdown: string): string {
  return markdown.replaceAll(/<!-- unreleased -->[^]*?<!-- \/unreleased -->\s*/g, '');
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  for (const page of argv.includes('--released') ? ['README.md', 'docs/install.md'] : []) {
    writeFileSync(page, released(readFileSync(page, 'utf8')));
  }
  writeFileSync('packages/peftjs/README.md', forNpm(readFileSync('README.md', 'utf8')));
}
