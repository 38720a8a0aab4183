import { hostTensor } from '@peftjs/core';
import { createRng, tensorAt, tensorsAt, type HostTensor } from '@peftjs/core/method';
import { linearSite } from '@peftjs/core/model';
import { loraDelta, normalValues, scaled } from '@peftjs/core/linalg';
import { forwardOf, layersOf, referenceBackend } from '@peftjs/conformance';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { gora } from './index.js';
import { alongGradient, initialTensors } from './start.js';

beforeAll(referenceBackend);

const norm = (values: ArrayLike<number>): number => Math.sqrt(Array.from(values).reduce((sum, x) => sum + x * x, 0));

it("adds alpha / sqrt(r) (x A) B to the module's output, and trains B at its own rate", () => {
  const options = { r: 2, loraAlpha: 6, loraplusLrRatio: 16, initLoraWeights: 'stored' } as const;
  const layer = tensorAt(layersOf(gora, [linearSite('m', 2, 3)], options), 'm');
  const p = { loraA: tf.tensor2d([1, 2, 3, 4], [2, 2]), loraB: tf.tensor2d([1, 0, 2, 0, 1, 4], [2, 3]) };
  const y = forwardOf(layer, p, tf.tensor2d([1, 1], [1, 2]), tf.tensor2d([10, 20, 30], [1, 3]));
  // x A = (4, 6), times B = (4, 6, 32), times 6 / sqrt(2)
  [4, 6, 32].forEach((value, index) =>
    expect(y.dataSync()[index]).toBeCloseTo(10 * (index + 1) + (value * 6) / Math.SQRT2, 4),
  );
  expect([layer.params.loraA?.rateFactor, layer.params.loraB?.rateFactor]).toEqual([undefined, 16]);
});

describe('B', () => {
  /** Returns the initial dW of a module. */
  const start = (gradient: HostTensor, r: number): Float32Array => {
    const site = linearSite('m', ...(gradient.shape as [number, number]));
    const initial = initialTensors(site, r, gora.parseConfig({}), createRng(1), gradient);
    return loraDelta({ ...tensorsAt(initial, 'loraA', 'loraB'), scaling: 16 / Math.sqrt(r) });
  };

  it('starts against the gradient', () => {
    const loraA = hostTensor(Float32Array.of(1, 0), [2, 1]);
    const gradient = hostTensor(Float32Array.of(3, 4, 5, 6), [2, 2]);
    const loraB = alongGradient(loraA, gradient, -(0.05 * Math.SQRT2) / 16);
    const delta = loraDelta({ loraA, loraB, scaling: 16 });
    [-0.212132, -0.282843, 0, 0].forEach((value, index) => expect(delta[index]).toBeCloseTo(value, 6));
  });

  it('has the least-squares coordinates of the gradient in the columns of A', () => {
    const rng = createRng(2);
    const [loraA, gradient] = [normalValues(rng, [9, 3], 1), normalValues(rng, [9, 5], 1)];
    const fitted = loraDelta({ loraA, loraB: alongGradient(loraA, gradient, 1), scaling: 1 });
    const rest = hostTensor(
      Float32Array.from(fitted, (value, index) => (gradient.data[index] ?? 0) - value),
      [9, 5],
    );
    const alongA = loraDelta({ loraA: transposedOf(loraA), loraB: rest, scaling: 1 });
    expect(norm(alongA) / norm(gradient.data)).toBeLessThan(1e-5);
  });

  it.each([1, 8, 16])('makes a step of about gamma times the gradient at rank %i', (r) => {
    const gradient = normalValues(createRng(3), [256, 64], 1);
    expect(norm(start(gradient, r)) / (0.05 * norm(gradient.data))).toBeCloseTo(1, 0);
    expect(norm(start(scaled(gradient, 10), r)) / norm(start(gradient, r))).toBeCloseTo(10, 3);
  });

  it('is zero without a gradient', () => {
    const { loraA, loraB } = tensorsAt(
      initialTensors(linearSite('m', 4, 3), 2, gora.parseConfig({}), createRng(1)),
      'loraA',
      'loraB',
    );
    expect([norm(loraA.data) > 0, norm(loraB.data)]).toEqual([true, 0]);
  });
});

function transposedOf({ data, shape: [rows = 0, columns = 0] }: HostTensor): HostTensor {
  const entries = Float32Array.from(
    { length: rows * columns },
    (_, index) => data[(index % rows) * columns + Math.floor(index / rows)] as number,
  );
  return hostTensor(entries, [columns, rows]);
}
