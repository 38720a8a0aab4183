import type { Tensor } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import { ConfigError } from '../errors.js';

/**
 * Inverted dropout as a pure function: elements whose uniform number is below `rate` become zero, the others are scaled
 * by 1 / (1 - rate). Random numbers drawn inside a compiled step would be the same at every step, so they are an input.
 *
 * @param x any shape
 * @param rate in [0, 1)
 * @param uniform numbers in [0, 1) that broadcast to x
 * @throws ConfigError when the rate is outside [0, 1).
 */
export function dropout(x: Tensor, rate: number, uniform: Tensor): Tensor {
  if (!(rate >= 0 && rate < 1)) throw new ConfigError(`dropout needs a rate in [0, 1), got ${rate}`, 'rate');
  if (rate === 0) return x;
  const kept = tf.cast(tf.greaterEqual(uniform, rate), 'float32'); // 0 or 1
  return tf.mul(x, tf.mul(kept, 1 / (1 - rate)));
}
