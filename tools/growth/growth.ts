/* npx tsx tools/growth/growth.ts [--against REF] [--report FILE]
 *
 * Prints the size of each package and how much it has grown since the last release, or since a commit: files, lines of code, exported
 * names, tests; and seconds, with a report of `npx vitest run --reporter=json --outputFile=FILE`.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { sizeOf } from './count.js';

const { values: flags } = parseArgs({ options: { against: { type: 'string' }, report: { type: 'string' } } });
const against = flags.against ?? lastRelease();
const seconds = flags.report === undefined ? undefined : secondsIn(flags.report);
const then = mkdtempSync(join(tmpdir(), 'peftjs-growth-'));
try {
  const archive = execFileSync('git', ['archive', against, 'packages'], { maxBuffer: 2 ** 30 });
  execFileSync('tar', ['-x', '-C', then], { input: archive });
  const names = new Set(['.', then].flatMap((root) => readdirSync(join(root, 'packages'))));
  console.table(Object.fromEntries([...names].sort().map((name) => [name, growthOf(name)])));
} finally {
  rmSync(then, { recursive: true });
}

function lastRelease(): string {
  const { status, stdout } = spawnSync('git', ['describe', '--tags', '--abbrev=0'], { encoding: 'utf8' });
  if (status === 0) return stdout.trim();
  throw new RangeError('expected a release to compare with, found no tag: name a commit with --against');
}

function growthOf(name: string): Record<string, string> {
  const [before, now] = [sizeOf(join(then, 'packages', name)), sizeOf(join('packages', name))];
  const row: Record<string, string> = {};
  for (const what of Object.keys({ ...before, ...now })) {
    const count = now[what] ?? 0;
    const more = count - (before[what] ?? 0);
    row[what] = more === 0 ? `${count}` : `${count} (${more > 0 ? '+' : ''}${more})`;
  }
  return seconds === undefined ? row : { ...row, seconds: (seconds.get(name) ?? 0).toFixed(1) };
}

/** The time that the test files of each package took. */
function secondsIn(report: string): Map<string, number> {
  const { testResults } = JSON.parse(readFileSync(report, 'utf8')) as {
    testResults: { name: string; startTime: number; endTime: number }[];
  };
  const sums = new Map<string, number>();
  for (const { name, startTime, endTime } of testResults) {
    const [, folder = ''] = relative('.', name).split('/');
    sums.set(folder, (sums.get(folder) ?? 0) + (endTime - startTime) / 1000);
  }
  return sums;
}
