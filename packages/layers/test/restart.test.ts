import { activeAdapter, hostTensor } from '@peftjs/core';
import {
  defineMethod,
  floats,
  parseOptions,
  targetEntries,
  tensorAt,
  type CallableMethod,
  type TargetConfig,
} from '@peftjs/core/method';
import { attachLayers } from '@peftjs/layers';
import * as tf from '@tensorflow/tfjs';
import { beforeAll, describe, expect, it } from 'vitest';

beforeAll(async () => {
  tf.env().set('PROD', true); // keeps TensorFlow.js's start-up banner off stderr
  await tf.setBackend('cpu');
});

/**
 * A method that adds a trained shift with these initial values, and resets the optimizer after one step if asked to.
 */
function shifting(initial: readonly number[], restartsAfter?: number): CallableMethod<TargetConfig> {
  return defineMethod<TargetConfig>({
    name: 'shifting',
    capabilities: { mergeable: false, identityAtInit: false, adaptsRank: false, kinds: ['linear'] },
    parseConfig: (input) => parseOptions('shifting', targetEntries, input),
    adapt: (sites) =>
      Object.fromEntries(
        sites.map((site) => {
          const shift = {
            initial: hostTensor(Float32Array.from(initial), [initial.length]),
            trainable: true,
            group: 'default',
            decay: false,
          };
          return [
            site.path,
            {
              site,
              params: { shift },
              forward: (_x, p, at) => tf.add(at.base(), tensorAt(p, 'shift')),
              storedParameters: () => initial.length,
            },
          ];
        }),
      ),
    controller: (layers) => ({
      scalars: () => ({}),
      reads: (step) => (step === restartsAfter ? Object.keys(layers).map((path) => `${path}.shift`) : []),
      afterStep: () => ({ restartsOptimizer: true }),
      holdsBudget: () => true,
      snapshot: () => ({}),
      restore: () => undefined,
    }),
    peftTypes: [],
    toFile: () => ({ config: {}, tensors: {} }),
    fromFile: () => ({ config: {}, values: {} }),
  });
}

/** Trains a shift towards (1, -2) by mean squared error. Returns it after that many steps. */
async function shiftAfter(steps: number, method: CallableMethod<TargetConfig>, optimizer: tf.Optimizer) {
  const layer = tf.layers.dense({ name: 'units', units: 2, inputShape: [1], kernelInitializer: 'zeros' });
  const model = tf.sequential({ layers: [layer] });
  model.compile({ optimizer, loss: 'meanSquaredError' });
  const peft = attachLayers(model, method());
  await model.fit(tf.zeros([1, 1]), tf.tensor2d([[1, -2]]), { epochs: steps, batchSize: 1 });
  return [...floats(tensorAt(activeAdapter(peft).values, 'units.shift'))];
}

describe('an optimizer that a controller resets', () => {
  it.each([
    ['adam', () => tf.train.adam(0.1)],
    ['adagrad', () => tf.train.adagrad(0.3)],
    ['adamax', () => tf.train.adamax(0.1)],
    ['rmsprop', () => tf.train.rmsprop(0.1, 0.9, 0.9)],
    ['momentum', () => tf.train.momentum(0.1, 0.9)],
  ])('does its next step like its first: %s', async (_, make) => {
    const start = [0, 0.5];
    const midway = await shiftAfter(3, shifting(start), make());
    const restarted = await shiftAfter(4, shifting(start, 3), make());
    expect(restarted).toEqual(await shiftAfter(1, shifting(midway), make()));
    expect(restarted).not.toEqual(await shiftAfter(4, shifting(start), make()));
  });

  it("follows the formula of Adam's first step: the learning rate times the sign of the gradient", async () => {
    const midway = await shiftAfter(3, shifting([0, 0.5]), tf.train.adam(0.1));
    const next = await shiftAfter(4, shifting([0, 0.5], 3), tf.train.adam(0.1));
    expect(next[0]).toBeCloseTo((midway[0] as number) + 0.1, 5);
    expect(next[1]).toBeCloseTo((midway[1] as number) - 0.1, 5);
  });
});
