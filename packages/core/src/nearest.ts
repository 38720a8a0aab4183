/** How many paths an error lists. */
const LISTED = 5;

/** The module paths whose ends are closest to one of the names, by edit distance. */
export function nearestPaths(paths: readonly string[], names: readonly string[]): string[] {
  return paths
    .map((path) => ({ path, gap: Math.min(...names.map((name) => suffixDistance(name, path))) }))
    .sort((a, b) => a.gap - b.gap)
    .slice(0, LISTED)
    .map(({ path }) => path);
}

/**
 * What an error adds after a name that it refuses: ` (did you mean 'lora'?)`, or nothing where no known name is close. Case,
 * hyphens and underscores do not count, and one slip is allowed for every three letters.
 */
export function didYouMean(name: unknown, known: readonly string[]): string {
  if (typeof name !== 'string') return '';
  const asked = letters(name);
  const [best] = known
    .map((candidate) => ({ candidate, gap: editDistance(asked, letters(candidate)) }))
    .filter(({ candidate, gap }) => gap <= Math.floor(Math.max(asked.length, candidate.length) / 3))
    .sort((a, b) => a.gap - b.gap);
  return best ? ` (did you mean '${best.candidate}'?)` : '';
}

/** What a typist means; a name that is longer than any known one is not compared in full. */
function letters(name: string): string {
  return name.slice(0, 100).toLowerCase().replace(/[-_]/g, '');
}

/** Edit distance between a name and the end of a path with as many segments. */
function suffixDistance(name: string, path: string): number {
  return editDistance(name, path.split('.').slice(-name.split('.').length).join('.'));
}

/** Letters to insert, delete or replace, or neighbours to swap, between two names. */
function editDistance(a: string, b: string): number {
  let [beforeLast, last]: number[][] = [[], Array.from({ length: b.length + 1 }, (_, column) => column)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const substituted = at(last, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const isSwapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swapped = isSwapped ? at(beforeLast, j - 2) + 1 : Infinity;
      row.push(Math.min(at(last, j) + 1, at(row, j - 1) + 1, substituted, swapped));
    }
    [beforeLast, last] = [last, row];
  }
  return at(last, b.length);
}

function at(row: readonly number[] | undefined, column: number): number {
  return row?.[column] ?? Infinity;
}
