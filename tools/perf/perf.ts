/*
 * npm run perf [-- --json] [-- --only minilm-lora] [-- --full] [-- --threads 1]
 *
 * Measures the cost of a training step on this machine, each case in a separate process. --full times four times as
 * many steps.
 */
import { listBackends } from '@peftjs/engine';
import { availableParallelism, totalmem } from 'node:os';
import { parseArgs } from 'node:util';
import { perfCases, type PerfCase } from './cases.js';
import type { CaseResult } from './measure.js';
import { measured, processorName, withModels } from './own-process.js';
import { measurePeak, peakText } from './peak.js';

const { values: flags } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    full: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    threads: { type: 'string', default: String(availableParallelism()) },
  },
});
const threads = Number(flags.threads);
const wanted = await possible(perfCases(threads).filter(({ name }) => name.includes(flags.only)));
const peak = await measurePeak(threads);
say(`peak on ${threads} threads: ${peakText(peak)}\n`);
const cases: CaseResult[] = [];
await withModels(async (models) => {
  for (const one of wanted) {
    const steps = one.steps * (flags.full ? 4 : 1);
    const rate = one.dtype === 'fp32' ? peak.fp32Gflops : peak.int8Gops;
    const result = await measured({ ...one, steps }, models, { peak: rate });
    say(line(result));
    cases.push(result);
  }
});
if (flags.json) process.stdout.write(`${JSON.stringify({ machine: machine(), peak, cases })}\n`);

function machine() {
  return {
    cpu: processorName(),
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    node: process.versions.node,
  };
}

/** Returns the cases whose backend is installed, and reports the others. */
async function possible(all: readonly PerfCase[]): Promise<PerfCase[]> {
  const isInstalled = (await listBackends()).find(({ backend }) => backend === 'tensorflow')?.available ?? false;
  const isPossible = ({ executor }: PerfCase): boolean => isInstalled || executor !== 'tensorflow';
  for (const one of all) {
    if (!isPossible(one)) say(`${one.name}: skipped, TensorFlow is not installed (see peft-bench doctor)\n`);
  }
  return all.filter(isPossible);
}

function line(result: CaseResult): string {
  const { name, shape, stepMedianMs, gflops, efficiency, compileSeconds, loadSeconds, graphNodes } = result;
  const share = `${(100 * efficiency).toFixed(0)} % of the peak`;
  const rate = `${stepMedianMs.toFixed(1).padStart(8)} ms  ${gflops.toFixed(0).padStart(4)} GFLOP/s (${share})`;
  const start = `load ${loadSeconds.toFixed(1)} s, compile ${compileSeconds.toFixed(2)} s`;
  const memory = `${mebibytes(result.peakRssBytes)} (steps ${mebibytes(result.stepPeakBytes)}, loading ${mebibytes(result.loadPeakBytes)})`;
  return `${name.padEnd(28)} ${shape.padEnd(6)} ${rate}  ${start}  ${memory}  ${graphNodes ?? 'no'} nodes\n`;
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}

function say(text: string): void {
  process.stderr.write(text);
}
