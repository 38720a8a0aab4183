import * as tf from '@tensorflow/tfjs-core';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { ShapeError } from '../errors.js';
import { createRng } from '../rng.js';
import { frozenLayerNorm, frozenLinear, frozenRmsNorm, gelu, layerNorm, linear, rmsNorm } from './index.js';

// Keeps the banner of the cpu backend out of the test's output.
tf.env().set('PROD', true);
await tf.setBackend('cpu');

function random(shape: number[], seed: number): Tensor {
  const rng = createRng(seed);
  return tf.tensor(
    Float32Array.from({ length: tf.util.sizeFromShape(shape) }, () => rng.normal()),
    shape,
  );
}

/** Weighted, so that no symmetry hides a mistake. */
function weighted(y: Tensor): Scalar {
  const weights = Float32Array.from({ length: y.size }, (_, index) => Math.sin(index + 1));
  return tf.sum(tf.mul(y, tf.tensor(weights, y.shape)));
}

function expectClose(got: Tensor, expected: Tensor): void {
  expect(got.shape).toEqual(expected.shape);
  const distance = tf.div(tf.norm(tf.sub(got, expected)), tf.norm(expected));
  expect(distance.dataSync()[0]).toBeLessThan(1e-5);
}

type Op = (x: Tensor) => Tensor;

/** The results of TensorFlow.js's own rules for the same numbers. */
function expectSameGradient(op: Op, composed: Op, x: Tensor): void {
  expectClose(op(x), composed(x));
  expectClose(tf.grad((at) => weighted(op(at)))(x), tf.grad((at) => weighted(composed(at)))(x));
}

const [gain, shift] = [random([6], 2), random([6], 3)];
const [weight, bias] = [random([6, 4], 4), random([4], 5)];

const composedNorm = (x: Tensor, gain: Tensor, shift: Tensor): Tensor => {
  const centred = tf.sub(x, tf.mean(x, -1, true));
  const variance = tf.mean(tf.square(centred), -1, true);
  return tf.add(tf.mul(tf.div(centred, tf.sqrt(tf.add(variance, 1e-3))), gain), shift);
};

const cases: Record<string, { frozen: Op; trained: Op; composed: Op }> = {
  linear: {
    frozen: (x) => frozenLinear(x, weight, bias),
    trained: (x) => linear(x, weight, bias),
    composed: (x) => tf.add(tf.reshape(tf.matMul(tf.reshape(x, [-1, 6]), weight), [...x.shape.slice(0, -1), 4]), bias),
  },
  layerNorm: {
    frozen: (x) => frozenLayerNorm(x, gain, shift, 1e-3),
    trained: (x) => layerNorm(x, gain, shift, 1e-3),
    composed: (x) => composedNorm(x, gain, shift),
  },
  rmsNorm: {
    frozen: (x) => frozenRmsNorm(x, gain, 1e-3),
    trained: (x) => rmsNorm(x, gain, 1e-3),
    composed: (x) => tf.mul(tf.div(x, tf.sqrt(tf.add(tf.mean(tf.square(x), -1, true), 1e-3))), gain),
  },
};

describe.each(Object.entries(cases))('a frozen %s', (_, { frozen, trained, composed }) => {
  it.each([[[5, 6]], [[2, 3, 6]], [[2, 1, 3, 6]]])('has the gradient of the composed one on %j', (shape) => {
    expectSameGradient(frozen, composed, random(shape, 1));
    expectSameGradient(frozen, trained, random(shape, 1));
  });

  it('has the gradients of central differences', () => {
    const x = random([3, 6], 1);
    const gradient = tf
      .grad((at) => weighted(frozen(at)))(x)
      .dataSync();
    const at = (element: number, by: number): number => {
      const moved = Float32Array.from(x.dataSync(), (value, index) => (index === element ? value + by : value));
      return weighted(frozen(tf.tensor(moved, x.shape))).dataSync()[0] as number;
    };
    for (const [element, slope] of gradient.entries()) {
      expect(slope).toBeCloseTo((at(element, 1e-2) - at(element, -1e-2)) / 2e-2, 2);
    }
  });

  it('keeps less for the backward pass', () => {
    const keptBy = (op: Op): number => {
      let kept = NaN;
      tf.grad((at) => {
        const before = tf.memory().numBytes;
        const y = op(at);
        kept = tf.memory().numBytes - before;
        return weighted(y);
      })(random([50, 6], 1));
      return kept;
    };
    expect(keptBy(frozen)).toBeLessThanOrEqual(keptBy(trained));
    expect(keptBy(frozen)).toBeLessThan(keptBy(composed));
  });

  it('has no gradient of frozen tensors', () => {
    const y = (): Scalar => weighted(frozen(random([3, 6], 1)));
    const { grads } = tf.engine().gradients(y, [weight, bias, gain, shift], undefined, true);
    expect(grads).toEqual([undefined, undefined, undefined, undefined]);
  });
});

it('frozenLinear rejects features that do not fit', () => {
  expect(() => frozenLinear(random([2, 5], 1), weight)).toThrow(ShapeError);
});

describe('trained layers', () => {
  it('layerNorm has the gradients of the composed one, including gain and shift', () => {
    const xs = [random([2, 3, 6], 1), gain, shift];
    const gradients = (op: typeof composedNorm): Tensor[] =>
      tf.grads((...[x, g, s]: Tensor[]) => weighted(op(x as Tensor, g as Tensor, s as Tensor)))(xs);
    const expected = gradients(composedNorm);
    const got = gradients((x, g, s) => layerNorm(x, g, s, 1e-3));
    got.forEach((gradient, index) => expectClose(gradient, expected[index] as Tensor));
  });

  it('gelu has the gradient of the composed one', () => {
    const composed: Op = (x) => tf.mul(x, tf.mul(tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1), 0.5));
    expectSameGradient(gelu, composed, random([3, 40], 6));
  });
});
