import * as tf from '@tensorflow/tfjs';
import type { Scalar, Tensor, Tensor1D } from '@tensorflow/tfjs';

/** A loss over the rows of a batch: outputs `[batch, classes]`, labels and row weights `[batch]` -> a scalar. */
export type Loss = (outputs: Tensor, labels: Tensor, rowWeights: Tensor) => Scalar;

/** Cross entropy of the softmax of logits `[batch, classes]` at class numbers `[batch]`, averaged over the rows that count. */
export const crossEntropy: Loss = (logits, labels, rowWeights) => {
  const classes = logits.shape[1] as number;
  const chosen = tf.mul(tf.logSoftmax(logits), tf.oneHot(labels as Tensor1D, classes)); // [batch, classes]
  return weightedMean(tf.neg(tf.sum(chosen, -1)), rowWeights);
};

/** Squared error of outputs `[batch, 1]` against targets `[batch]`, averaged over the rows that count. */
export const squaredError: Loss = (outputs, targets, rowWeights) =>
  weightedMean(tf.squaredDifference(tf.reshape(outputs, targets.shape), targets), rowWeights);

/** The loss of each objective. */
export const losses: Readonly<Record<'classification' | 'regression', Loss>> = {
  classification: crossEntropy,
  regression: squaredError,
};

function weightedMean(values: Tensor, weights: Tensor): Scalar {
  return tf.div(tf.sum(tf.mul(values, weights)), tf.sum(weights));
}
