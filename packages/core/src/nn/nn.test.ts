import * as tf from '@tensorflow/tfjs-core';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { ConfigError, ShapeError } from '../errors.js';
import { createRng } from '../rng.js';
import {
  attention,
  causalBias,
  dropout,
  embedding,
  fromRows,
  gelu,
  geluTanh,
  layerNorm,
  linear,
  maskBias,
  mergeHeads,
  rmsNorm,
  rotary,
  silu,
  softCapped,
  softmaxCrossEntropy,
  splitHeads,
  toRows,
} from './index.js';
import { blockedCrossEntropy } from './cross-entropy.js';

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

/** Weighted, so that no symmetry hides a mistake. */
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

  it('rejects features that do not fit', () => {
    expect(() => linear(random([2, 5], 1), random([4, 3], 1))).toThrow(ShapeError);
    expect(() => linear(random([2, 4], 1), random([4], 1))).toThrow(ShapeError);
  });

  it('converts to rows and back', () => {
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

describe('geluTanh', () => {
  it('is x (1 + tanh u) / 2', () => {
    // Python: x * 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    const expected = [-0.0036373920817729943, -0.15880800939172324, 0, 0.34571401, 2.99636261];
    expectClose(geluTanh(tf.tensor([-3, -1, 0, 0.5, 3])), tf.tensor(expected), 1e-6);
  });

  it('has the gradients of central differences', () => {
    expect(gradientError((x) => geluTanh(x), [random([3, 4], 5)])).toBeLessThan(1e-3);
  });
});

describe('silu', () => {
  it('is x sigma(x)', () => {
    // Python: x / (1 + math.exp(-x))
    const expected = [-0.14227762, -0.26894142, 0, 0.31122967, 2.85772238];
    expectClose(silu(tf.tensor([-3, -1, 0, 0.5, 3])), tf.tensor(expected), 1e-6);
  });

  it('has the gradients of central differences', () => {
    expect(gradientError((x) => silu(x), [random([3, 4], 5)])).toBeLessThan(1e-3);
  });
});

describe('rmsNorm', () => {
  it('has a mean square of 1 along the last axis before the gain, and keeps the mean', () => {
    const x = tf.add(random([3, 64], 1), 2);
    const y = rmsNorm(x, tf.ones([64]), 1e-6);
    expectClose(tf.mean(tf.square(y), -1), tf.ones([3]), 1e-4);
    expectClose(rmsNorm(x, random([64], 2), 1e-6), tf.mul(y, random([64], 2)));
    expectClose(tf.div(y, x), tf.mul(tf.onesLike(x), tf.slice(tf.div(y, x), [0, 0], [3, 1])), 1e-4);
  });

  it('has the gradients of central differences', () => {
    const xs = [random([2, 2, 5], 1), random([5], 2)];
    expect(gradientError((...[x, gain]) => rmsNorm(x as Tensor, gain as Tensor, 1e-3), xs)).toBeLessThan(5e-3);
  });
});

describe('rotary', () => {
  const angles = (): Tensor => random([6, 2], 9);
  const table = () => ({ cos: tf.cos(angles()), sin: tf.sin(angles()) });

  it('rotates each pair of a head by the angle of its position', () => {
    const [x, turn] = [random([1, 3, 8], 1).dataSync(), angles().dataSync()]; // two heads of two pairs
    const y = rotary(tf.tensor(x, [1, 3, 8]), table()).dataSync();
    for (const [token, head, pair] of [
      [0, 0, 1],
      [2, 1, 0],
    ] as const) {
      const place = 8 * token + 4 * head + pair;
      const [a, b, angle] = [x[place] as number, x[place + 2] as number, turn[2 * token + pair] as number];
      expect(y[place]).toBeCloseTo(a * Math.cos(angle) - b * Math.sin(angle), 5);
      expect(y[place + 2]).toBeCloseTo(b * Math.cos(angle) + a * Math.sin(angle), 5);
    }
  });

  it('uses the given positions', () => {
    const x = random([2, 3, 8], 1);
    const shifted = rotary(tf.concat([tf.zeros([2, 2, 8]), x], 1), table());
    const positions = tf.tensor([2, 3, 4, 2, 3, 4], [2, 3], 'int32');
    expectClose(rotary(x, { ...table(), positions }), tf.slice(shifted, [0, 2, 0], [2, 3, 8]));
  });

  it('has the gradients of central differences, also where the positions are computed inside', () => {
    const ones = tf.ones([2, 3], 'int32');
    const turn = (x: Tensor): Tensor => rotary(x, { ...table(), positions: tf.add(ones, tf.scalar(2, 'int32')) });
    expect(gradientError(turn, [random([2, 3, 4], 1)])).toBeLessThan(1e-3);
  });

  it('rejects features that do not divide into heads of that size', () => {
    expect(() => rotary(random([1, 3, 6], 1), table())).toThrow(ShapeError);
    expect(() => rotary(random([3, 8], 1), table())).toThrow(ShapeError);
  });
});

describe('softmaxCrossEntropy', () => {
  const labels = (): Tensor => tf.tensor([2, 0, 1], [3], 'int32');

  it('is the negative logarithm of the chosen probability', () => {
    const logits = random([3, 4], 1);
    const chosen = tf.sum(tf.mul(tf.logSoftmax(logits), tf.oneHot(labels(), 4)), 1);
    expectClose(softmaxCrossEntropy(logits, labels()), tf.neg(chosen));
  });

  it('stays finite for logits far apart', () => {
    const loss = softmaxCrossEntropy(tf.tensor([[-1e4, 1e4]]), tf.tensor([0], [1], 'int32'));
    expect(loss.dataSync()[0]).toBeCloseTo(2e4);
  });

  it('has the gradients of central differences', () => {
    expect(gradientError((x) => softmaxCrossEntropy(x, labels()), [random([3, 4], 1)])).toBeLessThan(1e-3);
  });
});

describe('blockedCrossEntropy', () => {
  const labels = (): Tensor => tf.tensor([2, 6, 0, 4], [4], 'int32');
  const table = (): Tensor => random([7, 3], 2);
  // Logits with a soft cap, in blocks of 3, 3 and 1 words.
  const blocked = (states: Tensor): Tensor =>
    blockedCrossEntropy(states, labels(), {
      words: 7,
      size: 3,
      logits: (x, from, to) => softCapped(tf.matMul(x, tf.slice(table(), [from, 0], [to - from, 3]), false, true), 2),
      logit: (x, words) => softCapped(tf.sum(tf.mul(x, tf.gather(table(), words)), 1, true), 2),
    });
  const whole = (states: Tensor): Tensor =>
    softmaxCrossEntropy(softCapped(tf.matMul(states, table(), false, true), 2), labels());

  it('is the cross-entropy of the whole logits, with its gradient', () => {
    const states = random([4, 3], 1);
    expectClose(blocked(states), whole(states));
    const gradient = (f: (x: Tensor) => Tensor): Tensor => tf.grad((x: Tensor) => weighted(f(x)))(states);
    expectClose(gradient(blocked), gradient(whole));
    expect(gradientError(blocked, [states])).toBeLessThan(1e-3);
  });

  it('stays finite for logits far apart, in either order, and leaves no tensor behind', () => {
    const far = (z: number): Tensor =>
      blockedCrossEntropy(tf.tensor([[z]]), tf.tensor([0], [1], 'int32'), {
        words: 2,
        size: 1,
        logits: (x, from) => (from === 0 ? x : tf.neg(x)),
        logit: (x) => tf.clone(x),
      });
    const before = tf.memory().numTensors;
    tf.tidy(() => {
      expect(far(-1e4).dataSync()[0]).toBeCloseTo(2e4);
      expect(far(1e4).dataSync()[0]).toBe(0);
    });
    expect(tf.memory().numTensors).toBe(before);
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

  it('stays finite for a row of padding only', () => {
    const x = random([1, 3, 4], 1);
    const y = attention(x, x, x, { heads: 2, maskBias: maskBias(tf.zeros([1, 3])) });
    expect(tf.all(tf.isFinite(y)).dataSync()[0]).toBe(1);
  });

  it('has the gradients of central differences', () => {
    const xs = [random([1, 2, 4], 1), random([1, 3, 4], 2), random([1, 3, 4], 3)];
    const f = (...[q, k, v]: Tensor[]): Tensor => attention(q as Tensor, k as Tensor, v as Tensor, { heads: 2 });
    expect(gradientError(f, xs)).toBeLessThan(1e-3);
  });

  it('shares key heads among consecutive query heads', () => {
    const [q, k, v] = [random([2, 3, 8], 1), random([2, 5, 4], 2), random([2, 5, 4], 3)];
    const repeated = (x: Tensor): Tensor => {
      const [a, b] = tf.split(x, 2, 2) as [Tensor, Tensor];
      return tf.concat([a, a, b, b], 2);
    };
    const shared = attention(q, k, v, { heads: 4, keyHeads: 2 });
    expectClose(shared, attention(q, repeated(k), repeated(v), { heads: 4 }));
    expect(() => attention(q, k, v, { heads: 2, keyHeads: 4 })).toThrow(ShapeError);
  });

  it('does not look ahead if it is causal', () => {
    const x = random([1, 4, 4], 1);
    const start = tf.slice(x, [0, 0, 0], [1, 2, 4]);
    const causal = attention(x, x, x, { heads: 2, causal: true });
    const short = attention(start, start, start, { heads: 2, causal: true });
    expectClose(tf.slice(causal, [0, 0, 0], [1, 2, 4]), short);
  });

  it('adds the causal bias to that of a mask', () => {
    const x = random([2, 3, 4], 1);
    const hidden = maskBias(
      tf.tensor2d([
        [1, 1, 0],
        [0, 1, 1],
      ]),
    );
    const causal = attention(x, x, x, { heads: 2, causal: true, window: 2, maskBias: hidden });
    expectClose(causal, attention(x, x, x, { heads: 2, maskBias: tf.add(causalBias(3, 2), hidden) }));
  });

  it('does not look further back than a window', () => {
    const x = random([1, 5, 4], 1);
    const near = attention(x, x, x, { heads: 2, causal: true, window: 2 });
    const pairs = [1, 2, 3, 4].map((last) => {
      const pair = tf.slice(x, [0, last - 1, 0], [1, 2, 4]);
      return attention(tf.slice(pair, [0, 1, 0], [1, 1, 4]), pair, pair, { heads: 2 });
    });
    expectClose(tf.slice(near, [0, 1, 0], [1, 4, 4]), tf.concat(pairs, 1));
  });

  it('caps its scores by c tanh(s / c)', () => {
    const [q, k, v] = [random([1, 2, 2], 1), random([1, 3, 2], 2), random([1, 3, 2], 3)];
    const scores = tf.matMul(q, k, false, true);
    const capped = tf.mul(tf.tanh(tf.div(scores, 0.7)), 0.7);
    const f = (...[q, k, v]: Tensor[]): Tensor =>
      attention(q as Tensor, k as Tensor, v as Tensor, { heads: 1, scale: 1, softcap: 0.7 });
    expectClose(f(q, k, v), tf.matMul(tf.softmax(capped), v));
    expect(gradientError(f, [q, k, v])).toBeLessThan(1e-3);
  });

  it('merges what it split, and rejects heads that do not divide the features', () => {
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
  it('drops elements below the rate and scales the rest', () => {
    const y = dropout(tf.tensor([1, 2, 3, 4]), 0.5, tf.tensor([0.1, 0.5, 0.49, 0.9]));
    expect(Array.from(y.dataSync())).toEqual([0, 4, 0, 8]);
  });

  it('returns x at rate 0, and rejects a rate outside [0, 1)', () => {
    const x = random([3], 1);
    expect(dropout(x, 0, tf.zeros([3]))).toBe(x);
    for (const rate of [1, -0.1, NaN]) expect(() => dropout(x, rate, x)).toThrow(ConfigError);
  });

  it('has the gradients of central differences', () => {
    const uniform = tf.tensor([0.1, 0.8, 0.3, 0.6]);
    expect(gradientError((x) => dropout(x, 0.4, uniform), [random([4], 2)])).toBeLessThan(1e-3);
  });
});
