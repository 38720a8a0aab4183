import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { referenceExecutor } from '@peftjs/conformance';
import { clipFactor } from './step.js';

beforeAll(async () => {
  await referenceExecutor();
});

describe('clipFactor', () => {
  it('scales a norm of 5 to 2, and leaves one of 1 alone', () => {
    expect(clipFactor(tf.tensor1d([3, 4]), 2).dataSync()[0]).toBeCloseTo(0.4, 6);
    expect(clipFactor(tf.tensor1d([0.6, 0.8]), 2).dataSync()[0]).toBe(1);
  });
});
