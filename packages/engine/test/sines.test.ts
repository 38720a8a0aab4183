import { hostTensor } from '@peftjs/core';
import { tensorAt } from '@peftjs/core/method';
import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { ownSines } from '../src/compiled/kernels/elementwise.js';
import { compiled } from '../src/index.js';

describe('sines and cosines by arithmetic alone', () => {
  it.each([
    ['small angles', Array.from({ length: 400 }, (_, index) => (index - 200) / 20), 2e-7],
    ['positions of long texts', Array.from({ length: 400 }, (_, index) => index * 217), 1e-6],
    [
      'multiples of a quarter of pi',
      Array.from({ length: 40 }, (_, index) => Math.fround(((index - 20) * Math.PI) / 4)),
      2e-7,
    ],
  ])("match JavaScript's: %s", async (_, angles, tolerance) => {
    const executor = compiled({ threads: 1, kernels: ownSines });
    const of = await executor.compile((t) => ({ sin: tf.sin(tensorAt(t, 'x')), cos: tf.cos(tensorAt(t, 'x')) }), {
      x: { dtype: 'float32', shape: ['n'] },
    });
    const x = Float32Array.from(angles);
    const { sin, cos } = await of.run({ x: executor.upload(hostTensor(x, [x.length])) });
    const largest = async (value: typeof sin, exact: (angle: number) => number): Promise<number> => {
      const { data } = await executor.download(value as NonNullable<typeof value>);
      return Math.max(...Array.from(x, (angle, index) => Math.abs(exact(angle) - (data[index] as number))));
    };
    expect(await largest(sin, Math.sin)).toBeLessThan(tolerance);
    expect(await largest(cos, Math.cos)).toBeLessThan(tolerance);
    await of.dispose();
  });
});
