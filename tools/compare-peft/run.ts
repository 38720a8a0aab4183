/*
 * npx tsx --conditions @peftjs/source tools/compare-peft/run.ts --model DIR --work DIR --task rte --seed 1 --out FILE
 *
 * Trains with peftjs on the files of prepare.ts, once; peer.py does the same with Hugging Face PEFT.
 */
import { writeFile } from 'node:fs/promises';
import { cpus, loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { adamW, evaluate, loadPretrained, train } from '@peftjs/core';
import type { StepEvent } from '@peftjs/core/runtime';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import * as tf from '@tensorflow/tfjs-core';
import { dataOf, planOf, readPrepared, runFolder, taskFile, type PreparedRun, type PreparedTask } from './prepared.js';
import { settings, taskSettings, type RunResult } from './settings.js';

const option = { type: 'string' } as const;
const { values: flags } = parseArgs({
  options: { model: option, work: option, task: option, seed: option, out: option },
});
const { model, work, task, seed, out } = flags;
if (!model || !work || !task || !seed || !out) throw new RangeError('expected --model --work --task --seed --out');
const load = loadavg()[0] ?? 0;
const result = await run(task, Number(seed), { model, work });
await writeFile(out, `${JSON.stringify(result, null, 2)}\n`);

async function run(name: string, number: number, at: { model: string; work: string }): Promise<RunResult> {
  const prepared = await readPrepared<PreparedTask>(taskFile(at.work, name));
  const folder = runFolder(at.work, name, number);
  const data = dataOf(name, prepared, number);
  await assertSameBatches(name, data, `${folder}/batches.json`);
  const base = await fromPretrained(at.model, { numLabels: prepared.classes.length || 1 });
  const peft = await loadPretrained(base, `${folder}/adapter`, { methods: [lora] });
  const executor = compiled({ threads: settings.threads });
  const { learningRate, warmupRatio, clipNorm, ...ofAdamW } = settings.optimizer;
  const steps: StepEvent[] = [];
  const started = performance.now();
  const { compileMs } = await train(peft, data.train, {
    executor,
    learningRate,
    warmupRatio,
    clipNorm,
    optimizer: adamW(ofAdamW),
    epochs: taskSettings(name).epochs,
    onStep: (step) => void steps.push(step),
  });
  const trained = performance.now();
  const metrics = await evaluate(peft, data.dev, { executor });
  const evaluated = performance.now();
  return {
    side: 'peftjs',
    task: name,
    seed: number,
    metrics,
    primaryMetric: data.dev.primaryMetric,
    losses: steps.slice(0, settings.recordedLosses).map(({ loss }) => loss),
    steps: steps.length,
    seconds: {
      total: process.uptime(),
      train: (trained - started) / 1000,
      compile: compileMs / 1000,
      evaluate: (evaluated - trained) / 1000,
      stepMedian: median(steps.map(({ milliseconds }) => milliseconds)) / 1000,
    },
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
    threads: settings.threads,
    load: { before: load, after: loadavg()[0] ?? 0 },
    cpu: cpus()[0]?.model ?? 'unknown',
    versions: { node: process.versions.node, tfjs: tf.version_core },
  };
}

/** Checks that the batches here are those that peer.py reads from the file. */
async function assertSameBatches(name: string, data: ReturnType<typeof dataOf>, file: string): Promise<void> {
  const written = await readPrepared<PreparedRun>(file);
  if (JSON.stringify(written) === JSON.stringify(planOf(name, data))) return;
  throw new RangeError(`${file} does not match the batches that peftjs makes now; run prepare.ts again`);
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const [below = NaN, above = NaN] = [sorted[middle - 1], sorted[middle]];
  return sorted.length % 2 === 1 ? above : (below + above) / 2;
}
