import { hostTensor } from '@peftjs/core';
import { hostFilled, tensorAt, type HostTensors } from '@peftjs/core/method';
import { linearSite } from '@peftjs/core/model';
import { adapterValues, controllerOf, hostVector, layersOf } from '@peftjs/conformance';
import { rankSizes, sora } from '@peftjs/sora';
import { describe, expect, it } from 'vitest';

const layers = layersOf(sora, [linearSite('m', 2, 3)], { r: 2 });
const values: HostTensors = {
  'm.gate': hostTensor(Float32Array.of(0.5, -0.25), [2]),
  'm.loraA': hostTensor(Float32Array.of(3, 0, 4, 1), [2, 2]), // columns (3, 4) and (0, 1)
  'm.loraB': hostTensor(Float32Array.of(1, 2, 2, 0, 0, 4), [2, 3]), // rows (1, 2, 2) and (0, 0, 4)
};

describe('rankSizes', () => {
  it("returns each rank's gate and the norms of its column of A and its row of B", () => {
    expect(rankSizes({ layers, values })).toEqual({
      m: [
        { gate: 0.5, normA: 5, normB: 3 },
        { gate: -0.25, normA: 1, normB: 4 },
      ],
    });
  });

  it('trap 15: distinguishes a small gate with a large A from a small rank, and so does the selection for a budget', () => {
    // The first gate is the smaller one now, but 64 A with g / 64 is the same change of the weight.
    const scaled = {
      ...values,
      'm.gate': hostTensor(Float32Array.of(0.5 / 64, -0.25), [2]),
      'm.loraA': hostTensor(Float32Array.of(3 * 64, 0, 4 * 64, 1), [2, 2]),
    };
    const changes = (of: HostTensors): number[] =>
      tensorAt(rankSizes({ layers, values: of }), 'm').map(({ gate, normA, normB }) => Math.abs(gate) * normA * normB);
    expect(changes(scaled)).toEqual(changes(values));
    for (const of of [values, scaled]) {
      const plan = { totalSteps: 2, warmupSteps: 0, finalSteps: 1 };
      const controller = sora.controller?.(layers, sora.parseConfig({ r: 2, budget: 5 }), plan);
      const mask = tensorAt(controller?.afterStep(1, of)?.values ?? {}, 'm.mask');
      expect([...mask.data]).toEqual([1, 0]);
      const stored = tensorAt(layers, 'm').storedParameters({ gate: tensorAt(of, 'm.gate') });
      expect(stored).toBe(10); // neither gate is zero, so as many ranks are stored
    }
  });

  it('of modules with different scalings compete by the change of the weight', () => {
    const config = sora.parseConfig({ r: 1, loraAlpha: 1, alphaPattern: { b: 10 }, budget: 5 });
    const two = layersOf(sora, [linearSite('a', 2, 3), linearSite('b', 2, 3)], config);
    const factors = { loraA: hostFilled([2, 1], 1), loraB: hostFilled([1, 3], 1) };
    const of = adapterValues({
      a: { ...factors, gate: hostVector([1]) },
      b: { ...factors, gate: hostVector([0.5]) },
    });
    const controller = controllerOf(sora, two, config, { totalSteps: 2, warmupSteps: 0, finalSteps: 1 });
    const chosen = controller.afterStep(1, of)?.values ?? {};
    expect(['a', 'b'].map((path) => tensorAt(chosen, `${path}.mask`).data[0])).toEqual([0, 1]);
  });
});
