import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Batch, DataKind } from '../contracts/model.js';
import { referenceExecutor } from '@peftjs/conformance';
import { hostIntegers, hostTensor } from '../tensors.js';
import { lossWeight, type Loss } from './loss.js';
import { crossEntropy, defaultLoss, nextToken, squaredError, tokenCrossEntropy } from './losses.js';

beforeAll(async () => {
  await referenceExecutor();
});

function softmax(logits: readonly number[]): number[] {
  const total = logits.reduce((sum, logit) => sum + Math.exp(logit), 0);
  return logits.map((logit) => Math.exp(logit) / total);
}

/** -log softmax(logits)[label] */
const surprise = (logits: readonly number[], label: number): number => -Math.log(softmax(logits)[label] as number);
const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
const valueOf = (loss: Tensor): number => loss.dataSync()[0] as number;
const integers = (rows: readonly (readonly number[])[]): Tensor => tf.tensor2d(rows as number[][], undefined, 'int32');

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

/** The loss of token logits. */
function ofTokens(loss: Loss, labels: readonly number[][], rowWeights = [1, 1], attentionMask?: number[][]): number {
  const inputs: Record<string, Tensor> = attentionMask ? { attentionMask: tf.tensor2d(attentionMask) } : {};
  return valueOf(
    loss.loss(tf.tensor(LOGITS), { labels: integers(labels), rowWeights: tf.tensor1d(rowWeights), inputs }),
  );
}

const LABELS = [
  [3, -100, 2],
  [0, 1, -100],
];
const NONE = [Array<number>(3).fill(-100), Array<number>(3).fill(-100)];
const SHORT = [
  [1, 1, 0],
  [1, 1, 1],
];

describe('the token loss', () => {
  const loss = tokenCrossEntropy();

  it('is the mean over the tokens that have a label', () => {
    const losses = [surprise(at(0, 0), 3), surprise(at(0, 2), 2), surprise(at(1, 0), 0), surprise(at(1, 1), 1)];
    expect(ofTokens(loss, LABELS)).toBeCloseTo(mean(losses), 5);
  });

  it('leaves out padding, whatever its label, and rows that only fill the batch', () => {
    const masked = mean([surprise(at(0, 0), 3), surprise(at(1, 0), 0), surprise(at(1, 1), 1)]);
    expect(ofTokens(loss, LABELS, [1, 1], SHORT)).toBeCloseTo(masked, 5);
    expect(ofTokens(loss, LABELS, [1, 0])).toBeCloseTo(mean([surprise(at(0, 0), 3), surprise(at(0, 2), 2)]), 5);
  });
});

describe('the loss of a causal language model', () => {
  const loss = nextToken();

  it('compares the logits of each token with the label of the next, and those of the last with none', () => {
    const ids = [
      [3, 0, 2],
      [0, 1, 3],
    ];
    const losses = [surprise(at(0, 0), 0), surprise(at(0, 1), 2), surprise(at(1, 0), 1), surprise(at(1, 1), 3)];
    expect(ofTokens(loss, ids)).toBeCloseTo(mean(losses), 5);
    const short = mean([losses[0], losses[2], losses[3]] as number[]);
    expect(ofTokens(loss, ids, [1, 1], SHORT)).toBeCloseTo(short, 5);
    const prompted = [
      [-100, -100, 2],
      [-100, 1, 3],
    ];
    expect(ofTokens(loss, prompted)).toBeCloseTo(mean(losses.slice(1)), 5);
  });
});

describe('the loss of a row', () => {
  const logits = () => tf.tensor2d([[...at(0, 0)], [...at(0, 1)], [...at(0, 2)]]);
  const classes = () => ({ labels: tf.tensor1d([1, 2, 0], 'int32'), inputs: {} });

  it('is the mean over the rows with weight', () => {
    const rowWeights = tf.tensor1d([1, 0, 1]);
    const expected = mean([surprise(at(0, 0), 1), surprise(at(0, 2), 0)]);
    expect(valueOf(crossEntropy().loss(logits(), { ...classes(), rowWeights }))).toBeCloseTo(expected, 5);
    const numbers = { labels: tf.tensor1d([1.5, 2]), rowWeights: tf.tensor1d([1, 1]), inputs: {} };
    expect(valueOf(squaredError().loss(tf.tensor2d([[1], [4]]), numbers))).toBeCloseTo((0.25 + 4) / 2, 5);
  });

  it('has the gradient softmax minus label, divided by the number of rows with weight', () => {
    const rowWeights = tf.tensor1d([1, 0, 1]);
    const gradient = tf.grad((x: Tensor) => crossEntropy().loss(x, { ...classes(), rowWeights }))(logits());
    const expected = [at(0, 0), at(0, 1), at(0, 2)].flatMap((row, index) =>
      softmax(row).map(
        (share, label) => ([0.5, 0, 0.5][index] as number) * (share - Number(label === [1, 2, 0][index])),
      ),
    );
    expect([...gradient.dataSync()]).toEqual(expected.map((value) => expect.closeTo(value, 6) as number));
  });

  it('weighs rows by any weights', () => {
    const rowWeights = tf.tensor1d([0.1, 0.3, 0]);
    const expected = (surprise(at(0, 0), 1) + 3 * surprise(at(0, 1), 2)) / 4;
    expect(valueOf(crossEntropy().loss(logits(), { ...classes(), rowWeights }))).toBeCloseTo(expected, 5);
  });
});

const kinds = ['classification', 'regression', 'token-classification', 'causal-lm'] as const;

describe.each(kinds)('the loss of %s', (kind) => {
  const outputs = {
    classification: [at(0, 0), at(1, 2)],
    regression: [[0.3], [-1.7]],
    'token-classification': LOGITS,
    'causal-lm': LOGITS,
  }[kind];
  const labels = kind === 'classification' ? [2, 3] : kind === 'regression' ? [0.1, 2] : LABELS;
  const tensors = () => ({
    labels: tf.tensor(labels, undefined, kind === 'regression' ? 'float32' : 'int32'),
    rowWeights: tf.tensor1d([1, 1]),
  });

  it('is 0 with gradient 0 where all weights are 0', () => {
    const none = { ...tensors(), rowWeights: tf.tensor1d([0, 0]), inputs: {} };
    const { value, grad } = tf.valueAndGrad((x: Tensor) => defaultLoss(kind).loss(x, none))(tf.tensor(outputs));
    expect(valueOf(value)).toBe(0);
    expect(tf.max(tf.abs(grad)).dataSync()[0]).toBe(0);
    if (labels === LABELS) expect(ofTokens(defaultLoss(kind), NONE)).toBe(0);
  });

  it('reads its labels', () => {
    expect(defaultLoss(kind).labels).toBe(kind);
  });
});

it('an unknown kind of data has no loss', () => {
  expect(() => defaultLoss('token-clasification' as DataKind)).toThrow(
    "kind is 'token-clasification' (did you mean 'token-classification'?); expected classification, multi-label, regression, token-classification, causal-lm, preferences, pairs, triplets, scored-pairs",
  );
});

describe('the weight of a batch among others', () => {
  /** Two rows, with three tokens each for token tasks. */
  const batch = (labels: readonly (number | readonly number[])[], rowWeights = [1, 1], mask?: number[][]): Batch => {
    const shape = Array.isArray(labels[0]) ? [2, 3] : [2];
    return {
      inputs: mask ? { attentionMask: hostTensor(Float32Array.from(mask.flat()), [2, 3]) } : {},
      labels: hostIntegers(Int32Array.from(labels.flat()), shape),
      rowWeights: hostTensor(Float32Array.from(rowWeights), [2]),
      rows: [0, 1],
    };
  };

  it.each<[string, DataKind, Batch, number]>([
    ['rows', 'classification', batch([1, 2]), 2],
    ['rows, without those that only fill it', 'regression', batch([1, 2], [1, 0]), 1],
    ['tokens with a label', 'token-classification', batch(LABELS), 4],
    ['tokens with a label, without padding', 'token-classification', batch(LABELS, [1, 1], SHORT), 3],
    ['tokens, without rows that only fill it', 'token-classification', batch(LABELS, [0, 1]), 2],
    ['tokens after the first', 'causal-lm', batch(LABELS), 2],
    ['tokens after the first, without padding', 'causal-lm', batch(LABELS, [1, 1], SHORT), 1],
    ['nothing', 'causal-lm', batch(LABELS, [0, 0]), 0],
  ])('is its %s', (_, kind, given, expected) => {
    expect(lossWeight(defaultLoss(kind), given)).toBe(expected);
  });
});
