/*
 * npx tsx --conditions @peftjs/source tools/compare-peft/compare.ts --study parity --model DIR --data DIR
 *     --python venv/bin/python [--work DIR] [--results DIR] [--tasks rte,mrpc] [--seeds 1,2]
 *
 * Trains with peftjs and with Hugging Face PEFT, with the settings of a file here (`parity`, `bert-base-1k`). Runs
 * every pair that has no result yet, starting with the first seed of every task, and reports all pairs. Both sides of a
 * pair run at the same time, each in its own process with the settings' number of threads, so that they share the
 * machine's other load. After an interruption, the same command resumes.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, rename } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { prepare } from './prepare.js';
import { report } from './report.js';
import { readSettings, sides, tableTasks, type Side } from './settings.js';

const option = { type: 'string' } as const;
const { values: flags } = parseArgs({
  options: {
    ...{ model: option, work: option, results: option, tasks: option, seeds: option },
    study: { ...option, default: 'parity' },
    data: { ...option, default: '' },
    python: { ...option, default: 'python3' },
  },
});
const { study, model, data } = flags;
const { work = `results/compare-${study}`, results = `docs/benchmarks/results/peft-${study}` } = flags;
if (model === undefined) throw new RangeError('expected --model DIR');
const settings = readSettings(study);
const seeds = flags.seeds?.split(',').map(Number) ?? settings.seeds;
const tasks = flags.tasks?.split(',') ?? tableTasks(settings);
await mkdir(results, { recursive: true });
for (const task of tasks) await prepare(settings, task, seeds, { model, data, work });
let failed = 0;
for (const seed of seeds) {
  for (const task of tasks) {
    const done = await Promise.all(sides.map((side) => runSide(side, task, seed)));
    failed += done.filter((isDone) => !isDone).length;
  }
}
await report(settings, { results, page: `docs/benchmarks/peft-${study}.md` });
process.exitCode = failed > 0 ? 1 : 0;

/** Runs one side, unless its result exists. Returns whether there is a result now. */
async function runSide(side: Side, task: string, seed: number): Promise<boolean> {
  const file = `${results}/${task}-${seed}-${side}.json`;
  if (existsSync(file)) return true;
  const [command, ...start] = commandOf(side);
  const given = { study, model, work, task, seed, out: `${file}.part` };
  const args = Object.entries(given).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const started = performance.now();
  const code = await exitCode(command, [...start, ...args]);
  if (code === 0) await rename(`${file}.part`, file);
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  process.stderr.write(`${task}, seed ${seed}, ${side}: ${code === 0 ? 'done' : `failed (${code})`} in ${seconds} s\n`);
  return code === 0;
}

function commandOf(side: Side): [string, ...string[]] {
  const path = (file: string): string => fileURLToPath(new URL(file, import.meta.url));
  return side === 'peftjs' ? [process.execPath, ...process.execArgv, path('run.ts')] : [flags.python, path('peer.py')];
}

function exitCode(command: string, args: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit'] });
    child.on('error', reject);
    child.on('exit', (code) => {
      resolve(code ?? 1);
    });
  });
}
