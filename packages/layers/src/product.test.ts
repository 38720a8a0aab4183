import { relativeDistance } from '@peftjs/conformance';
import * as tf from '@tensorflow/tfjs';
import type { Tensor, Tensor4D } from '@tensorflow/tfjs';
import { beforeAll, describe, expect, it } from 'vitest';
import { patchRows } from './product.js';

beforeAll(async () => {
  tf.env().set('PROD', true); // keeps TensorFlow.js's start-up banner off stderr
  await tf.setBackend('cpu');
});

type Size = [number, number];

interface Case {
  readonly image: Size;
  readonly kernel: Size;
  readonly strides?: Size;
  readonly dilations?: Size;
  readonly padding?: 'same' | 'valid';
}

const cases: Record<string, Case> = {
  'a kernel of one pixel': { image: [5, 4], kernel: [1, 1] },
  'valid padding': { image: [5, 4], kernel: [3, 3] },
  'same padding': { image: [5, 4], kernel: [3, 3], padding: 'same' },
  'an even kernel, padded on one side': { image: [5, 6], kernel: [2, 4], padding: 'same' },
  'strides that leave a remainder': { image: [8, 7], kernel: [3, 2], strides: [2, 3] },
  'strides and same padding': { image: [7, 8], kernel: [3, 3], strides: [2, 2], padding: 'same' },
  'strides wider than the kernel': { image: [9, 9], kernel: [1, 1], strides: [3, 2] },
  'a stride in one direction': { image: [6, 6], kernel: [3, 3], strides: [1, 2], padding: 'same' },
  dilation: { image: [9, 8], kernel: [3, 2], dilations: [2, 3] },
  'dilation and same padding': { image: [6, 6], kernel: [3, 3], dilations: [2, 2], padding: 'same' },
};

const [batch, channels, out] = [2, 3, 4];

function product(
  x: Tensor4D,
  kernel: Tensor4D,
  { strides = [1, 1], dilations = [1, 1], padding = 'valid' }: Case,
): Tensor4D {
  const info = tf.backend_util.computeConv2DInfo(x.shape, kernel.shape, strides, dilations, padding);
  const matrix = tf.reshape(kernel, [-1, out]);
  const rows = patchRows(x, info);
  return tf.reshape(tf.matMul(rows, matrix), [batch, info.outHeight, info.outWidth, out]);
}

function convolution(x: Tensor4D, kernel: Tensor4D, { strides = [1, 1], dilations = [1, 1], padding = 'valid' }: Case) {
  return tf.conv2d(x, kernel, strides, padding, 'NHWC', dilations);
}

describe('rows of patches times the kernel as a matrix', () => {
  it.each(Object.entries(cases))('equals the convolution: %s', (_name, each) => {
    const x = tf.randomNormal<tf.Rank.R4>([batch, ...each.image, channels], 0, 1, 'float32', 1);
    const kernel = tf.randomNormal<tf.Rank.R4>([...each.kernel, channels, out], 0, 1, 'float32', 2);
    const [ours, theirs] = [product(x, kernel, each), convolution(x, kernel, each)];
    expect(ours.shape).toEqual(theirs.shape);
    expect(relativeDistance(ours.dataSync(), theirs.dataSync())).toBeLessThan(1e-6);
  });

  it.each(Object.entries(cases).filter(([, { dilations }]) => !dilations))(
    'has the same gradients: %s',
    (_name, each) => {
      const x = tf.randomNormal<tf.Rank.R4>([batch, ...each.image, channels], 0, 1, 'float32', 3);
      const kernel = tf.randomNormal<tf.Rank.R4>([...each.kernel, channels, out], 0, 1, 'float32', 4);
      const gradients = (of: typeof product) =>
        tf.grads((at: Tensor, weight: Tensor) => tf.sum(tf.square(of(at as Tensor4D, weight as Tensor4D, each))))([
          x,
          kernel,
        ]);
      const theirs = gradients(convolution);
      for (const [index, gradient] of gradients(product).entries()) {
        expect(relativeDistance(gradient.dataSync(), (theirs[index] as Tensor).dataSync())).toBeLessThan(1e-5);
      }
    },
  );
});
