import * as tf from '@tensorflow/tfjs';
import type { Scalar, Tensor } from '@tensorflow/tfjs';
import { beforeAll, describe, expect, it } from 'vitest';
import { ConfigError, ShapeError } from '../errors.js';
import { createRng } from '../rng.js';
import {
  attention,
  dropout,
  embedding,
  fromRows,
  gelu,
  layerNorm,
  linear,
  maskBias,
  mergeHeads,
  splitHeads,
  toRows,
} from './index.js';

beforeAll(async () => {
  // Keeps the banner of the cpu backend out of the test's output.
  tf.env().set('PROD', true);
  await tf.setBackend('cpu');
});

function random(shape: number[], seed: number): Tensor {
  const rng = createRng(seed);
  const values = Float32Array.from({ length: tf.util.sizeFromShape(shape) }, () => rng.normal());
  return tf.tensor(values, shape);
}

/** Weighted so that no symmetry hides a mistake. */
function weighted(y: Tensor): Scalar {
  const weights = Float32Array.from({ length: y.size }, (_, index) => Math.sin(index + 1));
  return tf.sum(tf.mul(y, tf.tensor(weights, y.shape)));
}

/** The largest difference between the gradients of `f` and central differences along each element. */
function gradientError(f: (...xs: Tensor[]) => Tensor, xs: Tensor[]): number {
  const loss = (...at: Tensor[]): Scalar => weighted(f(...at));
  const gradients = tf.grads(loss)(xs);
  const step = 1e-2;
  const errors = xs.flatMap((x, which) => {
    const got = gradients[which]?.dataSync() ?? [];
    return Array.from(got, (gradient, element) => {
      const moved = (by: number): number => {
        const values = Float32Array.from(x.dataSync());
        values[element] = (values[element] ?? 0) + by;
        return (
          loss(...xs.map((other, index) => (index === which ? tf.tensor(values, x.shape) : other))).dataSync()[0] ?? NaN
        );
      };
      return Math.abs(gradient - (moved(step) - moved(-step)) / (2 * step));
    });
  });
  return Math.max(...errors);
}

function expectClose(got: Tensor, expected: Tensor, tolerance = 1e-5): void {
  expect(got.shape).toEqual(expected.shape);
  expect(tf.max(tf.abs(tf.sub(got, expected))).dataSync()[0]).toBeLessThan(tolerance);
}

describe('linear', () => {
  it('multiplies the last axis of a tensor of any rank', () => {
    const [w, b] = [random([4, 3], 1), random([3], 2)];
    for (const shape of [[4], [2, 4], [2, 5, 4], [2, 1, 3, 4]]) {
      const x = random(shape, 3);
      const y = linear(x, w, b);
      expect(y.shape).toEqual([...shape.slice(0, -1), 3]);
      expectClose(toRows(y), tf.add(tf.matMul(tf.reshape(x, [-1, 4]), w), b));
    }
  });

  it('refuses features that do not fit', () => {
    expect(() => linear(random([2, 5], 1), random([4, 3], 1))).toThrow(ShapeError);
    expect(() => linear(random([2, 4], 1), random([4], 1))).toThrow(ShapeError);
  });

  it('turns into rows and back', () => {
    const x = random([2, 3, 4], 1);
    expect(toRows(x).shape).toEqual([6, 4]);
    expectClose(fromRows(toRows(x), x.shape), x);
    expect(fromRows(random([6, 7], 1), x.shape).shape).toEqual([2, 3, 7]);
  });
});

describe('layerNorm', () => {
  it('has mean 0 and variance 1 along the last axis before gain and shift', () => {
    const y = layerNorm(tf.add(tf.mul(random([3, 64], 1), 5), 7), tf.ones([64]), tf.zeros([64]), 1e-6);
    expectClose(tf.mean(y, -1), tf.zeros([3]));
    expectClose(tf.mean(tf.square(y), -1), tf.ones([3]), 1e-4);
  });

  it('scales and shifts each feature', () => {
    const [x, gain, shift] = [random([2, 4], 1), random([4], 2), random([4], 3)];
    const plain = layerNorm(x, tf.ones([4]), tf.zeros([4]), 1e-6);
    expectClose(layerNorm(x, gain, shift, 1e-6), tf.add(tf.mul(plain, gain), shift));
  });

  it('has the gradients of central differences', () => {
    const xs = [random([2, 2, 5], 1), random([5], 2), random([5], 3)];
    expect(gradientError((x, gain, shift) => layerNorm(x, gain, shift, 1e-3), xs)).toBeLessThan(5e-3);
  });
});

describe('gelu', () => {
  it('is x Phi(x)', () => {
    // Python: x * 0.5 * math.erfc(-x / math.sqrt(2))
    const expected = [-0.004049694094890287, -0.15865525393145707, 0, 0.34573123063700656, 2.99595030590511];
    expectClose(gelu(tf.tensor([-3, -1, 0, 0.5, 3])), tf.tensor(expected), 1e-6);
  });

  it('has the gradients of central differences', () => {
    expect(gradientError((x) => gelu(x), [random([3, 4], 5)])).toBeLessThan(1e-3);
  });
});

describe('attention', () => {
  it('with one head is softmax(q k^T / sqrt d) v', () => {
    const [q, k, v] = [random([2, 3, 4], 1), random([2, 5, 4], 2), random([2, 5, 4], 3)];
    const weights = tf.softmax(tf.div(tf.matMul(q, k, false, true), 2));
    expectClose(attention(q, k, v, { heads: 1 }), tf.matMul(weights, v));
  });

  it('gives each head its own features', () => {
    const [q, k, v] = [random([1, 3, 4], 1), random([1, 3, 4], 2), random([1, 3, 4], 3)];
    const part = (x: Tensor, head: number): Tensor => tf.slice(x, [0, 0, 2 * head], [1, 3, 2]);
    const heads = [0, 1].map((head) =>
      attention(part(q, head), part(k, head), part(v, head), { heads: 1, scale: 0.3 }),
    );
    expectClose(attention(q, k, v, { heads: 2, scale: 0.3 }), tf.concat(heads, 2));
  });

  it('does not look at masked keys', () => {
    const [q, k, v] = [random([2, 3, 4], 1), random([2, 5, 4], 2), random([2, 5, 4], 3)];
    const bias = maskBias(
      tf.tensor([
        [1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0],
      ]),
    );
    const short = (x: Tensor): Tensor => tf.slice(x, [0, 0, 0], [2, 3, 4]);
    expectClose(attention(q, k, v, { heads: 2, maskBias: bias }), attention(q, short(k), short(v), { heads: 2 }));
  });

  it('stays finite for a row that is padding throughout', () => {
    const x = random([1, 3, 4], 1);
    const y = attention(x, x, x, { heads: 2, maskBias: maskBias(tf.zeros([1, 3])) });
    expect(tf.all(tf.isFinite(y)).dataSync()[0]).toBe(1);
  });

  it('has the gradients of central differences', () => {
    const xs = [random([1, 2, 4], 1), random([1, 3, 4], 2), random([1, 3, 4], 3)];
    const f = (...[q, k, v]: Tensor[]): Tensor => attention(q as Tensor, k as Tensor, v as Tensor, { heads: 2 });
    expect(gradientError(f, xs)).toBeLessThan(1e-3);
  });

  it('merges what it split, and refuses heads that do not divide the features', () => {
    const x = random([2, 3, 8], 1);
    expect(splitHeads(x, 4).shape).toEqual([2, 4, 3, 2]);
    expectClose(mergeHeads(splitHeads(x, 4)), x);
    expect(() => splitHeads(x, 3)).toThrow(ShapeError);
    expect(() => splitHeads(toRows(x), 4)).toThrow(ShapeError);
  });
});

describe('embedding', () => {
  it('gathers rows, and adds up the gradients of repeated ones', () => {
    const table = random([5, 3], 1);
    const ids = tf.tensor(
      [
        [0, 3],
        [3, 4],
      ],
      [2, 2],
      'int32',
    );
    expectClose(embedding(table, ids), tf.gather(table, ids));
    expect(gradientError((at) => embedding(at, ids), [table])).toBeLessThan(1e-3);
  });

  it('keeps ids alive that are computed inside the differentiated function', () => {
    const ids = tf.tensor([1, 0], [2], 'int32');
    expect(gradientError((at) => embedding(at, tf.add(ids, tf.scalar(1, 'int32'))), [random([3, 2], 1)])).toBeLessThan(
      1e-3,
    );
  });
});

describe('dropout', () => {
  it('drops what lies below the rate and scales the rest', () => {
    const y = dropout(tf.tensor([1, 2, 3, 4]), 0.5, tf.tensor([0.1, 0.5, 0.49, 0.9]));
    expect(Array.from(y.dataSync())).toEqual([0, 4, 0, 8]);
  });

  it('leaves x alone at rate 0, and refuses a rate outside [0, 1)', () => {
    const x = random([3], 1);
    expect(dropout(x, 0, tf.zeros([3]))).toBe(x);
    for (const rate of [1, -0.1, NaN]) expect(() => dropout(x, rate, x)).toThrow(ConfigError);
  });

  it('has the gradients of central differences', () => {
    const uniform = tf.tensor([0.1, 0.8, 0.3, 0.6]);
    expect(gradientError((x) => dropout(x, 0.4, uniform), [random([4], 2)])).toBeLessThan(1e-3);
  });
});
