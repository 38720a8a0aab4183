import type { GradSaveFunc, Tensor, Tensor2D } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';

/**
 * Gathers rows of a table. First-order gradients only.
 *
 * @param table `[rows, features]`
 * @param ids int32, `[..]`, each in [0, rows)
 * @returns `[.., features]`
 */
export function embedding(table: Tensor, ids: Tensor): Tensor {
  return tf.customGrad((...args) => {
    const [table, save] = args as [Tensor2D, GradSaveFunc];
    save([ids]);
    return { value: tf.gather(table, ids), gradFunc: (dy, [ids]) => scattered(dy, ids as Tensor, table.shape) };
  })(table);
}

/**
 * Adds rows up at their ids. ScatterNd runs on every backend; the segment sum in tf.gather's own gradient does not run
 * on WASM.
 */
function scattered(dy: Tensor, ids: Tensor, shape: [number, number]): Tensor {
  return tf.scatterND(tf.reshape(ids, [ids.size, 1]), tf.reshape(dy, [ids.size, shape[1]]), shape);
}
