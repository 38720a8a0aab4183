import { sizeOf, UnsupportedError } from '@peftjs/core/method';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { tensorOf } from '../values.js';
import { numberIn, tensor, textIn, type Call, type Inputs, type OperatorTable } from './operator.js';

/** Products of tensors. Those with a constant matrix are modules: see patterns/modules.ts. */
export const products: OperatorTable = {
  MatMul: (inputs) => matMul(tensor(inputs, 0), tensor(inputs, 1)),
  Gemm: gemm,
  Einsum: einsum,
};

/** A vector on the left is a row, on the right a column; axes before the last two broadcast. */
export function matMul(a: Tensor, b: Tensor): Tensor {
  const [rows, columns] = [a.rank === 1 ? tf.expandDims(a, 0) : a, b.rank === 1 ? tf.expandDims(b, 1) : b];
  const batch = tf.broadcast_util.assertAndGetBroadcastShape(rows.shape.slice(0, -2), columns.shape.slice(0, -2));
  const product = tf.matMul(spread(rows, batch), spread(columns, batch));
  const axes = [...(a.rank === 1 ? [product.rank - 2] : []), ...(b.rank === 1 ? [product.rank - 1] : [])];
  return axes.length === 0 ? product : tf.squeeze(product, axes);
}

/** Matrices with other leading axes. TensorFlow.js only repeats a single matrix by itself. */
function spread(x: Tensor, batch: readonly number[]): Tensor {
  const matrix = x.shape.slice(-2);
  const own = x.shape.slice(0, -2);
  const shape = [...Array<number>(batch.length - own.length).fill(1), ...own, ...matrix];
  const aligned = x.rank === shape.length ? x : tf.reshape(x, shape);
  const isWhole = sizeOf(own) === 1 || own.join() === batch.join();
  return isWhole ? aligned : tf.mul(aligned, tf.ones([...batch, ...matrix]));
}

/** alpha A' B' + beta C */
function gemm(inputs: Inputs, call: Call): Tensor {
  const [left, right] = ['transA', 'transB'].map((name) => numberIn(call, name, 0) === 1);
  const product = tf.matMul(tensor(inputs, 0), tensor(inputs, 1), left, right);
  const [alpha, beta] = [numberIn(call, 'alpha', 1), numberIn(call, 'beta', 1)];
  const scaled = alpha === 1 ? product : tf.mul(product, alpha);
  if (inputs[2] === undefined) return scaled;
  const c = tensorOf(inputs[2]);
  return tf.add(scaled, beta === 1 ? c : tf.mul(c, beta));
}

/** The product of two tensors over the axes that the output does not have. */
function einsum(inputs: Inputs, call: Call): Tensor {
  const equation = textIn(call, 'equation', '').replaceAll(' ', '');
  const [, left, right, out] = /^([a-zA-Z]+),([a-zA-Z]+)->([a-zA-Z]*)$/.exec(equation) ?? [];
  const letters = left === undefined || right === undefined ? [] : [...new Set(left + right)];
  const repeats = (own: string): boolean => new Set(own).size < own.length;
  if (left === undefined || right === undefined || out === undefined || repeats(left) || repeats(right)) {
    throw new UnsupportedError(`an Einsum of '${equation}'`);
  }
  const summed = letters.filter((letter) => !out.includes(letter));
  const order = [...out.split(''), ...summed];
  const aligned = (x: Tensor, own: string): Tensor => {
    const axes = order.map((letter) => own.indexOf(letter));
    const dims = axes.map((axis) => (axis < 0 ? 1 : (x.shape[axis] as number)));
    const present = axes.filter((axis) => axis >= 0);
    return tf.reshape(tf.transpose(x, present), dims);
  };
  const product = tf.mul(aligned(tensor(inputs, 0), left), aligned(tensor(inputs, 1), right));
  const axes = summed.map((_, index) => out.length + index);
  return axes.length === 0 ? product : tf.sum(product, axes);
}
