import { relative } from 'node:path/posix';
import { blocksOf } from '../../tests/docs/regions.js';
import { filesBelow, textOf } from '../../tests/workspace/repository.js';
import { repository } from '../.vitepress/links.js';

/** Lines of a page that call a function. A test runs them: tests/docs/blocks.test.ts holds each page to that. */
export interface Example {
  readonly code: string;
  /** What the page is called. */
  readonly title: string;
  /** Where it is, from the root of the site or whole. */
  readonly link: string;
  /** What is imported from our packages somewhere on the page. */
  readonly imports: ReadonlySet<string>;
}

/** More lines than these show something else. */
const MAX_LINES = 30;

/** The blocks of all pages, then of the packages' README files; each time the shortest first. */
export function allExamples(): Example[] {
  return ['docs', 'packages'].flatMap((folder) =>
    filesBelow(folder)
      .filter((path) => path.endsWith('.md'))
      .flatMap(examplesOn)
      .filter(({ code }) => linesOf(code) <= MAX_LINES)
      .sort((one, other) => linesOf(one.code) - linesOf(other.code)),
  );
}

/** The first example that calls a function of our packages. */
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
