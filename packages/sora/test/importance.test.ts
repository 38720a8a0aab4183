import { hostTensor, savePretrained, loadPretrained, memoryStorage, activeAdapter, type PeftModel } from '@peftjs/core';
import { createRng, linearSite, normalValues, tensorAt, type HostTensors } from '@peftjs/core/method';
import { contextOf, forwardOf, initialOf, layerOf, layersOf, relativeDistance, tensorsOf } from '@peftjs/core/testing';
import { sora, type SoraConfig } from '@peftjs/sora';
import * as tf from '@tensorflow/tfjs';
import { beforeAll, describe, expect, it } from 'vitest';
import { attached, trainToy, valuesNamed } from './harness.js';

beforeAll(async () => {
  tf.env().set('PROD', true);
  await tf.setBackend('cpu');
});

const r = 3;
const [before, after, gradient] = [1, 2, 3].map((seed) => {
  const draw = (name: string, shape: number[]) => normalValues(createRng(seed).fork(name), shape, 1);
  return { loraA: draw('A', [6, r]), loraB: draw('B', [r, 10]), gate: draw('g', [r]) };
}) as [HostTensors, HostTensors, HostTensors];
const state = (importance: readonly number[]) => ({
  mask: hostTensor(new Float32Array(r).fill(1), [r]),
  importance: hostTensor(Float32Array.from(importance), [r]),
});

/** The importance after a step from `from` to `to`, from 0.5, 1 and 2. */
function importanceAfter(options: Partial<SoraConfig>, { from = before, to = after, slope = gradient, measuring = 1 }) {
  return tf.tidy(() => {
    const changed = layerOf(sora, { r, ...options }).update?.(tensorsOf({ ...to, ...state([0.5, 1, 2]) }), {
      previous: tensorsOf({ ...from, ...state([0.5, 1, 2]) }),
      gradient: tensorsOf(slope),
      ctx: contextOf({ threshold: 0, measuring }),
    });
    return [...tensorAt(changed ?? {}, 'importance').dataSync()];
  });
}
const numbers = (values: HostTensors, name: string): number[] => [...tensorAt(values, name).data];
const column = (matrix: readonly number[], rank: number): number[] => matrix.filter((_, at) => at % r === rank);
const row = (matrix: readonly number[], rank: number): number[] => matrix.slice(rank * 10, (rank + 1) * 10);
const dot = (a: readonly number[], b: readonly number[]): number =>
  a.reduce((sum, x, at) => sum + x * (b[at] as number), 0);

describe('the importance of a rank', () => {
  const effects = numbers(before, 'gate').map((g, rank) => g * (numbers(gradient, 'gate')[rank] as number));

  it.each([
    ['sensitivity', 0.85, (effect: number) => Math.abs(effect)],
    ['fisher', 0.5, (effect: number) => 0.5 * effect ** 2],
    ['fisher', 1, (effect: number) => 0.5 * effect ** 2],
  ] as const)("is beta times what it was and the step's own: '%s', beta %f", (importance, importanceBeta, own) => {
    const expected = [0.5, 1, 2].map((was, rank) => importanceBeta * was + own(effects[rank] as number));
    expect(relativeDistance(importanceAfter({ importance, importanceBeta }, {}), expected)).toBeLessThan(1e-6);
  });

  it("adds up each rank's share in the fall of the loss along the step, as 'contribution'", () => {
    const moved = (name: string) => numbers(before, name).map((x, at) => x - (numbers(after, name)[at] as number));
    const expected = [0.5, 1, 2].map(
      (was, rank) =>
        was +
        dot(column(numbers(gradient, 'loraA'), rank), column(moved('loraA'), rank)) +
        dot(row(numbers(gradient, 'loraB'), rank), row(moved('loraB'), rank)) +
        (numbers(gradient, 'gate')[rank] as number) * (moved('gate')[rank] as number),
    );
    expect(relativeDistance(importanceAfter({ importance: 'contribution' }, {}), expected)).toBeLessThan(1e-6);
  });

  it.each(['sensitivity', 'fisher', 'contribution'] as const)(
    "stands still in the warm-up and after the choice: '%s'",
    (importance) => {
      expect(importanceAfter({ importance }, { measuring: 0 })).toEqual([0.5, 1, 2]);
    },
  );

  it.each(['sensitivity', 'fisher'] as const)("is the same when A gives its size to the gate: '%s'", (importance) => {
    const scaled = { ...before, gate: timesEight(before, 'gate') }; // A / 8, and so dL/dg / 8
    const slope = {
      ...gradient,
      gate: hostTensor(tensorAt(gradient, 'gate').data.map((x) => x / 8) as Float32Array, [r]),
    };
    expect(importanceAfter({ importance }, { from: scaled, slope })).toEqual(importanceAfter({ importance }, {}));
  });

  it('sums up to the fall of the loss over a path of small steps', () => {
    const layer = layerOf(sora, { r, importance: 'contribution' });
    const names = ['loraA', 'loraB', 'gate'];
    const [x, base] = [tf.randomNormal([8, 6], 0, 1, 'float32', 1), tf.zeros([8, 10])];
    let p = tensorsOf({ ...initialOf(layer), loraB: normalValues(createRng(4), [r, 10], 0.3) });
    const lossOf = (): tf.Scalar => tf.mean(tf.square(tf.sub(forwardOf(layer, p, x, base), 1)));
    const start = lossOf().dataSync()[0] as number;
    for (let step = 0; step < 100; step++) {
      const { grads } = tf.engine().gradients(
        lossOf,
        names.map((name) => tensorAt(p, name)),
      );
      const slope = Object.fromEntries(names.map((name, at) => [name, grads[at] as tf.Tensor]));
      const proposed = {
        ...p,
        ...Object.fromEntries(
          names.map((name) => [name, tf.sub(tensorAt(p, name), tf.mul(1e-3, tensorAt(slope, name)))]),
        ),
      };
      const changed = layer.update?.(proposed, {
        previous: p,
        gradient: slope,
        ctx: contextOf({ threshold: 0, measuring: 1 }),
      });
      p = { ...proposed, ...changed };
    }
    const fall = start - (lossOf().dataSync()[0] as number);
    const contributions = [...tensorAt(p, 'importance').dataSync()];
    expect(fall).toBeGreaterThan(0.1);
    expect(Math.abs(contributions.reduce((sum, each) => sum + each, 0) - fall)).toBeLessThan(0.02 * fall);
  });
});

function timesEight(values: HostTensors, name: string) {
  return hostTensor(tensorAt(values, name).data.map((x) => 8 * x) as Float32Array, [r]);
}

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
    const config = sora.parseConfig({ r: 2, importance: 'fisher', ...options });
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

  it('goes by what was measured, not by the size of gates, and takes less than nothing for nothing', () => {
    expect(
      masksOf({ budget: 16 }, [
        [1, 2],
        [3, 4],
      ]),
    ).toEqual([0, 0, 1, 1]);
    expect(
      masksOf({ budget: 16 }, [
        [1, -2],
        [-3, 4],
      ]),
    ).toEqual([1, 0, 0, 1]);
  });

  it('leaves every module its best ranks with minRank, and refuses more than the budget pays for', () => {
    expect(
      masksOf({ budget: 16, minRank: 1 }, [
        [1, 2],
        [3, 4],
      ]),
    ).toEqual([0, 1, 0, 1]);
    expect(
      masksOf({ budget: 24, minRank: 1 }, [
        [1, 2],
        [3, 4],
      ]),
    ).toEqual([0, 1, 1, 1]);
    expect(() =>
      masksOf({ budget: 24, minRank: 2 }, [
        [1, 2],
        [3, 4],
      ]),
    ).toThrow(expect.objectContaining({ code: 'PEFT_CONFIG', path: 'minRank' }));
  });
});

describe('weighted thresholds', () => {
  it('leave of a gate that wants to be at a what the adaptive lasso does, sign(a) max(|a| - lambda w, 0)', () => {
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

  const layers = layersOf(sora, [linearSite('m', 4, 4)], { r: 4, importance: 'fisher', weightedThreshold: true });
  const plan = { totalSteps: 30, warmupSteps: 2, finalSteps: 10 };
  const seen = (importance: readonly number[], gate: readonly number[]): HostTensors => ({
    'm.gate': hostTensor(Float32Array.from(gate), [4]),
    'm.importance': hostTensor(Float32Array.from(importance), [4]),
  });

  it.each([{}, { budget: 16 }])(
    'are the mean importance of living ranks over that of each, within ten times (%o)',
    (options) => {
      const config = sora.parseConfig({ r: 4, importance: 'fisher', weightedThreshold: true, ...options });
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
    const config = sora.parseConfig({ r: 4, importance: 'fisher', weightedThreshold: true, budget: 16 });
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
    const options: Partial<SoraConfig> = {
      variant: 'choosing',
      importance: 'sensitivity',
      minRank: 1,
      gateInitStd: 0.1,
    };
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
