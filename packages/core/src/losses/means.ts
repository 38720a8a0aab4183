import * as tf from '@tensorflow/tfjs';
import type { Scalar, Tensor } from '@tensorflow/tfjs';

/** Below every sum of weights of which one counts: a mean over nothing is 0 / LEAST. */
export const LEAST = 1e-12;

/** The mean of values by weights of the same shape; 0 where nothing counts. */
export function weightedMean(values: Tensor, weights: Tensor): Scalar {
  return tf.div(tf.sum(tf.mul(values, weights)), tf.maximum(tf.sum(weights), LEAST));
}
