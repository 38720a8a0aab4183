import * as tf from '@tensorflow/tfjs-core';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';

/** A lower bound of a sum of weights, so that a mean without any weight is 0 / MIN_SUM = 0. */
export const MIN_SUM = 1e-12;

/** Returns the mean of values weighted by a tensor of the same shape; 0 where all weights are 0. */
export function weightedMean(values: Tensor, weights: Tensor): Scalar {
  return tf.div(tf.sum(tf.mul(values, weights)), tf.maximum(tf.sum(weights), MIN_SUM));
}
