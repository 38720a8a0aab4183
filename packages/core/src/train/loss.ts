import * as tf from '@tensorflow/tfjs';
import type { Scalar, Tensor, Tensor1D } from '@tensorflow/tfjs';
import type { Batch, DataKind } from '../contracts/model.js';
import { assertOneOf } from '../config.js';
import { softmaxCrossEntropy } from '../nn/cross-entropy.js';

/** A loss over what counts of a batch: outputs, their labels, and a weight for each label -> a scalar. */
export type Loss = (outputs: Tensor, labels: Tensor, weights: Tensor) => Scalar;

/** What a loss reads of a batch besides the outputs. */
export interface Labelled {
  /** `[batch]`, or `[batch, tokens]`. */
  readonly labels: Tensor;
  /** `[batch]` */
  readonly rowWeights: Tensor;
  /** `[batch, tokens]`, 1 for a token; every place is one when left out. */
  readonly attentionMask?: Tensor | undefined;
}

/** Cross entropy of the softmax of logits `[batch, classes]` at class numbers `[batch]`, averaged over the rows that count. */
export const crossEntropy: Loss = (logits, labels, rowWeights) => {
  const classes = logits.shape[1] as number;
  const chosen = tf.mul(tf.logSoftmax(logits), tf.oneHot(labels as Tensor1D, classes)); // [batch, classes]
  return weightedMean(tf.neg(tf.sum(chosen, -1)), rowWeights);
};

/** Squared error of outputs `[batch, 1]` against targets `[batch]`, averaged over the rows that count. */
export const squaredError: Loss = (outputs, targets, rowWeights) =>
  weightedMean(tf.squaredDifference(tf.reshape(outputs, targets.shape), targets), rowWeights);

/**
 * Cross entropy of logits `[batch, tokens, classes]` at class numbers `[batch, tokens]`, averaged over the tokens that count:
 * those of weight 1 whose label is 0 or more (transformers writes -100 where there is none). 0 where none counts.
 */
export const tokenCrossEntropy: Loss = (logits, labels, weights) => {
  const classes = logits.shape[2] as number;
  const flat = tf.reshape(labels, [-1]); // [batch * tokens]
  const losses = softmaxCrossEntropy(tf.reshape(logits, [-1, classes]), tf.maximum(flat, tf.scalar(0, 'int32')));
  const isLabelled = tf.cast(tf.greaterEqual(flat, tf.scalar(0, 'int32')), 'float32');
  const counted = tf.mul(isLabelled, tf.reshape(weights, [-1]));
  return tf.div(tf.sum(tf.mul(losses, counted)), tf.maximum(tf.sum(counted), 1));
};

/**
 * The same for a causal language model, whose labels are the tokens as it reads them (or -100): the logits of a token are
 * held against the label of the next. This is the one place where labels are moved.
 */
export const nextTokenCrossEntropy: Loss = (logits, labels, weights) =>
  tokenCrossEntropy(logits, next(labels, -100), next(weights, 0));

const lossesByObjective: Readonly<Record<DataKind, Loss>> = {
  classification: crossEntropy,
  regression: squaredError,
  'token-classification': tokenCrossEntropy,
  'causal-lm': nextTokenCrossEntropy,
};

/** @throws ConfigError for an objective that there is none of, with the nearest one. */
export function assertObjective(objective: DataKind): void {
  assertOneOf('kind', objective, Object.keys(lossesByObjective));
}

/**
 * The loss of an objective on a batch: what weighs nothing, and for an objective of tokens what is no token, plays no part.
 * @throws ConfigError for an unknown objective.
 */
export function objectiveLoss(
  objective: DataKind,
  outputs: Tensor,
  { labels, rowWeights, attentionMask }: Labelled,
): Scalar {
  assertObjective(objective);
  const loss = lossesByObjective[objective];
  if (labels.rank === 1) return loss(outputs, labels, rowWeights);
  const rows = tf.reshape(rowWeights, [-1, 1]); // [batch, 1]
  const weights = attentionMask ? tf.mul(attentionMask, rows) : tf.broadcastTo(rows, labels.shape);
  return loss(outputs, labels, weights);
}

/** What a batch counts beside others: the rows, or for labels of tokens the tokens, that its loss is the mean over. */
export function lossWeight(objective: DataKind, { labels, rowWeights, inputs }: Batch): number {
  const [rows = 0, tokens] = labels.shape;
  const weights = [...rowWeights.data];
  if (tokens === undefined) return weights.reduce((sum, weight) => sum + weight, 0);
  const first = objective === 'causal-lm' ? 1 : 0; // a row's first token is not predicted
  let sum = 0;
  for (let place = 0; place < rows * tokens; place++) {
    const isLabelled = place % tokens >= first && (labels.data[place] as number) >= 0;
    const weight = weights[Math.floor(place / tokens)] as number;
    if (isLabelled) sum += weight * (inputs.attentionMask?.data[place] ?? 1);
  }
  return sum;
}

function weightedMean(values: Tensor, weights: Tensor): Scalar {
  return tf.div(tf.sum(tf.mul(values, weights)), tf.sum(weights));
}

/** What stands one place later in each row, `last` at its end: `[batch, tokens]` -> `[batch, tokens]`. */
function next(x: Tensor, last: number): Tensor {
  const [batch, tokens] = x.shape as [number, number];
  return tf.concat([tf.slice(x, [0, 1], [batch, tokens - 1]), tf.fill([batch, 1], last, x.dtype as 'int32')], 1);
}
