/*
 * npx tsx --conditions @peftjs/source tools/perf-peer/epochs.ts --python venv/bin/python --model DIR --data GLUE [--rounds 3]
 *     [--threads 2] [--results docs/benchmarks/results/speed]
 *
 * Compares an epoch of LoRA on real text with peftjs and with PyTorch + Hugging Face PEFT, which pads as by default,
 * one after the other, round after round. Writes epochs.json, from which report.ts makes the page.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { availableParallelism, loadavg } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { printedBy } from '../perf/own-process.js';
import {
  EPOCH_SIDES,
  EPOCH_TASKS,
  type EpochResults,
  type EpochRound,
  type EpochRun,
  type EpochSide,
} from './results.js';

const { values: flags } = parseArgs({
  options: {
    python: { type: 'string', default: 'python3' },
    model: { type: 'string' },
    data: { type: 'string' },
    rounds: { type: 'string', default: '3' },
    threads: { type: 'string', default: String(availableParallelism()) },
    results: { type: 'string', default: 'docs/benchmarks/results/speed' },
  },
});
const { model, data, threads } = flags;
if (!model || !data) throw new RangeError('expected --model DIR --data DIR');
const given = ['--model', model, '--data', data, '--threads', threads];

const rounds: EpochRound[] = [];
for (let round = 0; round < Number(flags.rounds); round++) {
  for (const task of EPOCH_TASKS) {
    const load = loadavg()[0] ?? NaN;
    const runs: Partial<Record<EpochSide, EpochRun>> = {};
    for (const side of EPOCH_SIDES) runs[side] = await epochOf(side, task);
    rounds.push({ task, load, runs: runs as EpochRound['runs'] });
  }
}
const results: EpochResults = { threads: Number(threads), rounds };
await mkdir(flags.results, { recursive: true });
await writeFile(join(flags.results, 'epochs.json'), `${JSON.stringify(results, null, 2)}\n`);

async function epochOf(side: EpochSide, task: string): Promise<EpochRun> {
  const printed = await (side === 'torch-fp32' ? theirs(task) : ours(task, side === 'peftjs-q8' ? 'q8' : 'fp32'));
  const run = JSON.parse(printed) as EpochRun;
  process.stderr.write(`${task}, ${side}: ${run.epochSeconds.toFixed(1)} s\n`);
  return run;
}

function ours(task: string, dtype: string): Promise<string> {
  const script = fileURLToPath(new URL('epoch.ts', import.meta.url));
  return printedBy(process.execPath, [...process.execArgv, script, ...given, '--task', task, '--dtype', dtype]);
}

function theirs(task: string): Promise<string> {
  const script = fileURLToPath(new URL('epoch.py', import.meta.url));
  return printedBy(flags.python, [script, ...given, '--task', task]);
}
