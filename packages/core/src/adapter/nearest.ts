/** How many paths an error lists. */
const LISTED = 5;

/** The paths whose ends are closest to one of the names, by edit distance. */
export function nearestPaths(paths: readonly string[], names: readonly string[]): string[] {
  return paths
    .map((path) => ({ path, gap: Math.min(...names.map((name) => suffixDistance(name, path))) }))
    .sort((a, b) => a.gap - b.gap)
    .slice(0, LISTED)
    .map(({ path }) => path);
}

/** Edit distance between a name and the end of a path with as many segments. */
function suffixDistance(name: string, path: string): number {
  return editDistance(name, path.split('.').slice(-name.split('.').length).join('.'));
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min((row[j] as number) + 1, (next[j - 1] as number) + 1, substitution));
    }
    row = next;
  }
  return row[b.length] as number;
}
