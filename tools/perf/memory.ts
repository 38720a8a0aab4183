import { parseArgs } from 'node:util';
import { attach, train, type Executor } from '@peftjs/core';
import { releaseRuntimes } from '@peftjs/core/runtime';
import { toyModel } from '@peftjs/conformance';
import { compiled, eager } from '@peftjs/engine';
import { sora } from '@peftjs/sora';
import * as tf from '@tensorflow/tfjs-core';
import { linearRegression } from 'simple-statistics';
import { counted, variedData } from './varied.js';

/*
 * node --expose-gc --import tsx --conditions @peftjs/source tools/perf/memory.ts [--executor compiled] [--steps 2000]
 *
 * Shows whether memory grows over many steps with changing batch lengths and ranks: prints the process's memory at
 * intervals, and its growth over the second half.
 */

const executors: Record<string, () => Promise<Executor> | Executor> = {
  compiled: () => compiled({ threads: 1 }),
  webgpu: () => compiled({ threads: 1, executionProviders: ['webgpu'] }),
  wasm: () => eager({ backend: 'wasm' }),
  cpu: () => eager({ backend: 'cpu' }),
  tensorflow: () => eager({ backend: 'tensorflow' }),
};

const { values: flags } = parseArgs({
  options: { executor: { type: 'string', default: 'compiled' }, steps: { type: 'string', default: '2000' } },
});
const steps = Number(flags.steps);
const open = executors[flags.executor];
if (!open) throw new RangeError(`no executor '${flags.executor}'; there are ${Object.keys(executors).join(', ')}`);

interface Reading {
  readonly step: number;
  readonly rss: number;
  readonly tensors: number;
}

const { executor, held } = counted(await open());
const readings: Reading[] = [];
console.log('step   RSS, MB   heap, MB   tensors of TensorFlow.js   values   functions   compiled so far');
const peft = attach(toyModel(), sora({ r: 8, sparseLambda: 0.5, compactEvery: 25 }), { seed: 1 });
await train(peft, variedData(steps, 40), {
  executor,
  epochs: 1,
  learningRate: 0.01,
  schedule: 'constant',
  onStep: ({ step }) => {
    if (step % Math.ceil(steps / 20) === 0) read(step);
  },
});
await releaseRuntimes(executor);
const later = readings.filter(({ step }) => step > steps / 2);
const slope = (of: (reading: Reading) => number): number => linearRegression(later.map((at) => [at.step, of(at)])).m;
console.log(`\nover the second half: RSS ${(slope(({ rss }) => rss) / 1024).toFixed(2)} KB a step`);
console.log(`tensors of TensorFlow.js ${slope(({ tensors }) => tensors).toFixed(4)} a step`);
console.log(`at the end ${held.values} values and ${held.functions} functions are unreleased`);

function read(step: number): void {
  (globalThis as { gc?: () => void }).gc?.();
  const { rss, heapUsed } = process.memoryUsage();
  const { numTensors } = tf.memory();
  readings.push({ step, rss, tensors: numTensors });
  const row = [megabytes(rss), megabytes(heapUsed), numTensors, held.values, held.functions, held.compiled];
  console.log([step, ...row].join('   '));
}

function megabytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(1);
}
