/**
 * Applies the mutation of every known trap and checks that a test named after the trap fails.
 *
 *   npx tsx --conditions @peftjs/source tools/traps/check.ts [numbers of traps]
 *
 * Applies the mutations of mutations.json one after the other to a copy of the working tree and runs the tests named
 * after the trap there. They must pass without the mutation and fail with it. Exits with 1 if a mutation is not caught.
 * Takes minutes.
 */
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The code as someone unaware of the trap would write it. */
interface Mutation {
  readonly trap: number;
  readonly file: string;
  /** Code that occurs once in the file. */
  readonly search: string;
  readonly replace: string;
  /** The test file whose tests of the trap's name must fail. */
  readonly test: string;
}

/** The outcome of a test. */
interface Outcome {
  readonly file: string;
  readonly name: string;
  readonly failed: boolean;
}

const root = fileURLToPath(new URL('../..', import.meta.url));
const mutations = JSON.parse(readFileSync(new URL('mutations.json', import.meta.url), 'utf8')) as Mutation[];
const RUN_MILLISECONDS = 300_000;

const numbers = process.argv.slice(2).map(Number);
const chosen = mutations.filter(({ trap }) => numbers.length === 0 || numbers.includes(trap));
const uncovered = numbers.filter((number) => !chosen.some(({ trap }) => trap === number));
for (const number of uncovered) say(`trap ${number}: NOT CAUGHT: it has no mutation`);
process.exitCode = inCopy((copy) => checkAll(copy, chosen)) && uncovered.length === 0 ? 0 : 1;

/** Whether every mutation is caught; prints a line for each. */
function checkAll(copy: string, tried: readonly Mutation[]): boolean {
  const unbroken = outcomes(copy, [...new Set(tried.map(({ test }) => test))], '\\d+');
  const lines = tried.map((mutation) => {
    const line = `trap ${mutation.trap}: ${verdict(copy, mutation, unbroken)}`;
    say(line);
    return line;
  });
  return lines.every((line) => line.includes(': caught by '));
}

function verdict(copy: string, mutation: Mutation, unbroken: readonly Outcome[]): string {
  const { trap, file, search, test } = mutation;
  const missed = (why: string): string => `NOT CAUGHT: ${why} (${file})`;
  const titled = new RegExp(titles(String(trap)));
  const own = unbroken.filter((outcome) => outcome.file === test && titled.test(outcome.name));
  if (own.length === 0) return missed(`${test} has no test of its name`);
  if (own.some(({ failed }) => failed)) return missed('its tests fail on the code as it is');
  const places = readFileSync(join(copy, file), 'utf8').split(search).length - 1;
  if (places !== 1) return missed(`${JSON.stringify(search)} occurs ${places} times, not once`);
  const [first, ...others] = broken(copy, mutation).filter(({ failed }) => failed);
  if (!first) return missed(`the tests of ${test} still pass`);
  return `caught by '${first.name}'${others.length === 0 ? '' : ` and ${others.length} more`} (${file})`;
}

/** Returns the outcomes of the trap's tests with the mutation applied. */
function broken(copy: string, { trap, file, search, replace, test }: Mutation): Outcome[] {
  const path = join(copy, file);
  const text = readFileSync(path, 'utf8');
  writeFileSync(path, text.split(search).join(replace));
  try {
    return outcomes(copy, [test], String(trap));
  } finally {
    writeFileSync(path, text);
  }
}

/** Returns a regular expression for the titles of a trap's tests, e.g. 'trap 7: ..' or 'traps 5, 6 and 7: ..'. */
function titles(number: string): string {
  return `traps? [\\d, and]*\\b${number}\\b[\\d, and]*:`;
}

/** Runs the tests of some files that are named after a trap. */
function outcomes(copy: string, files: readonly string[], number: string): Outcome[] {
  const report = join(copy, 'report.json');
  const vitest = join(copy, 'node_modules/vitest/vitest.mjs');
  const options = ['-t', titles(number), '--reporter=json', `--outputFile=${report}`];
  return ['vitest.config.ts', 'vitest.e2e.config.ts'].flatMap((config) => {
    const own = files.filter((file) => file.endsWith('.e2e.ts') === config.includes('.e2e.'));
    if (own.length === 0) return [];
    const command = [vitest, 'run', '--config', config, ...own, ...options];
    rmSync(report, { force: true });
    spawnSync(process.execPath, command, { cwd: copy, timeout: RUN_MILLISECONDS });
    return existsSync(report) ? readOutcomes(copy, report) : [];
  });
}

function readOutcomes(copy: string, report: string): Outcome[] {
  const { testResults } = JSON.parse(readFileSync(report, 'utf8')) as {
    testResults: { name: string; assertionResults: { fullName: string; status: string }[] }[];
  };
  return testResults.flatMap(({ name, assertionResults }) => {
    const file = relative(copy, name);
    const run = assertionResults.filter(({ status }) => status === 'passed' || status === 'failed');
    return run.map(({ fullName, status }) => ({ file, name: fullName, failed: status === 'failed' }));
  });
}

/**
 * Runs work in a copy of the working tree without ignored files, whose packages resolve to each other and not to the
 * checkout's.
 */
function inCopy<T>(work: (copy: string) => T): T {
  const copy = mkdtempSync(join(tmpdir(), 'peftjs-traps-'));
  try {
    const listed = spawnSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: root });
    for (const file of listed.stdout.toString().split('\0')) {
      if (file !== '' && existsSync(join(root, file))) cpSync(join(root, file), join(copy, file));
    }
    linkModules(copy);
    return work(copy);
  } finally {
    rmSync(copy, { recursive: true });
  }
}

function linkModules(copy: string): void {
  const link = (target: string, path: string): void => {
    mkdirSync(dirname(join(copy, path)), { recursive: true });
    symlinkSync(target, join(copy, path));
  };
  const visible = (folder: string): string[] => readdirSync(join(root, folder)).filter((name) => !name.startsWith('.'));
  for (const name of visible('node_modules').filter((name) => name !== '@peftjs')) {
    link(join(root, 'node_modules', name), `node_modules/${name}`);
  }
  for (const name of visible('node_modules/@peftjs').map((name) => `node_modules/@peftjs/${name}`)) {
    link(readlinkSync(join(root, name)), name);
  }
  for (const modules of visible('packages').map((name) => `packages/${name}/node_modules`)) {
    if (existsSync(join(root, modules))) link(join(root, modules), modules);
  }
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
