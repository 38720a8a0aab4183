import type { Tensor, Tensor2D } from '@tensorflow/tfjs';
import * as tf from '@tensorflow/tfjs';

/**
 * Rows of a table. First-order gradients only.
 *
 * @param table `[rows, features]`
 * @param ids int32, `[..]`, each in [0, rows)
 * @returns `[.., features]`
 */
export function embedding(table: Tensor, ids: Tensor): Tensor {
  const [, features] = table.shape as [number, number];
  const flat = tf.reshape(ids, [ids.size, 1]);
  return tf.customGrad((table) => ({
    value: tf.gather(table as Tensor, ids),
    // ScatterNd adds up repeated rows; the segment sum that tf.gather's own gradient asks for is missing on WASM.
    gradFunc: (dy) => tf.scatterND(flat, tf.reshape(dy, [ids.size, features]), (table as Tensor2D).shape),
  }))(table);
}
