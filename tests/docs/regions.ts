import { filesBelow, textOf } from '../workspace/repository.js';

/** Lines of a program that a page shows: what stands between `// #region name` and `// #endregion name`. */
interface Region {
  readonly lines: string;
  /** What the program imports. */
  readonly imports: ReadonlySet<string>;
}

/** The regions of all that CI runs: tests, beside which the lines of pages stand in `examples`, and sources, which have tests. */
export function runRegions(): Region[] {
  const files = ['examples', 'packages'].flatMap(filesBelow);
  return files
    .filter((path) => path.endsWith('.test.ts') || /^packages\/[^/]+\/src\/.*\.ts$/.test(path))
    .flatMap((path) => regionsOf(textOf(path)));
}

/** The regions of a program. */
export function regionsOf(program: string): Region[] {
  const imports = importsOf(program);
  const marked = program.matchAll(/^ *\/\/ #region (\S+)\n([\s\S]*?)^ *\/\/ #endregion \1$/gm);
  return [...marked].map(([, , lines = '']) => ({ lines: dedented(lines), imports }));
}

/** The blocks of a page that hold TypeScript, or a change of it, in their order. */
export function blocksOf(markdown: string): { language: string; code: string }[] {
  const blocks = markdown.matchAll(/^ *```(ts|tsx|typescript|diff)\b.*\n([\s\S]*?)^ *```$/gm);
  return [...blocks].map(([, language = '', code = '']) => ({ language, code }));
}

/** The programs that a block shows: the one before a change and the one after it, or just one. */
function programsOf({ language, code }: { language: string; code: string }): string[] {
  if (language !== 'diff') return [code];
  const without = (sign: string) => code.replace(new RegExp(`^[${sign}].*\n`, 'gm'), '').replace(/^./gm, '');
  return [without('+'), without('-')];
}

/** The programs of a page that are, word for word, no region; imports may stand elsewhere in the region's program. */
export function unrunPrograms(markdown: string, regions: readonly Region[]): string[] {
  const isRun = (program: string): boolean => {
    const [imports, lines] = [importsOf(program), dedented(program.replace(importPattern, ''))];
    return regions.some((region) => region.lines === lines && [...imports].every((name) => region.imports.has(name)));
  };
  return blocksOf(markdown).flatMap((block, index) =>
    programsOf(block)
      .filter((program) => !isRun(program))
      .map((program) => `block ${index + 1} (${block.language}) is no region of a test or source:\n${program}`),
  );
}

const importPattern = /^import (?:type )?([^;]+?) from '([^']+)';\n/gm;

/** Each name that code imports, with its module. */
function importsOf(code: string): Set<string> {
  return new Set(
    [...code.matchAll(importPattern)].flatMap(([, names = '', module = '']) =>
      names
        .split(/[{},]/)
        .map((name) => name.trim().replace(/^type /, ''))
        .filter((name) => name !== '')
        .map((name) => `${name} of ${module}`),
    ),
  );
}

/** Lines without the indentation that all of them have, and without blank lines around them. */
function dedented(lines: string): string {
  const indentations = [...lines.matchAll(/^( *)\S/gm)].map(([, blanks = '']) => blanks.length);
  const common = indentations.length > 0 ? Math.min(...indentations) : 0;
  return lines.replace(new RegExp(`^ {${common}}`, 'gm'), '').trim();
}
