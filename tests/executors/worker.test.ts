import { describe, expect, it, vi } from 'vitest';
import { attach, predict, train, type Executor, type Model } from '@peftjs/core';
import { quantized } from '@peftjs/core/model';
import { toyEvaluationData, toyModel, toyTrainingData } from '@peftjs/conformance';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';

const inThread = compiled({ threads: 1 });
const executor = compiled({ threads: 1, worker: true });

describe('graphs that run in a separate thread', () => {
  const trained = async (model: Model, where: Executor) => {
    const peft = attach(model, lora({ r: 2, loraDropout: 0.3 }), { seed: 5 });
    const losses: number[] = [];
    const onStep = ({ loss }: { loss: number }): void => void losses.push(loss);
    await train(peft, toyTrainingData(2, 4), { executor: where, epochs: 1, learningRate: 0.02, onStep });
    return { losses, logits: await predict(peft, toyEvaluationData().batches, { executor: where }) };
  };
  const inBytes = (): Model => {
    const model = toyModel();
    const weights = Object.entries(model.weights).map(([name, weight]) => {
      const isMatrix = name.endsWith('.weight') && weight.shape.length === 2 && !name.startsWith('embed');
      return [name, isMatrix ? quantized(weight) : weight] as const;
    });
    return { ...model, weights: Object.fromEntries(weights) };
  };

  it.each([
    ['float32', toyModel, 0],
    ['8 bits', inBytes, 10],
  ])('train and predict with bitwise equal results, in %s', async (_, model, matrices) => {
    const bytes = vi.spyOn(executor as Required<Executor>, 'uploadBytes');
    const there = await trained(model(), executor);
    expect(there).toEqual(await trained(model(), inThread));
    expect(new Set(there.losses).size).toBe(there.losses.length);
    expect(bytes).toHaveBeenCalledTimes(matrices);
    bytes.mockRestore();
  });
});
