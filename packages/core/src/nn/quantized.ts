import type { Tensor } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import { withGradient } from './custom.js';
import { runFused } from './fused.js';
import { fromRows, toRows } from './linear.js';

/**
 * A frozen weight in few bits inside a step, as `@peftjs/core/model` holds it (`QuantizedParts`): a matrix W
 * `[in, out]` or a table `[words, width]`.
 */
export interface QuantizedWeight {
  /** 8 bits: Q, in the shape of the weight. 4 bits: q, `[out * blocks, 16]`, two numbers a byte, low halves first. */
  readonly values: Tensor;
  /** 8 bits: s, `[out]` of a matrix, `[words, 1]` of a table. 4 bits: the sixteenth of a step, `[out * blocks]`. */
  readonly scale: Tensor;
  /** 4 bits: the zero of each block, in sixteenths of a step, `[out * blocks]`. */
  readonly zero?: Tensor;
  /** 4 bits: the step with which each output is rounded to 8 bits, `[out]`. */
  readonly step?: Tensor;
}

/**
 * Returns y = x W + b over the last axis, where W is frozen and held in few bits; a table is the matrix of its rows'
 * outputs. Where the backend multiplies integers, x is rounded to 8 bits, with one scale per row, r = max |x| / 127,
 * and so are the outputs of a 4-bit W: y = r s (round(x / r) Q) + b, with exact sums. Elsewhere W is expanded to
 * float32.
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

/** Returns the weight as floats: `[in, out]`, or the table `[words, width]`. */
export function dequantized(weight: QuantizedWeight): Tensor {
  const { values, scale, zero } = weight;
  const whole = runFused('PeftDequantize', { ...weight });
  if (whole) return whole;
  if (!zero) return tf.mul(tf.cast(values, 'float32'), scale);
  const pairs = tf.cast(values, 'float32');
  const high = tf.floor(tf.div(pairs, 16));
  const numbers = tf.concat([tf.mul(tf.sub(pairs, tf.mul(high, 16)), 16), tf.mul(high, 16)], 1); // [out * blocks, 32]
  const blocks = tf.mul(tf.sub(numbers, tf.reshape(zero, [-1, 1])), tf.reshape(scale, [-1, 1]));
  return tf.transpose(tf.reshape(blocks, [outputsOf(weight), -1]));
}

/**
 * Gathers rows of a table in 8 bits. Without gradients.
 *
 * @param ids int32, `[..]`, each in [0, words)
 * @returns `[.., width]`
 */
export function quantizedEmbedding(table: QuantizedWeight, ids: Tensor): Tensor {
  const { values, scale } = table;
  return (
    runFused('PeftDequantizeRows', { values, scale, ids }) ??
    tf.mul(tf.cast(tf.gather(values, ids), 'float32'), tf.gather(scale, ids))
  );
}

/** x `[rows, in]` -> `[rows, out]` */
function quantizedProduct(x: Tensor, weight: QuantizedWeight): Tensor {
  const product = (x: Tensor): Tensor =>
    runFused('PeftInt8MatMul', { x, ...weight }) ?? tf.matMul(x, dequantized(weight), false, isTable(weight));
  const gradient = (dy: Tensor): Tensor =>
    runFused('PeftInt8MatMulGrad', { dy, ...weight }) ?? tf.matMul(dy, dequantized(weight), false, !isTable(weight));
  return withGradient([x], (x) => ({ value: product(x), saved: [] }), gradient);
}

/** Whether rows, not columns, of a matrix in 8 bits have a scale each. */
export function isTable({ scale }: { readonly scale: { readonly shape: readonly number[] } }): boolean {
  return scale.shape.length === 2;
}

function outputsOf({ step }: QuantizedWeight): number {
  return step?.size ?? 1;
}
