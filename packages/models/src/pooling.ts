import type { Tensor } from '@tensorflow/tfjs';
import * as tf from '@tensorflow/tfjs';

/** The mean over a row's tokens: x [B, S, H], mask [B, S] of 1 and 0 -> [B, H]; zeros for a row without tokens. */
export function tokenMean(x: Tensor, mask: Tensor): Tensor {
  const [batch, tokens, width] = x.shape as [number, number, number];
  const count = tf.maximum(tf.sum(mask, 1, true), 1); // [B, 1]
  const shares = tf.reshape(tf.div(mask, count), [batch, 1, tokens]);
  return tf.reshape(tf.matMul(shares, x), [batch, width]); // [B, 1, S] x [B, S, H] -> [B, 1, H] -> [B, H]
}
