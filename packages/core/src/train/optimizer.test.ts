import * as tf from '@tensorflow/tfjs';
import { beforeAll, describe, expect, it } from 'vitest';
import { createRng } from '../rng.js';
import { referenceExecutor } from '../testing/reference-executor.js';
import { adamW, biasCorrections, clipFactor, defaultAdamW, type AdamWConfig, type Moments } from './optimizer.js';

beforeAll(async () => {
  await referenceExecutor();
});

/** AdamW of Loshchilov and Hutter in double precision, one scalar, written from the paper's algorithm 2. */
function scalarAdamW(start: number, gradients: readonly number[], learningRate: number, config: AdamWConfig): number {
  const { epsilon, epsilonOn, weightDecay } = config;
  let [p, m, v] = [start, 0, 0];
  gradients.forEach((g, index) => {
    const t = index + 1;
    m = 0.9 * m + 0.1 * g;
    v = 0.999 * v + 0.001 * g * g;
    const correction = Math.sqrt(1 - 0.999 ** t);
    const root =
      epsilonOn === 'corrected' ? Math.sqrt(v) / correction + epsilon : (Math.sqrt(v) + epsilon) / correction;
    p = p - learningRate * weightDecay * p - (learningRate * m) / (1 - 0.9 ** t) / root;
  });
  return p;
}

/** The same steps by `adamW`, of tensors at rest. */
function steps(start: number, gradients: readonly number[], learningRate: number, config: AdamWConfig): number {
  let at: Moments = { value: tf.tensor1d([start]), moment1: tf.tensor1d([0]), moment2: tf.tensor1d([0]) };
  gradients.forEach((gradient, index) => {
    const { correction1, correction2 } = biasCorrections(index + 1, config);
    const rates = { correction1: tf.scalar(correction1), correction2: tf.scalar(correction2) };
    at = adamW(at, tf.tensor1d([gradient]), { ...rates, learningRate: tf.scalar(learningRate) }, config);
  });
  return at.value.dataSync()[0] as number;
}

describe('adamW', () => {
  it.each([0, 0.1])('follows the algorithm in double precision for 50 steps (decay %f)', (weightDecay) => {
    const rng = createRng(1);
    const gradients = Array.from({ length: 50 }, () => 10 ** (-4 * rng.uniform()) * rng.normal());
    const config = { ...defaultAdamW, weightDecay };
    expect(steps(0.7, gradients, 0.01, config)).toBeCloseTo(scalarAdamW(0.7, gradients, 0.01, config), 5);
  });

  it("trap 27: adds epsilon where torch does, or where transformers' AdamW did, and the two differ", () => {
    const gradients = Array.from({ length: 10 }, (_, index) => 1e-5 * (1 + Math.sin(index)));
    const corrected = { ...defaultAdamW, epsilon: 1e-6 };
    const raw: AdamWConfig = { ...corrected, epsilonOn: 'raw' };
    const ends = [corrected, raw].map((config) => steps(0.7, gradients, 0.01, config));
    const expected = [corrected, raw].map((config) => scalarAdamW(0.7, gradients, 0.01, config));
    ends.forEach((end, index) => expect(Math.abs(end - (expected[index] as number))).toBeLessThan(1e-5));
    expect(Math.abs((ends[0] as number) - (ends[1] as number))).toBeGreaterThan(1e-3);
  });

  it('moves by the learning rate in its first step, whatever the gradient', () => {
    const rates = {
      learningRate: tf.scalar(0.01),
      correction1: tf.scalar(0.1),
      correction2: tf.scalar(Math.sqrt(0.001)),
    };
    const zero = tf.tensor1d([0, 0]);
    const moved = adamW(
      { value: zero, moment1: zero, moment2: zero },
      tf.tensor1d([3, -1e-3]),
      rates,
      defaultAdamW,
    ).value;
    expect([...moved.dataSync()]).toEqual([expect.closeTo(-0.01, 6), expect.closeTo(0.01, 6)]);
  });
});

describe('clipFactor', () => {
  it('scales a norm of 5 to 2, and leaves one of 1 alone', () => {
    expect(clipFactor(tf.tensor1d([3, 4]), 2).dataSync()[0]).toBeCloseTo(0.4, 6);
    expect(clipFactor(tf.tensor1d([0.6, 0.8]), 2).dataSync()[0]).toBe(1);
  });
});
