import * as tf from '@tensorflow/tfjs';
import type { Scalar, Tensor, Tensor1D } from '@tensorflow/tfjs';
import { assertOneOf } from '../config.js';
import type { Batch, DataKind } from '../contracts/model.js';
import { softmaxCrossEntropy } from '../nn/cross-entropy.js';
import type { Loss, LossBatch } from './loss.js';

/** Below every sum of weights of which one counts: a mean over nothing is 0 / LEAST. */
const LEAST = 1e-12;

/** -log softmax(logits)[label] of logits `[batch, classes]` at class numbers `[batch]`, averaged over the rows that count. */
export function crossEntropy(): Loss {
  return {
    name: 'cross-entropy',
    labels: 'classification',
    loss(logits, { labels, rowWeights }) {
      const classes = logits.shape[1] as number;
      const chosen = tf.mul(tf.logSoftmax(logits), tf.oneHot(labels as Tensor1D, classes)); // [batch, classes]
      return weightedMean(tf.neg(tf.sum(chosen, -1)), rowWeights);
    },
  };
}

/** (output - target)^2 of outputs `[batch, 1]` and targets `[batch]`, averaged over the rows that count. */
export function squaredError(): Loss {
  return {
    name: 'squared-error',
    labels: 'regression',
    loss: (outputs, { labels, rowWeights }) =>
      weightedMean(tf.squaredDifference(tf.reshape(outputs, labels.shape), labels), rowWeights),
  };
}

/**
 * -log softmax(logits)[label] of logits `[batch, tokens, classes]` at class numbers `[batch, tokens]`, averaged over the tokens that
 * count: those of rows that do, which are no padding and whose label is 0 or more (transformers writes -100 where there is none).
 */
export function tokenCrossEntropy(): Loss {
  return {
    name: 'token-cross-entropy',
    labels: 'token-classification',
    loss: (logits, batch) => meanOverTokens(logits, batch.labels, tokenWeights(batch)),
    weight: (batch) => labelledTokens(batch, 0),
  };
}

/**
 * The same for a causal language model, whose labels are the tokens as it reads them (or -100): the logits of a token are held
 * against the label of the next. This is the one place where labels are moved.
 */
export function nextToken(): Loss {
  return {
    name: 'next-token',
    labels: 'causal-lm',
    loss: (logits, batch) => meanOverTokens(logits, next(batch.labels, -100), next(tokenWeights(batch), 0)),
    weight: (batch) => labelledTokens(batch, 1), // a row's first token is not predicted
  };
}

const losses: Readonly<Record<DataKind, () => Loss>> = {
  classification: crossEntropy,
  regression: squaredError,
  'token-classification': tokenCrossEntropy,
  'causal-lm': nextToken,
};

/** The loss of data when none is named. @throws ConfigError for a kind of data that there is none for, with the nearest one. */
export function lossFor(kind: DataKind): Loss {
  assertOneOf('kind', kind, Object.keys(losses));
  return losses[kind]();
}

function meanOverTokens(logits: Tensor, labels: Tensor, weights: Tensor): Scalar {
  const classes = logits.shape[2] as number;
  const flat = tf.reshape(labels, [-1]); // [batch * tokens]
  const surprise = softmaxCrossEntropy(tf.reshape(logits, [-1, classes]), tf.maximum(flat, tf.scalar(0, 'int32')));
  const isLabelled = tf.cast(tf.greaterEqual(flat, tf.scalar(0, 'int32')), 'float32');
  return weightedMean(surprise, tf.mul(isLabelled, tf.reshape(weights, [-1])));
}

/** The weight of each token: its row's, 0 for padding; every place is a token where the model reads no mask. */
function tokenWeights({ labels, rowWeights, inputs: { attentionMask } }: LossBatch): Tensor {
  const rows = tf.reshape(rowWeights, [-1, 1]); // [batch, 1]
  return attentionMask ? tf.mul(attentionMask, rows) : tf.broadcastTo(rows, labels.shape);
}

/** The weights of the labelled tokens from the `first` of each row on, added up. */
function labelledTokens({ labels, rowWeights, inputs }: Batch, first: number): number {
  const [rows = 0, tokens = 0] = labels.shape;
  let sum = 0;
  for (let place = 0; place < rows * tokens; place++) {
    const isLabelled = place % tokens >= first && (labels.data[place] as number) >= 0;
    const weight = rowWeights.data[Math.floor(place / tokens)] as number;
    if (isLabelled) sum += weight * (inputs.attentionMask?.data[place] ?? 1);
  }
  return sum;
}

function weightedMean(values: Tensor, weights: Tensor): Scalar {
  return tf.div(tf.sum(tf.mul(values, weights)), tf.maximum(tf.sum(weights), LEAST));
}

/** What stands one place later in each row, `last` at its end: `[batch, tokens]` -> `[batch, tokens]`. */
function next(x: Tensor, last: number): Tensor {
  const [batch, tokens] = x.shape as [number, number];
  return tf.concat([tf.slice(x, [0, 1], [batch, tokens - 1]), tf.fill([batch, 1], last, x.dtype as 'int32')], 1);
}
