import type { GradSaveFunc, Tensor } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import { fromRows, linear, toRows } from './linear.js';

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
  return tf.customGrad((...args) => {
    const [x, save] = args as [Tensor, GradSaveFunc];
    const { shape } = x;
    // On some backends saving means copying. Kept tensors, such as an executor's inputs, live long enough without it.
    save(weight.kept ? [] : [weight]);
    return {
      value: linear(x, weight, bias),
      gradFunc: (dy, [saved = weight]) => fromRows(tf.matMul(toRows(dy), saved, false, true), shape), // [rows, in]
    };
  })(x);
}
