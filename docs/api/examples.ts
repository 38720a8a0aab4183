import { relative } from 'node:path/posix';
import { blocksOf } from '../../tests/docs/regions.js';
import { filesBelow, textOf } from '../../tests/workspace/repository.js';
import { repository } from '../.vitepress/links.js';

/** A code block of a page. Tests run all of them (tests/docs/blocks.test.ts). */
export interface Example {
  readonly code: string;
  /** The title of the page. */
  readonly title: string;
  /** The link to the page: from the root of the site, or absolute. */
  readonly link: string;
  /** Everything that the page imports from peftjs packages. */
  readonly imports: ReadonlySet<string>;
}

/** Longer blocks are whole programs rather than examples of one function. */
const MAX_LINES = 30;

/** Returns the blocks of all pages, then those of the packages' READMEs; the shortest first in both. */
export function allExamples(): Example[] {
  return ['docs', 'packages'].flatMap((folder) =>
    filesBelow(folder)
      .filter((path) => path.endsWith('.md'))
      .flatMap(examplesOn)
      .filter(({ code }) => linesOf(code) <= MAX_LINES)
      .sort((one, other) => linesOf(one.code) - linesOf(other.code)),
  );
}

/** Returns the first example that imports a function from our packages and calls it. */
export function exampleOf(name: string, examples: readonly Example[]): Example | undefined {
  const called = new RegExp(String.raw`(?<![.\w])${name}\(`);
  return examples.find(({ code, imports }) => imports.has(name) && called.test(code));
}

function examplesOn(path: string): Example[] {
  const page = textOf(path);
  const blocks = blocksOf(page).filter(({ language }) => language === 'ts');
  const imports = new Set(blocks.flatMap(({ code }) => importsOf(code)));
  const title = /^# (.+)$/m.exec(page)?.[1] ?? path;
  const link = path.startsWith('docs/') ? `/${relative('docs', path)}` : `${repository}/blob/main/${path}`;
  return blocks.map(({ code }) => ({ code, title, link, imports }));
}

function importsOf(code: string): string[] {
  const statements = code.matchAll(/^import \{([^}]+)\} from '(?:@peftjs\/[^']+|peftjs)';/gm);
  return [...statements].flatMap(([, names = '']) => names.split(',').map((name) => name.trim()));
}

function linesOf(code: string): number {
  return code.split('\n').length;
}
