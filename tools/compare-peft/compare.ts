/*
 * npx tsx --conditions @peftjs/source tools/compare-peft/compare.ts --model DIR --work DIR --python venv/bin/python
 *     [--results DIR] [--tasks rte,mrpc] [--seeds 1,2]
 *
 * Runs every pair that has no result yet, starting with the first seed of every task. Both sides of a pair run at the
 * same time, each in its own process with `threads` of settings.json, so that they share the machine's other load.
 * After an interruption, the same command resumes.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, rename } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { settings, sides, tableTasks, type Side } from './settings.js';

const { values: flags } = parseArgs({
  options: {
    model: { type: 'string' },
    work: { type: 'string' },
    python: { type: 'string', default: 'python3' },
    results: { type: 'string', default: 'docs/benchmarks/results/peft-parity' },
    tasks: { type: 'string', default: tableTasks.join() },
    seeds: { type: 'string', default: settings.seeds.join() },
  },
});
const { model, work, results } = flags;
if (model === undefined || work === undefined) throw new RangeError('expected --model DIR --work DIR');
await mkdir(results, { recursive: true });
let failed = 0;
for (const seed of flags.seeds.split(',')) {
  for (const task of flags.tasks.split(',')) {
    const done = await Promise.all(sides.map((side) => runSide(side, task, seed)));
    failed += done.filter((isDone) => !isDone).length;
  }
}
process.exitCode = failed > 0 ? 1 : 0;

/** Runs one side, unless its result exists. Returns whether there is a result now. */
async function runSide(side: Side, task: string, seed: string): Promise<boolean> {
  const file = `${results}/${task}-${seed}-${side}.json`;
  if (existsSync(file)) return true;
  const [command, ...start] = commandOf(side);
  const given = { model, work, task, seed, out: `${file}.part` };
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
