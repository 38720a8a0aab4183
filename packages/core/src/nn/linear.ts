import type { Tensor } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import { ShapeError } from '../errors.js';
import { withGradient } from './custom.js';

/**
 * Returns y = x W + b over the last axis.
 *
 * @param x `[.., in]`
 * @param weight `[in, out]`
 * @param bias `[out]`
 * @returns `[.., out]`
 * @throws ShapeError when the last axis of x is not `in`.
 */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  const [inFeatures] = weight.shape;
  if (weight.rank !== 2 || x.shape.at(-1) !== inFeatures) {
    throw new ShapeError(
      `linear needs x [.., in] and a weight [in, out], got [${x.shape.join(', ')}] and [${weight.shape.join(', ')}]`,
    );
  }
  const product = tf.matMul(toRows(x), weight); // [rows, out]
  // The bias is added while y is a matrix, so that ONNX Runtime fuses product and bias.
  const y = bias === undefined ? product : tf.add(product, bias);
  return fromRows(y, x.shape);
}

/**
 * `linear` with a frozen weight and bias. Its only gradient is dx = dy W^T, for which neither x nor the product must be
 * kept. First-order gradients of x only.
 *
 * @param x `[.., in]`
 * @param weight `[in, out]`
 * @param bias `[out]`
 * @returns `[.., out]`
 * @throws ShapeError when the last axis of x is not `in`.
 */
export function frozenLinear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  return withGradient(
    [x],
    // On some backends saving means copying. Kept tensors, such as an executor's inputs, live long enough without it.
    (x) => ({ value: linear(x, weight, bias), saved: weight.kept ? [] : [weight] }),
    (dy, [saved = weight]) => fromRows(tf.matMul(toRows(dy), saved, false, true), x.shape), // [rows, in]
  );
}

/** Flattens all axes but the last: `[.., features]` -> `[rows, features]`. */
export function toRows(x: Tensor): Tensor {
  return x.rank === 2 ? x : tf.reshape(x, [-1, lastOf(x.shape)]);
}

/** Restores the leading axes of the shape `like`: `[rows, features]` -> `[..like without its last axis, features]`. */
export function fromRows(rows: Tensor, like: readonly number[]): Tensor {
  return like.length === 2 ? rows : tf.reshape(rows, [...like.slice(0, -1), lastOf(rows.shape)]);
}

function lastOf(shape: readonly number[]): number {
  return shape.at(-1) ?? 1;
}

/**
 * Gathers rows of a table. First-order gradients only.
 *
 * @param table `[rows, features]`
 * @param ids int32, `[..]`, each in [0, rows)
 * @returns `[.., features]`
 */
export function embedding(table: Tensor, ids: Tensor): Tensor {
  return withGradient(
    [table],
    (table) => ({ value: tf.gather(table, ids), saved: [ids] as [Tensor] }),
    (dy, [ids]) => scattered(dy, ids, table.shape as [number, number]),
  );
}

/**
 * Adds rows up at their ids. ScatterNd runs on every backend; the segment sum in tf.gather's own gradient does not run
 * on WASM.
 */
function scattered(dy: Tensor, ids: Tensor, shape: [number, number]): Tensor {
  return tf.scatterND(tf.reshape(ids, [ids.size, 1]), tf.reshape(dy, [ids.size, shape[1]]), shape);
}
