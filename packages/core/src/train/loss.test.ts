import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import { beforeAll, describe, expect, it } from 'vitest';
import { hostIntegers, hostTensor } from '../tensors.js';
import type { Batch, DataKind } from '../contracts/model.js';
import { lossWeight, objectiveLoss } from './loss.js';

beforeAll(async () => {
  tf.env().set('PROD', true); // keeps the banner of the cpu backend out of the test's output
  await tf.setBackend('cpu');
});

/** -log softmax(logits)[label] */
function surprise(logits: readonly number[], label: number): number {
  return Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0)) - (logits[label] as number);
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
const valueOf = (loss: Tensor): number => loss.dataSync()[0] as number;
const integers = (rows: number[][]): Tensor => tf.tensor2d(rows, undefined, 'int32');

/** Two rows of three tokens, four classes. */
const LOGITS = [
  [
    [1, 0, -1, 2],
    [0.5, 3, 1, 0],
    [-2, 1, 0, 1],
  ],
  [
    [0, 0, 1, -1],
    [2, 1, 0, -3],
    [1, 1, 1, 4],
  ],
] as const;
const at = (row: 0 | 1, token: 0 | 1 | 2) => LOGITS[row][token];

describe('the loss of tokens', () => {
  const batch = (labels: number[][], rowWeights = [1, 1], attentionMask?: number[][]) =>
    valueOf(
      objectiveLoss('token-classification', tf.tensor(LOGITS), {
        labels: integers(labels),
        rowWeights: tf.tensor1d(rowWeights),
        attentionMask: attentionMask && tf.tensor2d(attentionMask),
      }),
    );
  const labels = [
    [3, -100, 2],
    [0, 1, -100],
  ];

  it('is the mean over the tokens that have a label', () => {
    const losses = [surprise(at(0, 0), 3), surprise(at(0, 2), 2), surprise(at(1, 0), 0), surprise(at(1, 1), 1)];
    expect(batch(labels)).toBeCloseTo(mean(losses), 5);
  });

  it('leaves out padding, whatever its label, and rows that only fill the batch', () => {
    const masked = batch(labels, undefined, [
      [1, 1, 0],
      [1, 1, 1],
    ]);
    expect(masked).toBeCloseTo(mean([surprise(at(0, 0), 3), surprise(at(1, 0), 0), surprise(at(1, 1), 1)]), 5);
    expect(batch(labels, [1, 0])).toBeCloseTo(mean([surprise(at(0, 0), 3), surprise(at(0, 2), 2)]), 5);
  });

  it('is 0 where no token counts', () => {
    expect(batch([Array<number>(3).fill(-100), Array<number>(3).fill(-100)])).toBe(0);
  });
});

describe('the loss of a causal language model', () => {
  const loss = (labels: number[][], attentionMask: number[][]) =>
    valueOf(
      objectiveLoss('causal-lm', tf.tensor(LOGITS), {
        labels: integers(labels),
        rowWeights: tf.tensor1d([1, 1]),
        attentionMask: tf.tensor2d(attentionMask),
      }),
    );

  it('holds the logits of each token against the label of the next, and those of the last against none', () => {
    const ids = [
      [3, 0, 2],
      [0, 1, 3],
    ];
    const losses = [surprise(at(0, 0), 0), surprise(at(0, 1), 2), surprise(at(1, 0), 1), surprise(at(1, 1), 3)];
    const all = [
      [1, 1, 1],
      [1, 1, 1],
    ];
    expect(loss(ids, all)).toBeCloseTo(mean(losses), 5);
    const short = [
      [1, 1, 0],
      [1, 1, 1],
    ];
    expect(loss(ids, short)).toBeCloseTo(mean([losses[0], losses[2], losses[3]] as number[]), 5);
    const prompted = [
      [-100, -100, 2],
      [-100, 1, 3],
    ];
    expect(loss(prompted, all)).toBeCloseTo(mean(losses.slice(1)), 5);
  });
});

describe('the loss of a text', () => {
  it('is the mean over the rows that count', () => {
    const logits = tf.tensor2d([[...at(0, 0)], [...at(0, 1)]]);
    const batch = { labels: tf.tensor1d([1, 2], 'int32'), rowWeights: tf.tensor1d([1, 0]) };
    expect(valueOf(objectiveLoss('classification', logits, batch))).toBeCloseTo(surprise(at(0, 0), 1), 5);
    const numbers = { labels: tf.tensor1d([1.5, 2]), rowWeights: tf.tensor1d([1, 1]) };
    expect(valueOf(objectiveLoss('regression', tf.tensor2d([[1], [4]]), numbers))).toBeCloseTo((0.25 + 4) / 2, 5);
  });
});

describe('what a batch counts beside others', () => {
  /** Two rows, of three tokens where there are any. */
  const batch = (labels: readonly (number | readonly number[])[], rowWeights = [1, 1], mask?: number[][]): Batch => {
    const shape = Array.isArray(labels[0]) ? [2, 3] : [2];
    return {
      inputs: mask ? { attentionMask: hostTensor(Float32Array.from(mask.flat()), [2, 3]) } : {},
      labels: hostIntegers(Int32Array.from(labels.flat()), shape),
      rowWeights: hostTensor(Float32Array.from(rowWeights), [2]),
      rows: [0, 1],
    };
  };
  const tokens = [
    [3, -100, 2],
    [0, 1, -100],
  ];
  const padded = [
    [1, 1, 0],
    [1, 1, 1],
  ];

  it.each<[string, DataKind, Batch, number]>([
    ['rows', 'classification', batch([1, 2]), 2],
    ['rows that do not only fill it', 'regression', batch([1, 2], [1, 0]), 1],
    ['tokens that have a label', 'token-classification', batch(tokens), 4],
    ['tokens that have a label and are no padding', 'token-classification', batch(tokens, [1, 1], padded), 3],
    ['tokens of rows that do not only fill it', 'token-classification', batch(tokens, [0, 1]), 2],
    ['tokens that follow another', 'causal-lm', batch(tokens), 2],
    ['tokens that follow another and are no padding', 'causal-lm', batch(tokens, [1, 1], padded), 1],
    ['nothing', 'causal-lm', batch(tokens, [0, 0]), 0],
  ])('is its %s', (_, objective, given, expected) => {
    expect(lossWeight(objective, given)).toBe(expected);
  });
});
