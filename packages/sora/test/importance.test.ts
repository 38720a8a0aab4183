import { hostTensor, savePretrained, loadPretrained, memoryStorage, activeAdapter, type PeftModel } from '@peftjs/core';
import { linearSite, tensorAt, type HostTensor, type HostTensors } from '@peftjs/core/method';
import { contextOf, layerOf, layersOf, tensorsOf } from '@peftjs/core/testing';
import { sora, type SoraConfig } from '@peftjs/sora';
import * as tf from '@tensorflow/tfjs';
import { beforeAll, describe, expect, it } from 'vitest';
import { attached, trainToy, valuesNamed } from './harness.js';

beforeAll(async () => {
  tf.env().set('PROD', true);
  await tf.setBackend('cpu');
});

const r = 3;
const ofRanks = (values: readonly number[]): HostTensor => hostTensor(Float32Array.from(values), [values.length]);
const [before, slope] = [
  [0.5, -2, 0],
  [-3, 0.25, 7],
] as const;

/** The importance after a step from gates of `gate` with the gradient `gradient`; before it, 0.5, 1 and 2. */
function importanceAfter({
  gate = before as readonly number[],
  gradient = slope as readonly number[],
  measuring = 1,
}): number[] {
  return tf.tidy(() => {
    const state = tensorsOf({ mask: ofRanks([1, 1, 1]), importance: ofRanks([0.5, 1, 2]) });
    const proposed = { ...state, ...tensorsOf({ gate: ofRanks([9, 9, 9]) }) };
    const changed = layerOf(sora, { r, importance: 'sensitivity' }).update?.(proposed, {
      previous: { ...state, ...tensorsOf({ gate: ofRanks(gate) }) },
      gradient: tensorsOf({ gate: ofRanks(gradient) }),
      ctx: contextOf({ threshold: 0, measuring }),
    });
    return [...tensorAt(changed ?? {}, 'importance').dataSync()];
  });
}
const numbers = (values: HostTensors, name: string): number[] => [...tensorAt(values, name).data];

describe('the sensitivity of the loss to a gate', () => {
  it('is 0.85 of what it was and 0.15 of the size of g dL/dg before the step', () => {
    const expected = [0.85 * 0.5 + 0.15 * 1.5, 0.85 + 0.15 * 0.5, 0.85 * 2];
    importanceAfter({}).forEach((found, rank) => expect(found).toBeCloseTo(expected[rank] as number, 6));
  });

  it('stands still in the warm-up and after the choice', () => {
    expect(importanceAfter({ measuring: 0 })).toEqual([0.5, 1, 2]);
    const config = sora.parseConfig({ r, importance: 'sensitivity', budget: 16 });
    const layers = layersOf(sora, [linearSite('m', 4, 4)], config);
    const controller = sora.controller?.(layers, config, { totalSteps: 9, warmupSteps: 2, finalSteps: 3 });
    const measuring = [1, 2, 3, 6].map((step) => controller?.scalars(step, { gate: 1 }).measuring);
    expect(measuring).toEqual([0, 0, 1, 1]);
  });

  it('is the same when A gives its size to the gate', () => {
    const [gate, gradient] = [before.map((x) => 8 * x), slope.map((x) => x / 8)]; // with A / 8
    expect(importanceAfter({ gate, gradient })).toEqual(importanceAfter({}));
  });
});

describe('the choice of a budget', () => {
  const layers = (options: Partial<SoraConfig>) =>
    layersOf(sora, [linearSite('a', 4, 4), linearSite('b', 4, 4)], { r: 2, ...options });
  const values = (
    importance: readonly number[][],
    gates: readonly number[][] = [
      [9, 9],
      [1, 1],
    ],
  ): HostTensors =>
    Object.fromEntries(
      ['a', 'b'].flatMap((path, at) => [
        [`${path}.gate`, hostTensor(Float32Array.from(gates[at] as number[]), [2])] as const,
        [`${path}.importance`, hostTensor(Float32Array.from(importance[at] as number[]), [2])] as const,
      ]),
    );
  const masksOf = (options: Partial<SoraConfig>, importance: readonly number[][]): number[] => {
    const plan = { totalSteps: 2, warmupSteps: 0, finalSteps: 1 };
    const config = sora.parseConfig({ r: 2, importance: 'sensitivity', ...options });
    const controller = sora.controller?.(layers(options), config, plan) ?? expect.fail('SoRA has no controller');
    expect([...controller.reads(1)].sort((a, b) => a.localeCompare(b))).toEqual([
      'a.gate',
      'a.importance',
      'b.gate',
      'b.importance',
    ]);
    const changes = controller.afterStep(1, values(importance))?.values ?? {};
    return ['a', 'b'].flatMap((path) => numbers(changes, `${path}.mask`));
  };

  it('goes by what was measured, not by the size of gates', () => {
    expect(
      masksOf({ budget: 16 }, [
        [1, 2],
        [3, 4],
      ]),
    ).toEqual([0, 0, 1, 1]);
    expect(
      masksOf({ budget: 16 }, [
        [4, 1],
        [2, 3],
      ]),
    ).toEqual([1, 0, 0, 1]);
  });
});

describe('weighted thresholds', () => {
  it('leave of a gate that wants to be at a what the adaptive lasso does', () => {
    const layer = layerOf(sora, { r, weightedThreshold: true });
    const [wanted, weights, lambda, rate] = [tf.tensor1d([1, 1, -1]), [0.5, 4, 2], 0.3, 0.1];
    const own = { mask: tf.ones([r]), thresholdWeight: tf.tensor1d(weights) };
    let gate: tf.Tensor = tf.tensor1d([2, 2, 2]);
    for (let step = 0; step < 300; step++) {
      const proposed = { ...own, gate: tf.sub(gate, tf.mul(rate, tf.sub(gate, wanted))) };
      const at = { previous: { ...own, gate }, gradient: {}, ctx: contextOf({ threshold: rate * lambda }) };
      gate = tensorAt(layer.update?.(proposed, at) ?? {}, 'gate');
    }
    const ended = [...gate.dataSync()];
    expect(ended[0]).toBeCloseTo(1 - 0.5 * lambda, 5);
    expect(ended[1]).toBe(0);
    expect(ended[2]).toBeCloseTo(-(1 - 2 * lambda), 5);
  });

  const layers = layersOf(sora, [linearSite('m', 4, 4)], { r: 4, importance: 'sensitivity', weightedThreshold: true });
  const plan = { totalSteps: 30, warmupSteps: 2, finalSteps: 10 };
  const seen = (importance: readonly number[], gate: readonly number[]): HostTensors => ({
    'm.gate': hostTensor(Float32Array.from(gate), [4]),
    'm.importance': hostTensor(Float32Array.from(importance), [4]),
  });

  it.each([{}, { budget: 16 }])(
    'are the mean importance of living ranks over that of each, within ten times (%o)',
    (options) => {
      const config = sora.parseConfig({ r: 4, importance: 'sensitivity', weightedThreshold: true, ...options });
      const controller = sora.controller?.(layers, config, plan) ?? expect.fail('SoRA has no controller');
      const step =
        [3, 4, 5].find((each) => controller.reads(each).includes('m.importance')) ?? expect.fail('reads none');
      const weights = (importance: number[], gate: number[]) =>
        numbers(controller.afterStep(step, seen(importance, gate))?.values ?? {}, 'm.thresholdWeight');
      expect(weights([1, 2, 3, 90], [1, 1, 1, 0])).toEqual([2, 1, Math.fround(2 / 3), Math.fround(0.1)]);
      expect(weights([1e-9, 1, 1, 1], [1, 1, 1, 1])[0]).toBe(10);
      expect(weights([0, 0, 0, 0], [1, 1, 1, 1])).toEqual([1, 1, 1, 1]);
    },
  );

  it('are counted when a budget is steered: the gates die that have the least of gate over weight', () => {
    // All four store 32, and half of it has to go: the thresholds of one reading must reach 0.5 / 5 and 0.4 / 1, not 0.2 / 0.4.
    const config = sora.parseConfig({ r: 4, importance: 'sensitivity', weightedThreshold: true, budget: 16 });
    const controller =
      sora.controller?.(layers, config, { ...plan, totalSteps: 13 }) ?? expect.fail('SoRA has no controller');
    controller.scalars(1, { gate: 1e-6 });
    controller.afterStep(2, seen([0.4, 2, 5, 0.6], [0.5, 0.4, 0.2, 0.4])); // mean 2: weights 5, 1, 0.4, 10 / 3
    const { threshold = NaN } = controller.scalars(3, { gate: 1e-6 });
    expect(threshold).toBeCloseTo(0.4 / (10 / 3), 4); // reached by 0.5 / 5 and 0.4 / (10 / 3), but not by 0.4 / 1
  });
});

describe('an adapter that measures', () => {
  it('is saved for further training and read with all its options and tensors', async () => {
    const options: Partial<SoraConfig> = { variant: 'choosing', gateRateFactor: 3 };
    const peft = attached(options);
    await trainToy(peft, { epochs: 2 });
    const storage = memoryStorage();
    await savePretrained(peft, 'adapter', { storage, pruned: false });
    const again = (await loadPretrained(peft.model, 'adapter', { methods: [sora], storage })) as PeftModel<SoraConfig>;
    const { targetModules, ...read } = activeAdapter(again).config;
    const { targetModules: _, ...written } = activeAdapter(peft).config;
    expect(targetModules).not.toBeNull();
    expect(read).toEqual(written);
    expect(valuesNamed(activeAdapter(again).values, 'gate')).toEqual(valuesNamed(activeAdapter(peft).values, 'gate'));
    await trainToy(again, { epochs: 1 });
    expect(Math.max(...Object.values(valuesNamed(activeAdapter(again).values, 'importance')).flat())).toBeGreaterThan(
      0,
    );
  });
});
