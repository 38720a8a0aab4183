import { loraDelta } from '@peftjs/core/linalg';
import { activeAdapter, attach } from '@peftjs/core';
import { floats, tensorAt, type HostTensors } from '@peftjs/core/method';
import {
  contextOf,
  forwardOf,
  gradientsByTape,
  hostMatrix,
  hostVector,
  initialOf,
  layerOf,
  referenceBackend,
  relativeDistance,
  tensorsOf,
  toyModel,
} from '@peftjs/conformance';
import { dynamicDora, type DynamicDoraConfig } from '@peftjs/dynamic-dora';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';

beforeAll(referenceBackend);

const identity = [
  [1, 0],
  [0, 1],
];
/** A module [2, 2] whose second component is twice the first one. */
const twice = [
  [1, 1],
  [0, 0],
];

it("adds s ((x A) * c) B to the module's output", () => {
  const layer = layerOf(dynamicDora, { r: 2, loraAlpha: 6 }, [2, 3]);
  const p = tensorsOf({
    loraA: hostMatrix([
      [1, 2],
      [3, 4],
    ]),
    gate: hostVector([0.5, 0.25]),
    loraB: hostMatrix([
      [1, 0, 2],
      [0, 1, 4],
    ]),
  });
  const y = forwardOf(layer, p, tf.tensor2d([1, 1], [1, 2]), tf.tensor2d([10, 20, 30], [1, 3]));
  // x A = (4, 6), times c = (2, 1.5), times B = (2, 1.5, 10), times 6 / 2
  expect([...y.dataSync()]).toEqual([16, 24.5, 60]);
});

it('starts with uniform A and B, within sqrt(6 / in) and sqrt(6 / r), and with c = 0', () => {
  const { loraA, loraB, gate } = initialOf(layerOf(dynamicDora, { r: 12 }, [24, 50]));
  for (const [tensor, bound] of [
    [loraA, 0.5],
    [loraB, Math.SQRT1_2],
  ] as const) {
    const largest = Math.max(...[...(tensor?.data ?? [])].map(Math.abs));
    expect(largest).toBeLessThanOrEqual(Math.fround(bound));
    expect(largest).toBeGreaterThan(0.95 * bound);
  }
  expect([...(gate?.data ?? [])]).toEqual(Array<number>(12).fill(0));
});

describe('the term of the loss', () => {
  it('is half the average over all ranks of the unbiased variances within a component', () => {
    const options = { r: 1, demWeight: 0.1 };
    const p = tensorsOf({ loraA: hostMatrix([[1], [3]]), loraB: hostMatrix([[5, 5, 5]]) });
    const loss = (dem: number) => layerOf(dynamicDora, options, [2, 3]).loss?.(p, contextOf({ dem })).dataSync()[0];
    expect(loss(1)).toBeCloseTo((0.1 * 2) / (2 * 1), 7); // Var(1, 3) = 2, the biased variance is 1
    expect(loss(0)).toBe(0);
    const single = tensorsOf({ loraA: hostMatrix([[7]]), loraB: hostMatrix([[5, 5, 5]]) });
    expect(
      layerOf(dynamicDora, options, [1, 3])
        .loss?.(single, contextOf({ dem: 1 }))
        .dataSync()[0],
    ).toBe(0);
    expect(layerOf(dynamicDora, { ...options, demWeight: 0 }, [2, 3]).loss).toBeUndefined();
  });

  it('is all that changes A and B at first, each entry towards the mean of its component', () => {
    const peft = attach(toyModel(), dynamicDora({ r: 2, demWeight: 0.3 }), { seed: 1 });
    const { layers, values } = activeAdapter(peft);
    const gradients = gradientsByTape(peft);
    const allRanks = 2 * Object.keys(layers).length;
    for (const [path, { site }] of Object.entries(layers)) {
      const a = floats(tensorAt(values, `${path}.loraA`));
      const means = [0, 1].map(
        (rank) => a.filter((_, index) => index % 2 === rank).reduce((sum, value) => sum + value, 0) / site.inFeatures,
      );
      const expected = a.map(
        (value, index) => ((0.3 / (2 * allRanks)) * 2 * (value - (means[index % 2] ?? 0))) / (site.inFeatures - 1),
      );
      expect(relativeDistance(tensorAt(gradients, `${path}.loraA`), expected), path).toBeLessThan(1e-5);
      const b = floats(tensorAt(values, `${path}.loraB`)); // [2, out]
      const meansOfB = [0, 1]
        .map((rank) => b.slice(rank * site.outFeatures, (rank + 1) * site.outFeatures))
        .map((row) => row.reduce((sum, value) => sum + value, 0) / site.outFeatures);
      const ofB = b.map(
        (value, index) =>
          ((0.3 / (2 * allRanks)) * 2 * (value - (meansOfB[Math.floor(index / site.outFeatures)] ?? 0))) /
          (site.outFeatures - 1),
      );
      expect(relativeDistance(tensorAt(gradients, `${path}.loraB`), ofB), path).toBeLessThan(1e-5);
    }
  });
});

describe('the scores', () => {
  const scored = (values: HostTensors, options: Partial<DynamicDoraConfig> = {}, before?: number[]): number[] => {
    const gate = tensorAt(values, 'gate');
    const layer = layerOf(dynamicDora, { r: gate.data.length, ...options }, [2, 2]);
    const previous = tensorsOf({ importance: hostVector(before ?? Array<number>(gate.data.length).fill(0)) });
    const { importance } =
      layer.update?.(tensorsOf(values), { previous, gradient: {}, ctx: contextOf({ dem: 1 }) }) ?? {};
    return [...(importance?.dataSync() ?? [])];
  };
  const close = (actual: readonly number[], expected: readonly number[]): void =>
    expect(relativeDistance(actual, expected)).toBeLessThan(1e-6);

  it("are a component's share of its module's change, smoothed from zero", () => {
    const values = { loraA: hostMatrix(identity), loraB: hostMatrix(identity), gate: hostVector([3, -4]) };
    close(scored(values, { beta: 0 }), [0.6, 0.8]);
    close(scored(values), [0.06, 0.08]);
    close(scored(values, {}, [0.1, 1]), [0.15, 0.98]);
  });

  it('explode if components cancel', () => {
    const values = {
      loraA: hostMatrix(twice),
      loraB: hostMatrix(identity.map(() => [0, 1])),
      gate: hostVector([1, -1]),
    };
    close(scored(values, { beta: 0 }), [1e8, 1e8]);
  });

  it('equal those of the dense matrices, and do not change if the change is a thousand times smaller', () => {
    const [a, b, c] = [
      [
        [0.3, -0.7, 1.1],
        [0.5, 0.2, -0.4],
      ],
      [
        [1.2, -0.3],
        [0.4, 0.9],
        [-0.6, 0.1],
      ],
      [0.5, -0.8, 1.3],
    ] as const;
    const norm = (gates: readonly number[]): number => {
      const scaledB = b.map((row, rank) => row.map((value) => value * (gates[rank] ?? 0)));
      return Math.hypot(...loraDelta({ loraA: hostMatrix(a), loraB: hostMatrix(scaledB), scaling: 1 }));
    };
    const expected = c.map((gate, rank) => norm(c.map((_, each) => (each === rank ? gate : 0))) / norm(c));
    const values = { loraA: hostMatrix(a), loraB: hostMatrix(b), gate: hostVector(c) };
    close(scored(values, { beta: 0 }), expected);
    const small = { ...values, gate: hostVector(c.map((gate) => gate / 1000)) };
    expect(relativeDistance(scored(small, { beta: 0 }), expected)).toBeLessThan(2e-5);
  });

  it('are zero if nothing has changed yet', () => {
    expect(scored({ loraA: hostMatrix(identity), loraB: hostMatrix(identity), gate: hostVector([0, 0]) })).toEqual([
      0, 0,
    ]);
  });
});
