import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';

/** The smallest divisor, as in torch's `normalize`. */
const MIN_NORM = 1e-12;

/** Returns x / max(||x||, 1e-12) of each row: x `[.., width]` -> `[.., width]`; a row of zeros stays zero. */
export function l2Normalize(x: Tensor): Tensor {
  const squares = tf.sum(tf.square(x), -1, true); // [.., 1]
  return tf.mul(x, tf.rsqrt(tf.maximum(squares, MIN_NORM ** 2)));
}
