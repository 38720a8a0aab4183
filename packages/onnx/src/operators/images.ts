import { UnsupportedError } from '@peftjs/core/method';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { checkedShape, numbersOf, tensorOf } from '../values.js';
import { numberIn, numbersIn, tensor, textIn, type Call, type Inputs, type OperatorTable } from './operator.js';
import { matMul } from './products.js';

/** Operators on images, [batch, channels, height, width]. */
export const images: OperatorTable = { Conv: patches, Resize: resize };

/**
 * A convolution whose patches do not overlap, as in the embedding of a vision transformer: one product for all patches.
 * Pixels beyond the last whole patch are not read.
 */
function patches(inputs: Inputs, call: Call): Tensor {
  const [x, kernel] = [tensor(inputs, 0), tensor(inputs, 1)];
  const size = kernel.shape.slice(2);
  const others = { strides: size.map(() => 1), pads: size.flatMap(() => [0, 0]), dilations: size.map(() => 1) };
  const [strides, pads, dilations] = Object.entries(others).map(([name, none]) => numbersIn(call, name) ?? none);
  const isPlain = numberIn(call, 'group', 1) === 1 && [...(pads ?? [])].every((pad) => pad === 0);
  const isWhole = ['NOTSET', 'VALID'].includes(textIn(call, 'auto_pad', 'NOTSET'));
  const isDense = size.every((side, axis) => side === 1 || dilations?.[axis] === 1);
  if (x.rank !== 4 || !isPlain || !isWhole || !isDense || strides?.join() !== size.join()) {
    throw new UnsupportedError(
      `a convolution of ${size.join(' x ')} with strides ${strides?.join(', ')}; those of patches are known, whose strides are their size, without padding and groups`,
    );
  }
  const [batch, channels, height, width] = x.shape as [number, number, number, number];
  const [side, across] = size as [number, number];
  const [rows, columns, out] = [Math.floor(height / side), Math.floor(width / across), kernel.shape[0]];
  const isCut = rows * side < height || columns * across < width;
  const read = isCut ? tf.slice(x, [0, 0, 0, 0], [batch, channels, rows * side, columns * across]) : x;
  const grid = tf.transpose(tf.reshape(read, [batch, channels, rows, side, columns, across]), [0, 2, 4, 1, 3, 5]);
  const vectors = tf.reshape(grid, [batch, rows * columns, channels * side * across]);
  const product = tf.matMul(vectors, tf.reshape(kernel, [1, out, channels * side * across]), false, true);
  const sum = inputs[2] === undefined ? product : tf.add(product, tensorOf(inputs[2]));
  return tf.reshape(tf.transpose(sum, [0, 2, 1]), [batch, out, rows, columns]);
}

/** Weights of the pixels around a place, by their distance from it. */
const KERNELS: Readonly<Record<string, (distance: Tensor, a: number) => Tensor>> = {
  linear: (distance) => tf.relu(tf.sub(1, distance)),
  cubic(t, a) {
    const [square, cube] = [tf.square(t), tf.mul(tf.square(t), t)];
    const near = tf.add(tf.sub(tf.mul(cube, a + 2), tf.mul(square, a + 3)), 1);
    const far = tf.add(tf.sub(tf.mul(cube, a), tf.mul(square, 5 * a)), tf.sub(tf.mul(t, 8 * a), 4 * a));
    return tf.where(tf.lessEqual(t, 1), near, tf.where(tf.less(t, 2), far, tf.zerosLike(t)));
  },
};

/** Interpolates rows and columns, as exports of networks do with their tables of positions: one product for each. */
function resize(inputs: Inputs, call: Call): Tensor {
  const x = tensor(inputs, 0);
  const [mode, centre] = [textIn(call, 'mode', ''), textIn(call, 'coordinate_transformation_mode', 'half_pixel')];
  const kernel = KERNELS[mode];
  const isPlain =
    [numberIn(call, 'antialias', 0), numberIn(call, 'exclude_outside', 0)].every((flag) => flag === 0) &&
    textIn(call, 'keep_aspect_ratio_policy', 'stretch') === 'stretch' &&
    numbersIn(call, 'axes') === undefined;
  const to = inputs[3] === undefined ? undefined : numbersOf(inputs[3], 'sizes');
  if (!kernel || !isPlain || x.rank !== 4 || !to || !['half_pixel', 'pytorch_half_pixel'].includes(centre)) {
    throw new UnsupportedError(
      `a Resize with mode '${mode}' and '${centre}'; linear and cubic ones to sizes are known`,
    );
  }
  const [, , rows, columns] = checkedShape(to) as [number, number, number, number];
  const [height, width] = x.shape.slice(2) as [number, number];
  const shares = (from: number, into: number): Tensor =>
    interpolation(from, into, centre, (distance) => kernel(distance, numberIn(call, 'cubic_coeff_a', -0.75)));
  const wide = matMul(x, tf.transpose(shares(width, columns))); // [.., height, columns]
  return matMul(shares(height, rows), wide);
}

/** The share of each of `from` pixels in each of `to` pixels, [to, from]. A pixel beyond an edge is the edge's. */
function interpolation(from: number, to: number, centre: string, kernel: (distance: Tensor) => Tensor): Tensor {
  const size = (count: number): Tensor => tf.cast(tf.scalar(count, 'int32'), 'float32');
  const numbers = (count: number): Tensor => tf.cast(tf.range(0, count, 1, 'int32'), 'float32');
  const centres = tf.sub(tf.mul(tf.add(numbers(to), 0.5), tf.div(size(from), size(to))), 0.5);
  // [to], in pixels of the source; PyTorch puts a single one at 0
  const places = centre === 'half_pixel' ? centres : tf.mul(centres, tf.minimum(tf.sub(size(to), 1), 1));
  const around = tf.sub(numbers(from + 2 * REACH), REACH); // [from + 2 * REACH]
  const inside = tf.minimum(tf.maximum(around, 0), tf.sub(size(from), 1));
  const isAt = tf.equal(tf.expandDims(inside, 1), tf.expandDims(numbers(from), 0));
  const weights = kernel(tf.abs(tf.sub(tf.expandDims(places, 1), tf.expandDims(around, 0))));
  return tf.matMul(weights, tf.cast(isAt, 'float32') as tf.Tensor2D);
}

/** How far a kernel reads from a place. */
const REACH = 2;
