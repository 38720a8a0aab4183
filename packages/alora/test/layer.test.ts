import { tensorAt } from '@peftjs/core/method';
import { activeAdapter, attach, withAdapter } from '@peftjs/core';
import { forwardOf, hostVector, layerOf, referenceBackend, toyModel, trainToy } from '@peftjs/conformance';
import { alora } from '@peftjs/alora';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, expect, it } from 'vitest';

beforeAll(referenceBackend);

it("adds s ((x A) * g) B to the module's output", () => {
  const layer = layerOf(alora, { r: 2, loraAlpha: 6 }, [2, 3]);
  const p = {
    loraA: tf.tensor2d([1, 2, 3, 4], [2, 2]),
    gate: tf.tensor1d([1, 0]),
    loraB: tf.tensor2d([1, 0, 2, 0, 1, 4], [2, 3]),
  };
  const y = forwardOf(layer, p, tf.tensor2d([1, 1], [1, 2]), tf.tensor2d([10, 20, 30], [1, 3]));
  // x A = (4, 6), times g = (4, 0), times B = (4, 0, 8), times 6 / 2
  expect([...y.dataSync()]).toEqual([22, 20, 54]);
});

it('keeps a gate of zero through 20 steps of AdamW', async () => {
  const peft = attach(toyModel(), alora({ r: 2, targetModules: ['query'], rounds: 0 }), { seed: 1 });
  const key = 'encoder.layer.0.attention.query.gate';
  const pruned = withAdapter(peft, { values: { ...activeAdapter(peft).values, [key]: hostVector([1, 0]) } });
  const { last, totalSteps } = await trainToy(pruned, { epochs: 5, learningRate: 0.05 });
  expect(totalSteps).toBe(20);
  expect([...tensorAt(last.values, key).data]).toEqual([1, 0]);
});
