import { attach, train, type ConfiguredMethod, type Executor, type HostTensors, type StepEvent } from '@peftjs/core';
import { farthestTensor, referenceExecutor, toyModel, toyTrainingData } from '@peftjs/core/testing';
import { adalora } from '@peftjs/adalora';
import { bitfit, full, head, houlsby, ia3, pfeiffer } from '@peftjs/baselines';
import { compiled, eager } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { sora } from '@peftjs/sora';
import { describe, expect, it } from 'vitest';

const executors: Record<string, () => Promise<Executor>> = {
  compiled: () => Promise.resolve(compiled({ threads: 1 })),
  'eager on wasm': () => Promise.resolve(eager({ backend: 'wasm' })),
};

const methods: Record<string, ConfiguredMethod> = {
  head: head(),
  full: full(),
  bitfit: bitfit(),
  houlsby: houlsby({ bottleneck: 4 }),
  'houlsby with relu': houlsby({ bottleneck: 4, nonLinearity: 'relu' }),
  pfeiffer: pfeiffer({ bottleneck: 4, nonLinearity: 'gelu' }),
  'pfeiffer with swish': pfeiffer({ bottleneck: 4, nonLinearity: 'swish' }),
  ia3: ia3(),
  lora: lora({ r: 4 }),
  'lora with dropout on embeddings and all biases': lora({
    r: 2,
    targetModules: ['embeddings', 'query'],
    loraDropout: 0.2,
    bias: 'all',
  }),
  'lora+ with biases of its own': lora({ r: 2, loraplusLrRatio: 4, loraBias: true }),
  'lora-fa': lora({ r: 2, loraFa: true }),
  dora: lora({ r: 2, useDora: true, loraDropout: 0.2 }),
  'dora from a part of the weight': lora({ r: 2, useDora: true, initLoraWeights: 'pissa' }),
  adalora: adalora({ initR: 4, targetR: 2, tinit: 1, tfinal: 1 }),
  'adalora of doublets, as released': adalora({
    parametrization: 'lora',
    initR: 4,
    targetR: 2,
    allocator: 'released',
    loraDropout: 0.2,
  }),
  sora: sora({ r: 4, sparseLambda: 2 }),
  'sora with a budget': sora({ r: 4, budget: 400 }),
  'sora without its dead ranks': sora({ r: 4, sparseLambda: 10, compactEvery: 1 }),
};

/** Five optimizer steps from one start, on one executor. */
async function fiveSteps(
  method: ConfiguredMethod,
  executor: Executor,
): Promise<{ values: HostTensors; losses: number[] }> {
  const peft = attach(toyModel(), method, { seed: 5 });
  const losses: number[] = [];
  const { last } = await train(peft, toyTrainingData(5, 5), {
    executor,
    epochs: 1,
    learningRate: 0.02,
    weightDecay: 0.1,
    warmupRatio: 0.2,
    finalRatio: 0.4,
    onStep: ({ loss }: StepEvent) => losses.push(loss),
  });
  return { values: last.values, losses };
}

describe.each(Object.entries(methods))('%s', (_, method) => {
  it.each(Object.entries(executors))('takes the same five steps %s as on the reference', async (_, open) => {
    const expected = await fiveSteps(method, await referenceExecutor());
    const actual = await fiveSteps(method, await open());
    const { name, distance } = farthestTensor(actual.values, expected.values);
    expect(distance, name).toBeLessThan(1e-4);
    actual.losses.forEach((loss, step) => {
      expect(loss).toBeCloseTo(expected.losses[step] as number, 4);
    });
  });
});

it('has a case for every method that a package of the workspace offers', async () => {
  const { offeredMethods } = await import('../../packages/bench/src/registry/methods.js');
  const offered = (await offeredMethods()).map(({ name }) => name);
  expect(Object.values(methods).map(({ method }) => method.name)).toEqual(expect.arrayContaining(offered));
});
