/** Two trainings in one process: every setting of the second must take effect, whatever the first one compiled. */
import { adamW, attach, sgd, train, type Executor, type PeftModel, type TrainOptions } from '@peftjs/core';
import { farthestTensor, referenceExecutor, toyModel, toyTrainingData } from '@peftjs/conformance';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { describe, expect, it } from 'vitest';

const model = toyModel();
const engine = compiled({ threads: 1 });
const data = toyTrainingData(1, 2);

const trained = async (executor: Executor, options: Partial<TrainOptions>) => {
  const peft: PeftModel = attach(model, lora({ r: 2 }), { seed: 1 });
  return (await train(peft, data, { executor, epochs: 1, learningRate: 0.1, clipNorm: null, ...options })).last.values;
};

describe('the second of two trainings on one executor has its own', () => {
  it.each<[string, Partial<TrainOptions>, Partial<TrainOptions>]>([
    ['clipNorm', { clipNorm: 0.1, optimizer: sgd() }, { clipNorm: 0.2, optimizer: sgd() }],
    ['weightDecay', { optimizer: adamW() }, { optimizer: adamW({ weightDecay: 0.5 }) }],
    ['beta2', { optimizer: adamW() }, { optimizer: adamW({ beta2: 0.5 }) }],
    ['momentum', { optimizer: sgd({ momentum: 0.5 }) }, { optimizer: sgd({ momentum: 0.9 }) }],
  ])('%s', async (_, first, second) => {
    const before = await trained(engine, first);
    const after = await trained(engine, second);
    expect(farthestTensor(before, after).distance).toBeGreaterThan(1e-3);
    const alone = await trained(await referenceExecutor(), second);
    expect(farthestTensor(after, alone).distance).toBeLessThan(1e-4);
  });
});
