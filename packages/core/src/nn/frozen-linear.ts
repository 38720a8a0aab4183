import type { GradSaveFunc, Tensor } from '@tensorflow/tfjs';
import * as tf from '@tensorflow/tfjs';
import { fromRows, linear, toRows } from './linear.js';

/**
 * `linear` with a weight and a bias that are not trained: dx = dy W^T is all its gradient, for which neither x nor the product
 * has to be kept. First-order gradients of x only.
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
    // On some backends to save is to copy. What is kept, as an executor keeps its inputs, lives long enough without.
    save(weight.kept ? [] : [weight]);
    return {
      value: linear(x, weight, bias),
      gradFunc: (dy, [saved = weight]) => fromRows(tf.matMul(toRows(dy), saved, false, true), shape), // [rows, in]
    };
  })(x);
}
