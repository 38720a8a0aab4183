import { tensorAt } from '@peftjs/core/method';
import { readFile } from 'node:fs/promises';
import { adamW } from '@peftjs/core';
import { contextOf, controllerOf, layerOf, referenceBackend, relativeDistance } from '@peftjs/conformance';
import { sora } from '@peftjs/sora';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, expect, it } from 'vitest';

/** Values computed by tools/golden/sora.py. */
interface Golden {
  readonly xi: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly start: number[];
  readonly steps: { readonly learningRate: number; readonly gradient: number[]; readonly gate: number[] }[];
}

beforeAll(referenceBackend);

it("follows the released code's optimizer for 50 steps, as 'reference' and 'constant'", async () => {
  const file = new URL('fixtures/released-optimizer.json', import.meta.url);
  const { xi, beta1, beta2, epsilon, start, steps } = JSON.parse(await readFile(file, 'utf8')) as Golden;
  const optimizer = adamW({ beta1, beta2, epsilon, epsilonOn: 'raw' });
  const config = sora.parseConfig({
    r: start.length,
    proximal: 'reference',
    thresholdMode: 'constant',
    sparseLambda: xi,
  });
  const layer = layerOf(sora, config);
  const plan = { totalSteps: steps.length, warmupSteps: 3, finalSteps: 15 };
  const controller = controllerOf(sora, { m: layer }, config, plan);

  let state = { value: [...start], moment1: start.map(() => 0), moment2: start.map(() => 0) };
  expect(steps).toHaveLength(50);
  steps.forEach(({ learningRate, gradient, gate }, index) => {
    const scalars = controller.scalars(index + 1, { gate: learningRate });
    state = tf.tidy(() => {
      const value = tf.tensor1d(state.value);
      const { value: moved, slots } = optimizer.update({
        value,
        gradient: tf.tensor1d(gradient),
        slots: { moment1: tf.tensor1d(state.moment1), moment2: tf.tensor1d(state.moment2) },
        learningRate: tf.scalar(learningRate),
        decay: false,
        scalars: Object.fromEntries(
          Object.entries(optimizer.scalars?.(index + 1) ?? {}).map(([name, number]) => [name, tf.scalar(number)]),
        ),
      });
      const previous = { gate: value, mask: tf.onesLike(value) };
      const ruled = layer.update?.({ gate: moved }, { previous, gradient: {}, ctx: contextOf(scalars) });
      return {
        value: [...tensorAt(ruled ?? {}, 'gate').dataSync()],
        moment1: [...tensorAt(slots, 'moment1').dataSync()],
        moment2: [...tensorAt(slots, 'moment2').dataSync()],
      };
    });
    expect(relativeDistance(state.value, gate), `step ${index + 1}`).toBeLessThan(1e-6);
    expect(state.value.map((value) => value === 0)).toEqual(gate.map((value) => value === 0));
  });
});
