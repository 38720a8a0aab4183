import { attach, train, type Executor } from '@peftjs/core';
import { releaseRuntimes } from '@peftjs/core/runtime';
import { toyEvaluationData, toyModel } from '@peftjs/conformance';
import { compiled, eager } from '@peftjs/engine';
import { sora } from '@peftjs/sora';
import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { counted, variedData } from './varied.js';

const executors: Record<string, Executor> = {
  compiled: compiled({ threads: 1 }),
  'eager on wasm': await eager({ backend: 'wasm' }),
};

describe.each(Object.entries(executors))('the resources of %s', (_, real) => {
  it.each([
    [100, 1],
    [20, 2],
  ])('do not grow over %i steps of %i batches with changing lengths and ranks', async (steps, parts) => {
    const { executor, held } = counted(real);
    const peft = attach(toyModel(), sora({ r: 4, sparseLambda: 1, compactEvery: 5 }), { seed: 1 });
    const seen: { values: number; tensors: number; stored: number }[] = [];
    const before = tf.memory().numTensors;
    await train(peft, variedData(steps * parts, 12), {
      executor,
      epochs: 1,
      learningRate: 0.02,
      schedule: 'constant',
      gradientAccumulationSteps: parts,
      selection: { data: toyEvaluationData() },
      onStep: ({ storedParameters: stored }) =>
        void seen.push({ values: held.values, tensors: tf.memory().numTensors - before, stored }),
    });
    await releaseRuntimes(executor);
    expect(held).toMatchObject({ values: 0, functions: 0 });
    expect(tf.memory().numTensors).toBe(before);
    // Only frozen weights, the adapter and its optimizer state; nothing of earlier steps.
    const [first] = seen;
    expect(Math.max(...seen.map(({ values }) => values))).toBe(first?.values);
    expect(Math.max(...seen.map(({ tensors }) => tensors))).toBe(first?.tensors);
    expect(seen.at(-1)?.stored).toBeLessThan(first?.stored ?? 0);
    expect(held.compiled).toBeLessThan(12); // recompiled when ranks change, not when lengths do
  });
});
