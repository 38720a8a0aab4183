// Code blocks of the page on custom data, in order.
import { attach, hostTensor, predict, train, withInputs, type Model } from '@peftjs/core';
import { crossEntropy, distillation } from '@peftjs/core/losses';
import type { LossFunction, StepEvent } from '@peftjs/core/runtime';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { createDataSet, encodeRows, evaluationData, trainingData } from '@peftjs/tasks';
import * as tf from '@tensorflow/tfjs-core';
import { expect, it } from 'vitest';
import { batchesFor, sentences, smallBert } from './given.js';

type Forward = Parameters<Model['forward']>;
const executor = compiled({ threads: 1 });

async function adapted() {
  const model = await smallBert();
  const set = await createDataSet({ name: 'soups', kind: 'classification', classes: ['bad', 'good'], rows: sentences });
  const rows = encodeRows(set, model.tokenizer, { maxTokens: 16 });
  const { train: data } = await batchesFor(model);
  return { model, peft: attach(model, lora({ r: 2 }), { seed: 1 }), rows, data, count: sentences.length };
}

it('an extra input reaches the loss', async () => {
  const { peft, data, count } = await adapted();
  const seen: number[] = [];
  // #region input
  const trust = hostTensor(
    Float32Array.from({ length: count }, (_, row) => (row < 40 ? 1 : 0.1)),
    [count],
  ); // by row
  const careful: LossFunction = (outputs, { labels, rowWeights, inputs }) =>
    crossEntropy().loss(outputs, { labels, inputs, rowWeights: tf.mul(rowWeights, inputs.trust as tf.Tensor) });
  await train(peft, withInputs(data, { trust }), { executor, epochs: 3, loss: careful });
  // #endregion input
  const onStep = ({ loss }: StepEvent) => void seen.push(loss);
  const untrusted = withInputs(data, { trust: hostTensor(new Float32Array(count), [count]) });
  await train(peft, untrusted, { executor, epochs: 1, loss: careful, onStep });
  expect(seen).toEqual([0, 0]);
});

it('a model learns from another one', async () => {
  const { model, peft, rows } = await adapted();
  const sharper = { ...model, forward: (...at: Forward) => tf.add(model.forward(...at), tf.tensor1d([2, -2])) };
  const teacher = attach(sharper, lora({ r: 2 }), { seed: 1 });
  const losses: number[] = [];
  const onStep = ({ loss }: StepEvent) => void losses.push(loss);
  // #region teacher
  const logits = await predict(teacher, evaluationData(rows, { batchSize: 16 }).batches, { executor });
  const lessons = withInputs(trainingData(rows, { batchSize: 8, seed: 1 }), { teacher: logits });
  await train(peft, lessons, { executor, epochs: 3, loss: distillation({ alpha: 1 }), onStep });
  // #endregion teacher
  expect(losses).toHaveLength(6);
  expect(losses.at(-1)).toBeLessThan(losses[0] ?? NaN);
});
