import { activeAdapter, attach, hostTensor, train, withAdapter } from '@peftjs/core';
import { floats, tensorAt, type HostTensors } from '@peftjs/core/method';
import {
  forwardOf,
  initialOf,
  layerOf,
  referenceExecutor,
  relativeDistance,
  tensorsOf,
  toyModel,
  toyTrainingData,
} from '@peftjs/conformance';
import { alora } from '@peftjs/alora';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';

beforeAll(async () => {
  tf.env().set('PROD', true);
  await tf.setBackend('cpu');
});

const gateOf = (...gate: number[]) => hostTensor(Float32Array.from(gate), [gate.length]);

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

describe('a LoRA of the remaining ranks', () => {
  const layer = layerOf(alora, { r: 4, loraAlpha: 8 });
  const loraB = hostTensor(
    Float32Array.from({ length: 40 }, (_, index) => Math.sin(index)),
    [4, 10],
  );

  it.each([[[0, 0, 0, 0]], [[0, 1, 0, 0]], [[1, 1, 1, 1]]])('gives the same output as the gates %j', (gate) => {
    const values: HostTensors = { ...initialOf(layer), loraB, gate: gateOf(...gate) };
    const x = tf.randomNormal([5, 6], 0, 1, 'float32', 1);
    const expected = forwardOf(layer, tensorsOf(values), x, tf.zeros([5, 10])).dataSync();
    const lora = layer.toLora?.(values) ?? expect.fail('no factors');
    const live = gate.filter((value) => value !== 0).length;
    // The scaling is alpha / the initial rank, no matter how many ranks remain.
    expect([lora.loraA.shape[1], lora.scaling]).toEqual([live, 2]);
    expect([layer.rank?.(values), layer.storedParameters(values)]).toEqual([live, live * 16]);
    const folded = new Float32Array(50);
    const [a, b, rows] = [floats(lora.loraA), floats(lora.loraB), x.dataSync()];
    folded.forEach((_, index) => {
      const [row, out] = [Math.floor(index / 10), index % 10];
      for (let rank = 0; rank < live; rank++) {
        for (let feature = 0; feature < 6; feature++) {
          const hidden = (rows[6 * row + feature] ?? NaN) * (a[live * feature + rank] ?? NaN);
          folded[index] = (folded[index] ?? NaN) + lora.scaling * hidden * (b[10 * rank + out] ?? NaN);
        }
      }
    });
    if (live === 0) expect([...folded]).toEqual([...expected]);
    else expect(relativeDistance(folded, Float32Array.from(expected))).toBeLessThan(1e-5);
  });
});

it('keeps a gate of zero through 20 steps of AdamW', async () => {
  const peft = attach(toyModel(), alora({ r: 2, targetModules: ['query'], rounds: 0 }), { seed: 1 });
  const key = 'encoder.layer.0.attention.query.gate';
  const pruned = withAdapter(peft, { values: { ...activeAdapter(peft).values, [key]: gateOf(1, 0) } });
  const { last, totalSteps } = await train(pruned, toyTrainingData(), {
    executor: await referenceExecutor(),
    epochs: 5,
    learningRate: 0.05,
  });
  expect(totalSteps).toBe(20);
  expect([...tensorAt(last.values, key).data]).toEqual([1, 0]);
});
