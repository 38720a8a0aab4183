/*
 * npx tsx --conditions @peftjs/source tools/perf-peer/compare.ts --python venv/bin/python [--rounds 3] [--threads 2]
 *     [--only minilm] [--without torch-bf16] [--results docs/benchmarks/results/speed]
 *
 * Compares the LoRA step of peftjs with that of PyTorch + Hugging Face PEFT. Sides run one after the other, round after
 * round, and only numbers of the same round are compared. Each run is a separate process. `--without` leaves a side
 * out: bfloat16 takes minutes a step on processors that lack it. Writes speed.json, from which report.ts makes the
 * page.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { CaseResult } from '../perf/measure.js';
import { measurePeak } from '../perf/peak.js';
import { printedBy } from '../perf/perf.js';
import { compared, type ComparedShape, type Round, type Run, type Side, type SpeedResults } from './results.js';

const { values: flags } = parseArgs({
  options: {
    python: { type: 'string', default: 'python3' },
    rounds: { type: 'string', default: '3' },
    threads: { type: 'string', default: String(availableParallelism()) },
    only: { type: 'string', default: '' },
    without: { type: 'string', default: '' },
    results: { type: 'string', default: 'docs/benchmarks/results/speed' },
  },
});
const PERF = fileURLToPath(new URL('../perf/perf.ts', import.meta.url));
const threads = Number(flags.threads);
const shapes = Object.keys(compared).filter((shape) => shape.includes(flags.only)) as ComparedShape[];
const folder = await mkdtemp(join(tmpdir(), 'peftjs-speed-'));
try {
  for (const shape of shapes) perf(['--write', shape, '--model', join(folder, shape)]);
  const peak = await measurePeak(threads);
  const rounds: Round[] = [];
  for (let round = 0; round < Number(flags.rounds); round++) {
    for (const shape of shapes) rounds.push(oneRound(shape));
  }
  const [cpu] = cpus();
  const results: SpeedResults = { cpu: cpu?.model ?? 'unknown', threads, node: process.versions.node, peak, rounds };
  await mkdir(flags.results, { recursive: true });
  await writeFile(join(flags.results, 'speed.json'), `${JSON.stringify(results, null, 2)}\n`);
} finally {
  await rm(folder, { recursive: true });
}

/** Runs every side of a shape in turn. */
function oneRound(shape: ComparedShape): Round {
  const load = loadavg()[0] ?? NaN;
  const runs = Object.fromEntries(
    sidesOf(shape).map((side) => {
      const run = side.startsWith('peftjs') ? ours(shape, side) : theirs(shape, side);
      process.stderr.write(`${shape}, ${side}: ${run.stepMedianMs.toFixed(1)} ms\n`);
      return [side, run];
    }),
  );
  return { shape, load, runs };
}

function sidesOf(shape: ComparedShape): Side[] {
  return compared[shape].filter((side) => side !== flags.without);
}

function ours(shape: ComparedShape, side: Side): Run {
  const name = `${shape}-lora-${side === 'peftjs-q8' ? 'q8' : 'fp32'}`;
  const printed = perf(['--case', name, '--model', join(folder, shape), '--threads', String(threads)]);
  const { stepMedianMs, peakRssBytes, firstStepSeconds } = JSON.parse(printed) as CaseResult;
  return { stepMedianMs, peakRssBytes, startSeconds: firstStepSeconds };
}

/** Runs the script of `npm run perf` and returns its output. */
function perf(args: readonly string[]): string {
  return printedBy(process.execPath, [...process.execArgv, PERF, ...args]);
}

interface PeerResult {
  readonly stepMedianMs: number;
  readonly peakRssBytes: number;
  readonly firstStepSeconds: number;
  readonly versions: Readonly<Record<string, string>>;
}

function theirs(shape: ComparedShape, side: Side): Run {
  const script = fileURLToPath(new URL('step.py', import.meta.url));
  const precision = side.replace('torch-', '');
  const args = [script, '--shape', shape, '--precision', precision, '--threads', String(threads)];
  const { firstStepSeconds: startSeconds, ...run } = JSON.parse(printedBy(flags.python, args)) as PeerResult;
  return { ...run, startSeconds };
}
