/* Trains with peftjs, once, from what prepare.ts wrote; peer.py does the same with Hugging Face PEFT. */
import { writeFile } from 'node:fs/promises';
import { cpus, loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { adamW, evaluate, train } from '@peftjs/core';
import type { StepEvent } from '@peftjs/core/runtime';
import { compiled } from '@peftjs/engine';
import * as tf from '@tensorflow/tfjs-core';
import { modelOf, untrained } from './prepare.js';
import { dataOf, planOf, readPrepared, runFolder, taskFile, type PreparedTask, type RunData } from './prepared.js';
import { readSettings, taskSettings, type RunResult } from './settings.js';

const option = { type: 'string', default: '' } as const;
const { values: flags } = parseArgs({
  options: { study: option, model: option, work: option, task: option, seed: option, out: option },
});
const { study, model, work, task, seed, out } = flags;
const settings = readSettings(study);
const load = loadavg()[0] ?? 0;
const result = await run(task, Number(seed), { model, work });
await writeFile(out, `${JSON.stringify(result, null, 2)}\n`);

async function run(name: string, number: number, at: { model: string; work: string }): Promise<RunResult> {
  const prepared = await readPrepared<PreparedTask>(taskFile(at.work, name));
  const data = dataOf(settings, name, prepared, number);
  await assertSameBatches(name, data, `${runFolder(at.work, name, number)}/batches.json`);
  const peft = untrained(settings, await modelOf(at.model, prepared), number);
  const executor = compiled({ threads: settings.threads });
  const { learningRate, warmupRatio, clipNorm, ...ofAdamW } = settings.optimizer;
  const { dropout, earlyStopping } = settings;
  const { epochs } = taskSettings(settings, name);
  // Candidates are the ends of the last nine tenths of the epochs: early stopping leaves no better one before.
  const stopping = earlyStopping && {
    finalRatio: 0.9,
    selection: { data: data.selection, evaluations: Math.floor(0.9 * epochs) },
    earlyStopping: { patience: earlyStopping.patience },
  };
  const steps: StepEvent[] = [];
  const started = performance.now();
  const { compileMs } = await train(peft, data.train, {
    executor,
    learningRate,
    warmupRatio,
    clipNorm,
    dropout,
    optimizer: adamW(ofAdamW),
    epochs,
    ...stopping,
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
async function assertSameBatches(name: string, data: RunData, file: string): Promise<void> {
  const written = await readPrepared<unknown>(file);
  if (JSON.stringify(written) === JSON.stringify(planOf(settings, name, data))) return;
  throw new RangeError(`${file} does not match the batches that peftjs makes now; remove the work folder`);
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const [below = NaN, above = NaN] = [sorted[middle - 1], sorted[middle]];
  return sorted.length % 2 === 1 ? above : (below + above) / 2;
}
