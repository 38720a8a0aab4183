import type { Tensor } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import { withGradient } from './custom.js';

/**
 * Returns -log softmax(logits)[label] of every row, in few passes over the logits, which for a large vocabulary are the
 * largest tensor of a step. First-order gradients only.
 *
 * @param logits `[rows, classes]`
 * @param labels int32 `[rows]`, each in [0, classes)
 * @returns `[rows]`
 */
export function softmaxCrossEntropy(logits: Tensor, labels: Tensor): Tensor {
  const [rows, classes] = logits.shape as [number, number];
  const surprise = (logits: Tensor): { value: Tensor; saved: [Tensor, Tensor, Tensor] } => {
    const shifted = tf.sub(logits, tf.max(logits, 1, true)); // [rows, classes]
    const weights = tf.exp(shifted);
    const total = tf.sum(weights, 1); // [rows]
    const places = tf.stack([tf.range(0, rows, 1, 'int32'), labels], 1); // [rows, 2]
    return { value: tf.sub(tf.log(total), tf.gatherND(shifted, places)), saved: [weights, total, labels] };
  };
  return withGradient([logits], surprise, (dy, saved) => gradient(dy, saved, classes));
}

/** dlogits = dy (softmax(logits) - onehot(label)) */
function gradient(dy: Tensor, [weights, total, labels]: [Tensor, Tensor, Tensor], classes: number): Tensor {
  const column = (x: Tensor): Tensor => tf.reshape(x, [-1, 1]); // [rows, 1]
  // Not tf.oneHot: on WASM it writes integers into a float tensor.
  const chosen = tf.cast(tf.equal(column(labels), tf.range(0, classes, 1, 'int32')), 'float32'); // [rows, classes]
  return tf.sub(tf.mul(weights, column(tf.div(dy, total))), tf.mul(chosen, column(dy)));
}
