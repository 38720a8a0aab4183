import { attach, mergeAndUnload, predict, storedParameters, train, type Model, type PeftModel } from '@peftjs/core';
import {
  referenceExecutor,
  relativeDistance,
  toyEvaluationData,
  toyModel,
  toyTrainingData,
} from '@peftjs/core/testing';
import { sora } from '@peftjs/sora';
import { describe, expect, it } from 'vitest';

const outputsOf = async (peft: PeftModel | Model): Promise<number[]> =>
  (await predict(peft, toyEvaluationData().batches, await referenceExecutor())).flatMap((row) => [...row]);

describe('training', () => {
  it('ends within 1 % of the budget, with exact zeros, and as the same network when merged', async () => {
    const budget = 600;
    const peft = attach(toyModel(), sora({ r: 6, budget }), { seed: 1 });
    const scalars: number[] = [];
    await train(peft, toyTrainingData(), {
      executor: await referenceExecutor(),
      epochs: 20,
      learningRate: 0.02,
      onStep: (event) => scalars.push(event.scalars.threshold ?? NaN),
    });
    const { layers, values } = peft.adapter;
    const stored = storedParameters(layers, values);
    expect(stored).toBeLessThanOrEqual(budget);
    expect(stored).toBeGreaterThanOrEqual(0.99 * budget);
    const gates = Object.keys(layers).flatMap((path) => [...(values[`${path}.gate`]?.data ?? [])]);
    expect(gates.some((gate) => gate === 0)).toBe(true);
    expect(gates.some((gate) => Object.is(gate, -0))).toBe(false);
    expect(Math.max(...scalars)).toBeGreaterThan(0);
    const merged = mergeAndUnload(peft);
    expect(relativeDistance(await outputsOf(merged), await outputsOf(peft))).toBeLessThan(1e-5);
  });

  it('prunes by itself without a budget, the more the greater lambda is', async () => {
    const liveAfter = async (sparseLambda: number): Promise<number> => {
      const peft = attach(toyModel(), sora({ r: 6, sparseLambda }), { seed: 1 });
      await train(peft, toyTrainingData(), { executor: await referenceExecutor(), epochs: 20, learningRate: 0.02 });
      return storedParameters(peft.adapter.layers, peft.adapter.values);
    };
    const [none, some, most] = [await liveAfter(0), await liveAfter(0.5), await liveAfter(4)];
    expect(some).toBeLessThan(none);
    expect(most).toBeLessThan(some);
  });
});
