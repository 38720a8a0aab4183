import { filesBelow, isTestFile, textOf } from '../workspace/repository.js';

/** The lines of a program between `// #region name` and `// #endregion name`, for a page to show. */
interface Region {
  readonly lines: string;
  /** The imports of the program. */
  readonly imports: ReadonlySet<string>;
}

/**
 * Returns the regions of everything that CI runs: tests, examples and package sources.
 */
export function runRegions(): Region[] {
  const files = ['examples', 'packages'].flatMap(filesBelow);
  return files
    .filter((path) => isTestFile(path) || /^packages\/[^/]+\/src\/.*\.ts$/.test(path))
    .flatMap((path) => regionsOf(textOf(path)));
}

/** The regions of a program. */
export function regionsOf(program: string): Region[] {
  const imports = importsOf(program);
  const marked = program.matchAll(/^ *\/\/ #region (\S+)\n([\s\S]*?)^ *\/\/ #endregion \1$/gm);
  return [...marked].map(([, , lines = '']) => ({ lines: dedented(lines), imports }));
}

/** The TypeScript blocks of a page, including diffs, in order. */
export function blocksOf(markdown: string): { language: string; code: string }[] {
  const blocks = markdown.matchAll(/^ *```(ts|tsx|typescript|diff)\b.*\n([\s\S]*?)^ *```$/gm);
  return [...blocks].map(([, language = '', code = '']) => ({ language, code }));
}

/** Returns the programs that a block shows: two for a diff (before and after), otherwise one. */
function programsOf({ language, code }: { language: string; code: string }): string[] {
  if (language !== 'diff') return [code];
  const without = (sign: string) => code.replace(new RegExp(`^[${sign}].*\n`, 'gm'), '').replace(/^./gm, '');
  return [without('+'), without('-')];
}

/**
 * Returns the programs of a page that match no region word for word. Their imports may be elsewhere in the region's
 * file.
 */
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

/** The names that code imports, each with its module. */
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

/** Lines without their common indentation, and without blank lines around them. */
function dedented(lines: string): string {
  const indentations = [...lines.matchAll(/^( *)\S/gm)].map(([, blanks = '']) => blanks.length);
  const common = indentations.length > 0 ? Math.min(...indentations) : 0;
  return lines.replace(new RegExp(`^ {${common}}`, 'gm'), '').trim();
}
