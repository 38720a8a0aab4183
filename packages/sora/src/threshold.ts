import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';

/**
 * T_t(x) = sign(x) max(|x| - t, 0), the proximal operator of t |x|. What it makes zero is +0, never -0.
 *
 * @param x any shape
 * @param threshold t >= 0, a number or a scalar
 */
export function softThreshold(x: Tensor, threshold: number | Tensor): Tensor {
  return tf.where(tf.greater(tf.abs(x), threshold), towardsZero(x, threshold), tf.zerosLike(x));
}

/**
 * The operator that SoRA's released code applies: zero below 2 t, but for |x| = t, which stays; sign(x) (|x| - t) from 2 t
 * on. It jumps by t at 2 t, where the proximal operator is continuous. What it makes zero is +0, never -0.
 *
 * @param x any shape
 * @param threshold t >= 0, a number or a scalar
 */
export function referenceThreshold(x: Tensor, threshold: number | Tensor): Tensor {
  const zeros = tf.zerosLike(x);
  const size = tf.abs(x);
  const above = tf.where(tf.greaterEqual(size, tf.mul(threshold, 2)), towardsZero(x, threshold), zeros);
  const kept = tf.where(tf.equal(size, threshold), x, above);
  return tf.where(tf.greater(size, 0), kept, zeros);
}

/** x moved by `step` towards zero. */
function towardsZero(x: Tensor, step: number | Tensor): Tensor {
  return tf.sub(x, tf.mul(tf.sign(x), step));
}
