import type { Tensor } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import { ShapeError } from '../errors.js';

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
