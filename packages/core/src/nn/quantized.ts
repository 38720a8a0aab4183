import type { Tensor } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import { runFused } from './fused.js';
import { fromRows, toRows } from './linear.js';

/** A frozen 8-bit weight inside a step: W = values * scale. */
export interface QuantizedWeight {
  /** Q, `[in, out]`. */
  readonly values: Tensor;
  /** The scale of each output, `[out]`. */
  readonly scale: Tensor;
}

/**
 * Returns y = x W + b over the last axis, where W is frozen and held in 8 bits. Where the backend multiplies integers,
 * x is rounded to 8 bits as well, with one scale per row, r = max |x| / 127: y = r s (round(x / r) Q) + b, with exact
 * sums. Elsewhere W is expanded to float32.
 *
 * The gradient is that of x W + b: dx = dy W^T, again with integers, each row of dy s rounded. First-order gradients
 * only, and none of W.
 *
 * @param x `[.., in]`
 * @param bias `[out]`
 * @returns `[.., out]`
 */
export function quantizedLinear(x: Tensor, weight: QuantizedWeight, bias?: Tensor): Tensor {
  const product = quantizedProduct(toRows(x), weight); // [rows, out]
  return fromRows(bias === undefined ? product : tf.add(product, bias), x.shape);
}

/** Returns the weight as floats: `[in, out]`. */
export function dequantized({ values, scale }: QuantizedWeight): Tensor {
  return runFused('PeftDequantize', { values, scale }) ?? tf.mul(tf.cast(values, 'float32'), scale);
}

/** x `[rows, in]` -> `[rows, out]` */
function quantizedProduct(x: Tensor, { values, scale }: QuantizedWeight): Tensor {
  return tf.customGrad((...args) => {
    const [x] = args as [Tensor];
    const y = runFused('PeftInt8MatMul', { x, values, scale }) ?? tf.matMul(x, dequantized({ values, scale }));
    return { value: y, gradFunc: (dy) => gradient(dy, { values, scale }) };
  })(x);
}

/** dy `[rows, out]` -> `[rows, in]` */
function gradient(dy: Tensor, { values, scale }: QuantizedWeight): Tensor {
  const dx = runFused('PeftInt8MatMulGrad', { dy, values, scale });
  return dx ?? tf.matMul(dy, dequantized({ values, scale }), false, true);
}
