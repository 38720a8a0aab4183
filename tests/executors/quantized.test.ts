import { attach, calibrate, train, type Executor } from '@peftjs/core';
import { floats, tensorAt } from '@peftjs/core/method';
import { quantizedModel } from '@peftjs/core/model';
import { relativeDistance, toyModel, toyTrainingData } from '@peftjs/conformance';
import { compiled, eager } from '@peftjs/engine';
import { gora } from '@peftjs/gora';
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

  /** The model whose weights are the float32 values of its 8-bit weights. */
  function expanded(): typeof model {
    const { weights } = quantizedModel(model);
    const written = Object.entries(weights).map(([name, { dtype, shape, data }]) => [name, { dtype, shape, data }]);
    return { ...model, weights: Object.fromEntries(written) as typeof model.weights };
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
    const wasm = await eager({ backend: 'wasm' });
    expect(await losses(quantizedModel(model), wasm)).toEqual(await losses(expanded(), wasm));
  });

  it('calibrates on gradients of the dequantized weights', async () => {
    const gradients = async (of: typeof model) => {
      const executor = compiled({ threads: 1 });
      const { values } = await calibrate(of, gora({ targetModules: 'all-linear' }), toyTrainingData(), { executor });
      return values;
    };
    const [held, wanted] = [await gradients(quantizedModel(model)), await gradients(expanded())];
    expect(Object.keys(held)).toHaveLength(10);
    for (const [path, tensor] of Object.entries(wanted)) {
      expect(relativeDistance(floats(tensorAt(held, path)), floats(tensor))).toBeLessThan(1e-5);
    }
  });
});
