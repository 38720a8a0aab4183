/*
 * npx tsx --conditions @peftjs/source tools/perf-peer/compare.ts --python venv/bin/python [--group decoders] [--rounds 3]
 *     [--threads 2] [--only minilm] [--without torch-bf16] [--steps 5] [--results docs/benchmarks/results/speed]
 *
 * Compares the LoRA step of peftjs with that of PyTorch + Hugging Face PEFT. Sides run one after the other, round after
 * round, and only numbers of the same round are compared. Each run is a separate process. `--without` leaves sides
 * out, e.g. torch-bf16, which takes minutes a step on processors that lack it. Writes speed.json, or decoders.json for
 * the decoders, from which report.ts makes the page.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { availableParallelism, loadavg } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { compiledCase, sizes, type SettingName, type SizesName } from '../perf/cases.js';
import { models } from '../perf/models.js';
import { measured, printedBy, processorName, withModels, type ModelFolder } from '../perf/own-process.js';
import { measurePeak } from '../perf/peak.js';
import { compared, torchSettings, type Group, type Round, type Run, type Side, type SpeedResults } from './results.js';

const FILES: Readonly<Record<Group, string>> = { encoders: 'speed.json', decoders: 'decoders.json' };

const { values: flags } = parseArgs({
  options: {
    python: { type: 'string', default: 'python3' },
    group: { type: 'string', default: 'encoders' },
    rounds: { type: 'string', default: '3' },
    threads: { type: 'string', default: String(availableParallelism()) },
    only: { type: 'string', default: '' },
    without: { type: 'string', default: '' },
    steps: { type: 'string' },
    results: { type: 'string', default: 'docs/benchmarks/results/speed' },
  },
});
const threads = Number(flags.threads);
const without = flags.without.split(',');
const group = flags.group as Group;
const wanted = (Object.entries(compared[group]) as [SizesName, readonly Side[]][]).filter(([name]) =>
  name.includes(flags.only),
);
const peak = await measurePeak(threads);
const rounds: Round[] = [];
await withModels(async (folder) => {
  for (let round = 0; round < Number(flags.rounds); round++) {
    for (const [name, sides] of wanted) rounds.push(await oneRound(name, sides, folder));
  }
});
const results: SpeedResults = { cpu: processorName(), threads, node: process.versions.node, peak, rounds };
await mkdir(flags.results, { recursive: true });
await writeFile(join(flags.results, FILES[group]), `${JSON.stringify(results, null, 2)}\n`);

/** Runs every side of a size in turn. */
async function oneRound(shape: SizesName, sides: readonly Side[], folder: ModelFolder): Promise<Round> {
  const load = loadavg()[0] ?? NaN;
  const runs: Partial<Record<Side, Run>> = {};
  for (const side of sides.filter((each) => !without.includes(each))) {
    const run = await runOf(shape, side, folder);
    process.stderr.write(`${shape}, ${side}: ${run.stepMedianMs.toFixed(1)} ms\n`);
    runs[side] = run;
  }
  return { shape, load, runs };
}

async function runOf(name: SizesName, side: Side, folder: ModelFolder): Promise<Run> {
  const [library, setting] = [side.split('-', 1)[0], side.slice(side.indexOf('-') + 1)];
  const steps = Number(flags.steps ?? sizes[name].steps);
  if (library === 'peftjs') {
    return measured({ ...compiledCase(name, setting as SettingName, { threads }), steps }, folder);
  }
  const { model, batch } = sizes[name];
  if (model === 'use-lite') throw new RangeError('PyTorch has no use-lite');
  const line = [
    ...[fileURLToPath(new URL('step.py', import.meta.url)), await folder.sourceOf(model)],
    ...['--task', models[model].task, '--batch', batch.join('x'), '--threads', `${threads}`, '--steps', `${steps}`],
    ...torchSettings[setting as keyof typeof torchSettings],
  ];
  return JSON.parse(await printedBy(flags.python, line)) as Run;
}
