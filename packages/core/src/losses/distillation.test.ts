import { referenceExecutor } from '@peftjs/conformance';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { distillation, embeddingDistillation } from './distillation.js';
import type { Loss } from './loss.js';
import { crossEntropy } from './losses.js';

beforeAll(async () => {
  await referenceExecutor();
});

const OUTPUTS = [[1, -0.5, 2], [0.3, 0.1, -2], [3, 3, 3]]; // oxfmt-ignore
const TAUGHT = [[2, 0, -1], [0.5, 0.4, 0.3], [9, -9, 0]]; // oxfmt-ignore
const WEIGHTS = [1, 1, 0];

function softmax(row: readonly number[], temperature: number): number[] {
  const powers = row.map((value) => Math.exp(value / temperature));
  return powers.map((power) => power / powers.reduce((sum, other) => sum + other));
}

function computed(loss: Loss, taught: Tensor, outputs: Tensor, rowWeights: readonly number[]) {
  const labels = tf.tensor1d([2, 0, 1].slice(0, rowWeights.length), 'int32');
  const batch = { labels, rowWeights: tf.tensor1d([...rowWeights]), inputs: { teacher: taught } };
  const { value, grad } = tf.valueAndGrad((x: Tensor) => loss.loss(x, batch))(outputs);
  return { loss: value.dataSync()[0] as number, gradient: [...grad.dataSync()] };
}

describe('the loss on the logits of a teacher', () => {
  const ofLogits = (loss: Loss, weights = WEIGHTS) =>
    computed(loss, tf.tensor2d(TAUGHT), tf.tensor2d(OUTPUTS), weights);

  it.each([1, 2.5])('is T^2 times the divergence, with its gradient, at T = %s', (temperature) => {
    const { loss, gradient } = ofLogits(distillation({ temperature, alpha: 1 }));
    const rows = [0, 1].map((row) => {
      const [z, t] = [softmax(OUTPUTS[row] ?? [], temperature), softmax(TAUGHT[row] ?? [], temperature)];
      return { of: t.reduce((sum, p, at) => sum + p * Math.log(p / (z[at] as number)), 0), z, t };
    });
    expect(loss).toBeCloseTo((temperature ** 2 * ((rows[0]?.of ?? NaN) + (rows[1]?.of ?? NaN))) / 2, 5);
    const expected = rows.flatMap(({ z, t }) => z.map((p, at) => (temperature * (p - (t[at] as number))) / 2));
    expect(gradient).toEqual([...expected, 0, 0, 0].map((value) => expect.closeTo(value, 5) as number));
  });

  it('is mixed with that on the labels by alpha', () => {
    const own = ofLogits(crossEntropy()).loss;
    const teacher = ofLogits(distillation({ alpha: 1 })).loss;
    expect(ofLogits(distillation({ alpha: 0.3 })).loss).toBeCloseTo(0.3 * teacher + 0.7 * own, 5);
    expect(ofLogits(distillation({ alpha: 0 })).loss).toBeCloseTo(own, 5);
  });

  it('refuses a teacher with another number of outputs', () => {
    const ofOne = () => computed(distillation(), tf.ones([3, 1]), tf.tensor2d(OUTPUTS), WEIGHTS);
    expect(ofOne).toThrow("'teacher' has the shape [1] for each row; the model's outputs have [3]");
    const ofOneText = () => computed(embeddingDistillation(), tf.ones([3, 2]), tf.ones([6, 2]), WEIGHTS);
    expect(ofOneText).toThrow("'teacher' has the shape [2] for each row; the model's outputs have [4]");
  });

  it('is 0 without rows that count', () => {
    expect(ofLogits(distillation(), [0, 0, 0]).loss).toBe(0);
  });

  it('refuses options out of their range', () => {
    expect(() => distillation({ temperature: 0 })).toThrow("option 'temperature' is 0; expected >0");
    expect(() => distillation({ alpha: 1.1 })).toThrow("option 'alpha' is 1.1; expected <=1");
  });
});

describe('the loss on the embeddings of a teacher', () => {
  /** Two rows of two texts of width 2: the first texts of both rows come before the second ones. */
  const outputs = () => tf.tensor2d([1, 0, 5, 5, 0, 2, 7, 7], [4, 2]);
  const taught = () => tf.tensor2d([3, 0, 0, 4, 9, 9, 9, 9], [2, 4]); // [first, second] of each row

  it('is the mean squared difference of each text, and rows without weight do not count', () => {
    const { loss, gradient } = computed(embeddingDistillation(), taught(), outputs(), [1, 0]);
    expect(loss).toBeCloseTo((2 + 2) / 2, 5);
    expect(gradient.map((value) => value + 0)).toEqual([-1, 0, 0, 0, 0, -1, 0, 0]);
  });

  it('may be 1 - cos', () => {
    expect(computed(embeddingDistillation({ distance: 'cosine' }), taught(), outputs(), [1, 0]).loss).toBeCloseTo(0, 5);
  });
});
