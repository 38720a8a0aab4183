import * as tf from '@tensorflow/tfjs-core';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import { softmaxCrossEntropy } from '../nn/cross-entropy.js';
import { weightedMean, type LossBatch } from './loss.js';

/* The surprise at a token, -log p: all that the losses of language models read of the logits. */

/** Returns -log softmax(logits)[label] of every token: labels `[batch * tokens]` -> `[batch * tokens]`. */
export type Surprise = (labels: Tensor) => Tensor;

/** Returns the surprise under logits `[batch, tokens, classes]`. */
export function surpriseOf(logits: Tensor): Surprise {
  const classes = logits.shape[2] as number;
  return (labels) => softmaxCrossEntropy(tf.reshape(logits, [-1, classes]), labels);
}

/** Returns the weighted mean of the surprise at labelled tokens: labels and weights `[batch, tokens]`. */
export function meanOverTokens(surpriseAt: Surprise, labels: Tensor, weights: Tensor): Scalar {
  const { surprise, isLabelled } = labelledSurprise(surpriseAt, labels);
  return weightedMean(surprise, tf.mul(isLabelled, tf.reshape(weights, [-1])));
}

/** labels `[batch, tokens]` -> `[batch * tokens]` each; the surprise of a token without a label means nothing. */
function labelledSurprise(surpriseAt: Surprise, labels: Tensor): Readonly<Record<'surprise' | 'isLabelled', Tensor>> {
  const flat = tf.reshape(labels, [-1]); // [batch * tokens]
  const first = tf.scalar(0, 'int32');
  return {
    surprise: surpriseAt(tf.maximum(flat, first)),
    isLabelled: tf.cast(tf.greaterEqual(flat, first), 'float32'),
  };
}

/**
 * Returns, for each row of a causal language model, the sum of the surprise at its labelled tokens but the first, and
 * their number: labels `[batch, tokens]` -> `[batch, 2]`.
 */
export function surpriseOfRows(surpriseAt: Surprise, labels: Tensor): Tensor {
  const { surprise, isLabelled } = labelledSurprise(surpriseAt, next(labels, -100));
  const ofRows = (x: Tensor): Tensor => tf.sum(tf.reshape(x, labels.shape), 1); // [batch]
  return tf.stack([ofRows(tf.mul(surprise, isLabelled)), ofRows(isLabelled)], 1);
}

/** Returns the weight of each token: its row's weight, and 0 for padding. Without a mask, every position is a token. */
export function tokenWeights({ labels, rowWeights, inputs: { attentionMask } }: LossBatch): Tensor {
  const rows = tf.reshape(rowWeights, [-1, 1]); // [batch, 1]
  return attentionMask ? tf.mul(attentionMask, rows) : tf.broadcastTo(rows, labels.shape);
}

/** Shifts each row one position to the left and fills in `last` at its end: `[batch, tokens]` -> `[batch, tokens]`. */
export function next(x: Tensor, last: number): Tensor {
  const [batch, tokens] = x.shape as [number, number];
  return tf.concat([tf.slice(x, [0, 1], [batch, tokens - 1]), tf.fill([batch, 1], last, x.dtype as 'int32')], 1);
}
