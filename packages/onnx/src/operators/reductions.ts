import { sizeOf } from '@peftjs/core/method';
import { rmsNorm, layerNorm } from '@peftjs/core/nn';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { axisOf, isHost, numbersOf, tensorOf } from '../values.js';
import { divided } from './elementwise.js';
import {
  input,
  made,
  numberIn,
  listIn,
  only,
  tensor,
  type Call,
  type Inputs,
  type Operator,
  type OperatorTable,
} from './operator.js';

/** Operators that reduce axes, or normalise along them. */
export const reductions: OperatorTable = {
  ReduceSum: reduce(tf.sum, (numbers) => numbers.reduce((sum, x) => sum + x, 0)),
  ReduceMean: reduce(mean),
  ReduceMax: reduce(tf.max, (numbers) => Math.max(...numbers)),
  ReduceMin: reduce(tf.min, (numbers) => Math.min(...numbers)),
  ReduceProd: reduce(tf.prod, (numbers) => numbers.reduce((product, x) => product * x, 1)),
  ReduceSumSquare: reduce((x, axes, keep) => tf.sum(tf.square(x), axes, keep)),
  ReduceL1: reduce((x, axes, keep) => tf.sum(tf.abs(x), axes, keep)),
  ReduceL2: reduce((x, axes, keep) => rooted(tf.sum(tf.square(x), axes, keep))),
  ArgMax: only({ select_last_index: 0 }, arg(tf.argMax)),
  ArgMin: only({ select_last_index: 0 }, arg(tf.argMin)),
  CumSum: cumSum,
  Softmax: (inputs, call) => alongAxis(tensor(inputs, 0), call, tf.softmax),
  LogSoftmax: (inputs, call) => alongAxis(tensor(inputs, 0), call, tf.logSoftmax),
  LpNormalization: (inputs, call) =>
    lpNormalized(tensor(inputs, 0), numberIn(call, 'axis', -1), numberIn(call, 'p', 2)),
  LayerNormalization: layerNormalization,
  RMSNormalization: rmsNormalization,
  SimplifiedLayerNormalization: rmsNormalization,
};

type Reduction = (x: Tensor, axes: number[], keep: boolean) => Tensor;

/** A reduction, on the host if it is of a whole host array. */
function reduce(compute: Reduction, onHost?: (numbers: readonly number[]) => number): Operator {
  return (inputs, call) => {
    const x = input(inputs, 0);
    const rank = x.shape.length;
    const given = listIn(inputs, 1, call, 'axes');
    const isWhole = given === undefined || given.length === 0;
    if (isWhole && numberIn(call, 'noop_with_empty_axes', 0) === 1) {
      return onHost ? x : compute(tf.expandDims(tensorOf(x), -1), [rank], false); // squares and the like are still taken
    }
    const axes = isWhole ? x.shape.map((_, axis) => axis) : given.map((axis) => axisOf(axis, rank));
    const keep = numberIn(call, 'keepdims', 1) === 1;
    if (isHost(x) && onHost && axes.length === rank) {
      return { ...x, shape: keep ? x.shape.map(() => 1) : [], data: [onHost(x.data)] };
    }
    return compute(tensorOf(x), axes, keep);
  };
}

/** The mean; of integers it is rounded towards zero. */
function mean(x: Tensor, axes: number[], keep: boolean): Tensor {
  if (x.dtype !== 'int32') return tf.mean(x, axes, keep);
  const count = sizeOf(axes.map((axis) => x.shape[axis] as number));
  return divided([tf.sum(x, axes, keep), tf.scalar(count, 'int32')]) as Tensor;
}

/** The square root; of an integer it is rounded towards zero. */
function rooted(x: Tensor): Tensor {
  return x.dtype === 'int32' ? tf.cast(tf.sqrt(tf.cast(x, 'float32')), 'int32') : tf.sqrt(x);
}

function arg(compute: (x: Tensor, axis: number) => Tensor): Operator {
  return made('int', (inputs, call) => {
    const x = tensor(inputs, 0);
    const axis = axisOf(numberIn(call, 'axis', 0), x.rank);
    const found = compute(x, axis);
    return numberIn(call, 'keepdims', 1) === 1 ? tf.expandDims(found, axis) : found;
  });
}

function cumSum(inputs: Inputs, call: Call): Tensor {
  const x = tensor(inputs, 0);
  const axis = axisOf(numbersOf(inputs[1], 'axis')[0] ?? 0, x.rank);
  return tf.cumsum(x, axis, numberIn(call, 'exclusive', 0) === 1, numberIn(call, 'reverse', 0) === 1);
}

/** Computes along an axis. Before opset 13, all axes from the given one on are one axis. */
function alongAxis(x: Tensor, call: Call, compute: (x: Tensor, axis: number) => Tensor): Tensor {
  const isOld = call.opset < 13;
  const axis = axisOf(numberIn(call, 'axis', isOld ? 1 : -1), x.rank);
  if (axis === x.rank - 1) return compute(x, axis);
  if (isOld) {
    const rows = sizeOf(x.shape.slice(0, axis));
    return tf.reshape(compute(tf.reshape(x, [rows, -1]), 1), x.shape);
  }
  // TensorFlow.js computes along the last axis only.
  const order = [...x.shape.keys()].map((each) => (each === axis ? x.rank - 1 : each === x.rank - 1 ? axis : each));
  return tf.transpose(compute(tf.transpose(x, order), x.rank - 1), order);
}

function lpNormalized(x: Tensor, axis: number, p: number): Tensor {
  return tf.div(x, p === 1 ? tf.sum(tf.abs(x), axis, true) : tf.sqrt(tf.sum(tf.square(x), axis, true)));
}

/**
 * A norm whose gain is not a constant of the graph, or over several axes; others are modules. Also returns the mean
 * and the inverse standard deviation, if the node has these outputs.
 */
function layerNormalization(inputs: Inputs, call: Call): readonly Tensor[] {
  const x = tensor(inputs, 0);
  const axis = axisOf(numberIn(call, 'axis', -1), x.rank);
  const [own, epsilon] = [x.shape.slice(axis), numberIn(call, 'epsilon', 1e-5)];
  const width = sizeOf(own);
  const rows = tf.reshape(x, [-1, width]);
  const [gain, shift] = [tensor(inputs, 1), inputs[2] === undefined ? tf.scalar(0) : tensorOf(inputs[2])].map((part) =>
    tf.reshape(tf.broadcastTo(part, own), [width]),
  ) as [Tensor, Tensor];
  const normed = tf.reshape(layerNorm(rows, gain, shift, epsilon), x.shape);
  if (call.outputs === 1) return [normed];
  const { mean, variance } = tf.moments(rows, 1);
  const shape = x.shape.map((dim, each) => (each < axis ? dim : 1));
  return [normed, tf.reshape(mean, shape), tf.reshape(tf.rsqrt(tf.add(variance, epsilon)), shape)];
}

function rmsNormalization(inputs: Inputs, call: Call): Tensor {
  return rmsNorm(tensor(inputs, 0), tensor(inputs, 1), numberIn(call, 'epsilon', 1e-5));
}
