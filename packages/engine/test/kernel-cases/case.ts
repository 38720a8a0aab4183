import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import type { HostTensor, HostTensors, Tensors } from '@peftjs/core/method';
import type { PureFunction } from '@peftjs/core/runtime';
import { floats, integers } from '../cases.js';

/** A function, its inputs, and the inputs whose gradients are compared as well. */
export interface Case {
  readonly inputs: HostTensors;
  readonly fn: PureFunction;
  readonly gradients?: readonly string[];
  readonly tolerance?: number;
}

type Pair = readonly [readonly number[], readonly number[]];

const BROADCASTS: readonly Pair[] = [
  [
    [2, 3],
    [2, 3],
  ],
  [[2, 3], [3]],
  [
    [4, 1, 3],
    [2, 1],
  ],
  [[], [2, 3]],
  [[5], []],
  [[1, 1], [1]],
  [[0, 3], [3]],
];

/** Both operands, for every pair of shapes. */
export function pairs(make: (shape: readonly number[], seed: number) => HostTensor): HostTensors {
  return Object.fromEntries(
    BROADCASTS.flatMap(([a, b], index) => [
      [`a${index}`, make(a, 1)],
      [`b${index}`, make(b, 2)],
    ]),
  );
}

export function overPairs(op: (a: Tensor, b: Tensor) => Tensor): PureFunction {
  return (t) =>
    Object.fromEntries(BROADCASTS.map((_, index) => [`y${index}`, op(get(t, `a${index}`), get(t, `b${index}`))]));
}

export function binary(op: (a: Tensor, b: Tensor) => Tensor, low = -2, high = 2, tolerance = 1e-5): Case {
  const inputs = pairs((shape, seed) => floats(shape, low, high, seed));
  return { inputs, fn: overPairs(op), gradients: Object.keys(inputs), tolerance };
}

/** TensorFlow.js has no gradient for broadcast operands of some ops. */
export function binaryOfEqualShapes(op: (a: Tensor, b: Tensor) => Tensor): Case {
  return { ...binary(op), gradients: ['a0', 'b0'] };
}

export function logical(op: (a: Tensor, b: Tensor) => Tensor): Case {
  return { inputs: pairs((shape, seed) => integers(shape, 0, 3, seed)), fn: overPairs(op) };
}

export function unary(op: (x: Tensor) => Tensor, low = -2, high = 2, tolerance = 1e-5): Case {
  const inputs = { x: floats([3, 4], low, high), scalar: floats([], low, high, 2), empty: floats([0], low, high) };
  const fn: PureFunction = (t) => ({ y: op(get(t, 'x')), s: op(get(t, 'scalar')), e: op(get(t, 'empty')) });
  return { inputs, fn, gradients: ['x', 'scalar', 'empty'], tolerance };
}

/** A function of one float tensor, with its gradient. */
export function of(
  shape: readonly number[],
  op: (x: Tensor) => Tensor | Tensor[],
  gradient = true,
  tolerance = 1e-5,
): Case {
  const fn: PureFunction = (t) => {
    const outputs = op(get(t, 'x'));
    return Array.isArray(outputs) ? Object.fromEntries(outputs.map((y, index) => [`y${index}`, y])) : { y: outputs };
  };
  return { inputs: { x: floats(shape) }, fn, gradients: gradient ? ['x'] : [], tolerance };
}

export function get(tensors: Tensors, name: string): Tensor {
  return tensors[name] as Tensor;
}

export const isBool = (x: Tensor): Tensor => tf.greater(x, 0.5);
