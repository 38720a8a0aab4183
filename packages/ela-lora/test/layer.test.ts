import { hostTensor } from '@peftjs/core';
import { mapValues, type HostTensors } from '@peftjs/core/method';
import {
  contextOf,
  forwardOf,
  hostMatrix,
  hostVector,
  initialOf,
  layerOf,
  referenceBackend,
  relativeDistance,
  tensorsOf,
} from '@peftjs/conformance';
import { elaLora } from '@peftjs/ela-lora';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';

beforeAll(referenceBackend);

const factors: HostTensors = {
  loraA: hostMatrix([
    [1, 2],
    [3, 4],
  ]),
  gate: hostVector([0.5, 0.25]),
  loraB: hostMatrix([
    [1, 0, 2],
    [0, 1, 4],
  ]),
};

it("adds s ((x A) * E) B to the module's output", () => {
  const layer = layerOf(elaLora, { r: 2, loraAlpha: 6 }, [2, 3]);
  const y = forwardOf(layer, tensorsOf(factors), tf.tensor2d([1, 1], [1, 2]), tf.tensor2d([10, 20, 30], [1, 3]));
  // x A = (4, 6), times E = (2, 1.5), times B = (2, 1.5, 10), times 6 / 2
  expect([...y.dataSync()]).toEqual([16, 24.5, 60]);
});

describe('the term of the loss', () => {
  it('is the mean norm, not squared, by which A and B differ from orthonormal', () => {
    const layer = layerOf(elaLora, { r: 2, orthRegWeight: 0.1 }, [2, 3]);
    // A^T A = [[10, 14], [14, 20]], B B^T = [[5, 8], [8, 17]]
    const norms = Math.hypot(9, 14, 14, 19) + Math.hypot(4, 8, 8, 16);
    const loss = layer.loss?.(tensorsOf(factors), contextOf({}, 3)).dataSync()[0] ?? NaN;
    expect(loss).toBeCloseTo((0.1 * norms) / (2 * 3), 5);
    expect(layerOf(elaLora, { orthRegWeight: 0 }).loss).toBeUndefined();
  });

  it('has a finite gradient at orthonormal factors', () => {
    const layer = layerOf(elaLora, { r: 1 }, [1, 1]);
    const slope = tf.grad((a: tf.Tensor) => layer.loss?.({ loraA: a, loraB: tf.ones([1, 1]) }, contextOf()) ?? a);
    expect(slope(tf.ones([1, 1])).dataSync()[0]).toBe(0);
  });
});

describe('the scores', () => {
  const gradient: HostTensors = {
    loraA: hostMatrix([
      [0.1, -0.2],
      [0.3, 0.1],
    ]),
    gate: hostVector([2, -4]),
    loraB: hostMatrix([
      [1, 1, -1],
      [0.5, 2, 1],
    ]),
  };
  const layer = layerOf(elaLora, { r: 2, beta1: 0.8, beta2: 0.6 }, [2, 3]);

  it('are products of smoothed sensitivities and uncertainties, averaged over each rank of A and B', () => {
    let state: HostTensors = mapValues(layer.state ?? {}, ({ initial }) => initial);
    const seen: number[][] = [];
    for (let step = 0; step < 2; step++) {
      const at = { previous: tensorsOf({ ...factors, ...state }), gradient: tensorsOf(gradient), ctx: contextOf() };
      const after = layer.update?.(tensorsOf(factors), at) ?? {};
      state = mapValues(after, (value) => hostTensor(Float32Array.from(value.dataSync()), value.shape));
      seen.push([...(after.importance?.dataSync() ?? [])]);
    }
    // For equal sensitivities I: Ibar = .2 I, Ubar = .4 (I - .2 I) = .32 I; then Ibar = .36 I, Ubar = .6 .32 I + .4 .64
    // I = .448 I
    const squares = [1 + (0.01 + 0.81) / 2 + (1 + 0 + 4) / 3, 1 + (0.16 + 0.16) / 2 + (0 + 4 + 16) / 3];
    [0.2 * 0.32, 0.36 * 0.448].forEach((factor, step) => {
      const expected = squares.map((each) => factor * each);
      expect(relativeDistance(seen[step] ?? [], expected), `step ${step}`).toBeLessThan(1e-6);
    });
  });

  it('use weights after the step with gradients from before it, as in the released code', () => {
    const previous = tensorsOf({ ...initialOf(layer), gate: hostVector([9, 9]) });
    const after = layer.update?.(tensorsOf(factors), { previous, gradient: tensorsOf(gradient), ctx: contextOf() });
    const smoothed = [...(after?.['smoothedSensitivity.gate']?.dataSync() ?? [])];
    expect(relativeDistance(smoothed, [0.2 * 0.5 * 2, 0.2 * 0.25 * 4])).toBeLessThan(1e-6);
  });
});
