import { attach, train, type Executor } from '@peftjs/core';
import { quantizedModel } from '@peftjs/core/method';
import { relativeDistance, toyModel, toyTrainingData } from '@peftjs/core/testing';
import { compiled, eager } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { describe, expect, it } from 'vitest';

describe('training with 8-bit weights', () => {
  const model = toyModel();

  async function losses(of: typeof model, executor: Executor): Promise<number[]> {
    const seen: number[] = [];
    await train(attach(of, lora({ r: 4 }), { seed: 1 }), toyTrainingData(), {
      executor,
      epochs: 5,
      learningRate: 1e-2,
      onStep: ({ loss }) => seen.push(loss),
    });
    return seen;
  }

  it('follows float32 training up to rounding', async () => {
    const executor = compiled({ threads: 1 });
    const whole = await losses(model, executor);
    const held = await losses(quantizedModel(model), executor);
    expect(held).not.toEqual(whole);
    expect(relativeDistance(held, whole)).toBeLessThan(0.02);
    expect(held.at(-1)).toBeLessThan(held[0] as number);
  });

  it('is training with the dequantized weights on executors that do not multiply bytes', async () => {
    const held = quantizedModel(model);
    const written = Object.entries(held.weights).map(([name, { dtype, shape, data }]) => [
      name,
      { dtype, shape, data },
    ]);
    const out = { ...model, weights: Object.fromEntries(written) as typeof model.weights };
    const wasm = await eager({ backend: 'wasm' });
    expect(await losses(held, wasm)).toEqual(await losses(out, wasm));
  });
});
