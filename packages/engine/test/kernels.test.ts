import * as tf from '@tensorflow/tfjs';
import type { Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Executor, HostTensor, HostTensors, PureFunction, Tensors } from '@peftjs/core';
import { attention, dropout, embedding, gelu, layerNorm, linear, maskBias } from '@peftjs/core/nn';
import { compiled, eager } from '@peftjs/engine';
import type { OrtTensor } from '@peftjs/engine';
import { kernelTable } from '../src/compiled/kernels/table.js';
import { TRACE_BACKEND, traceBackend } from '../src/compiled/trace-backend.js';
import { distance, floats, integers, runOnce, withGradients } from './cases.js';

/** A function, what it gets, and the inputs whose gradients are compared too. */
interface Case {
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

/** Both operands of every pair of shapes. */
function pairs(make: (shape: readonly number[], seed: number) => HostTensor): HostTensors {
  return Object.fromEntries(
    BROADCASTS.flatMap(([a, b], index) => [
      [`a${index}`, make(a, 1)],
      [`b${index}`, make(b, 2)],
    ]),
  );
}

function overPairs(op: (a: Tensor, b: Tensor) => Tensor): PureFunction {
  return (t) =>
    Object.fromEntries(BROADCASTS.map((_, index) => [`y${index}`, op(get(t, `a${index}`), get(t, `b${index}`))]));
}

function binary(op: (a: Tensor, b: Tensor) => Tensor, low = -2, high = 2, tolerance = 1e-5): Case {
  const inputs = pairs((shape, seed) => floats(shape, low, high, seed));
  return { inputs, fn: overPairs(op), gradients: Object.keys(inputs), tolerance };
}

/** TensorFlow.js has no gradient for broadcast operands of some ops. */
function binaryOfEqualShapes(op: (a: Tensor, b: Tensor) => Tensor): Case {
  return { ...binary(op), gradients: ['a0', 'b0'] };
}

function logical(op: (a: Tensor, b: Tensor) => Tensor): Case {
  return { inputs: pairs((shape, seed) => integers(shape, 0, 3, seed)), fn: overPairs(op) };
}

function unary(op: (x: Tensor) => Tensor, low = -2, high = 2, tolerance = 1e-5): Case {
  const inputs = { x: floats([3, 4], low, high), scalar: floats([], low, high, 2), empty: floats([0], low, high) };
  const fn: PureFunction = (t) => ({ y: op(get(t, 'x')), s: op(get(t, 'scalar')), e: op(get(t, 'empty')) });
  return { inputs, fn, gradients: ['x', 'scalar', 'empty'], tolerance };
}

/** A function of one float tensor, with its gradient. */
function of(shape: readonly number[], op: (x: Tensor) => Tensor | Tensor[], gradient = true, tolerance = 1e-5): Case {
  const fn: PureFunction = (t) => {
    const outputs = op(get(t, 'x'));
    return Array.isArray(outputs) ? Object.fromEntries(outputs.map((y, index) => [`y${index}`, y])) : { y: outputs };
  };
  return { inputs: { x: floats(shape) }, fn, gradients: gradient ? ['x'] : [], tolerance };
}

function get(tensors: Tensors, name: string): Tensor {
  return tensors[name] as Tensor;
}

const isBool = (x: Tensor): Tensor => tf.greater(x, 0.5);

const CASES: Readonly<Record<string, Case>> = {
  // arithmetic
  Add: binary(tf.add),
  Sub: binary(tf.sub),
  Multiply: binary(tf.mul),
  RealDiv: binary(tf.div, 0.5, 2),
  Maximum: binaryOfEqualShapes(tf.maximum),
  Minimum: binaryOfEqualShapes(tf.minimum),
  Pow: binary(tf.pow, 0.3, 2, 2e-5),
  SquaredDifference: binaryOfEqualShapes(tf.squaredDifference),
  Atan2: binary(tf.atan2, -2, 2),
  Mod: binary(tf.mod, -3, 3, 1e-4),
  FloorDiv: { ...binary(tf.floorDiv, 0.5, 5), gradients: [] },
  AddN: of([2, 3], (x) => tf.addN([x, tf.neg(x), tf.square(x)])),
  'Add of integers': { inputs: pairs((shape, seed) => integers(shape, -9, 9, seed)), fn: overPairs(tf.add) },
  'FloorDiv of integers': {
    inputs: { a: integers([40], -9, 9), b: integers([40], 1, 5, 2) },
    fn: (t) => ({ y: tf.floorDiv(get(t, 'a'), get(t, 'b')), z: tf.floorDiv(get(t, 'a'), tf.neg(get(t, 'b'))) }),
  },
  'Mod of integers': {
    inputs: { a: integers([40], -9, 9), b: integers([40], 1, 5, 2) },
    fn: (t) => ({ y: tf.mod(get(t, 'a'), get(t, 'b')), z: tf.mod(get(t, 'a'), tf.neg(get(t, 'b'))) }),
  },
  'Maximum of integers': { inputs: pairs((shape, seed) => integers(shape, -9, 9, seed)), fn: overPairs(tf.maximum) },
  'Multiply of bools': {
    inputs: { a: integers([6], 0, 2), b: integers([6], 0, 2, 2) },
    fn: (t) => ({ y: tf.mul(tf.cast(get(t, 'a'), 'bool'), tf.cast(get(t, 'b'), 'bool')) }),
  },
  'neutral operands': {
    inputs: { x: floats([2, 3]) },
    fn: (t) => ({
      one: tf.mul(get(t, 'x'), tf.ones([4, 2, 3])),
      zero: tf.add(tf.zeros([2, 3]), get(t, 'x')),
      divided: tf.div(get(t, 'x'), tf.ones([2, 1])),
      less: tf.sub(get(t, 'x'), tf.scalar(0)),
      negated: tf.sub(tf.scalar(0), get(t, 'x')),
      inverse: tf.div(tf.scalar(1), get(t, 'x')),
    }),
    gradients: ['x'],
  },

  // comparison and logic
  Equal: logical(tf.equal),
  NotEqual: logical(tf.notEqual),
  Greater: logical(tf.greater),
  GreaterEqual: logical(tf.greaterEqual),
  Less: logical(tf.less),
  LessEqual: logical(tf.lessEqual),
  LogicalAnd: logical((a, b) => tf.logicalAnd(isBool(a), isBool(b))),
  LogicalOr: logical((a, b) => tf.logicalOr(isBool(a), isBool(b))),
  logicalXor: logical((a, b) => tf.logicalXor(isBool(a), isBool(b))),
  LogicalNot: logical((a) => tf.logicalNot(isBool(a))),
  'Less of bools': logical((a, b) => tf.less(isBool(a), isBool(b))),
  'IsNan, IsInf, IsFinite': {
    inputs: { x: floats([2, 3]), zero: floats([], 0, 0) },
    fn: (t) => {
      const odd = tf.div(get(t, 'x'), get(t, 'zero'));
      const all = tf.concat([
        odd,
        tf
          .div(get(t, 'zero'), tf.zerosLike(get(t, 'zero')))
          .reshape([1, 1])
          .tile([1, 3]),
        get(t, 'x'),
      ]);
      return { nan: tf.isNaN(all), inf: tf.isInf(all), finite: tf.isFinite(all) };
    },
  },
  Select: {
    inputs: { a: floats([2, 3]), b: floats([2, 3], -2, 2, 2), c: floats([2, 3], -2, 2, 3), n: floats([3]) },
    fn: (t) => ({
      y: tf.where(tf.greater(get(t, 'c'), 0), get(t, 'a'), get(t, 'b')),
      broadcast: tf.where(tf.greater(get(t, 'n'), 0), get(t, 'a'), tf.scalar(0)),
      integers: tf.where(tf.greater(get(t, 'c'), 0), tf.scalar(1, 'int32'), tf.scalar(7, 'int32')),
    }),
    gradients: ['a', 'b'],
  },

  // signs, powers, rounding
  Abs: unary(tf.abs),
  Neg: unary(tf.neg),
  Sign: unary(tf.sign),
  Square: unary(tf.square),
  Sqrt: unary(tf.sqrt, 0.1, 3),
  Rsqrt: unary(tf.rsqrt, 0.1, 3),
  Reciprocal: unary(tf.reciprocal, 0.2, 3),
  Floor: unary(tf.floor),
  Ceil: unary(tf.ceil),
  Round: unary(tf.round),
  'Round half to even': of([5], (x) => tf.round(tf.sub(tf.floor(x), 0.5)), false),
  ClipByValue: unary((x) => tf.clipByValue(x, -0.5, 0.7)),
  'Abs, Neg, Sign of integers': {
    inputs: { x: integers([2, 5], -4, 4) },
    fn: (t) => ({
      abs: tf.abs(get(t, 'x')),
      neg: tf.neg(get(t, 'x')),
      sign: tf.sign(get(t, 'x')),
      clip: tf.clipByValue(get(t, 'x'), -1, 2),
    }),
  },

  // exponentials, trigonometry
  Exp: unary(tf.exp),
  Expm1: unary(tf.expm1, 0.1, 2),
  Log: unary(tf.log, 0.1, 3),
  Log1p: unary(tf.log1p, 0.1, 3),
  Erf: unary(tf.erf, -2, 2, 2e-5),
  Sin: unary(tf.sin),
  Cos: unary(tf.cos),
  Tan: unary(tf.tan, -1, 1),
  Asin: unary(tf.asin, -0.9, 0.9),
  Acos: unary(tf.acos, -0.9, 0.9),
  Atan: unary(tf.atan),
  Sinh: unary(tf.sinh),
  Cosh: unary(tf.cosh),
  Tanh: unary(tf.tanh),
  Asinh: unary(tf.asinh),
  Acosh: unary(tf.acosh, 1.2, 3),
  Atanh: unary(tf.atanh, -0.9, 0.9),

  // activations
  Relu: unary(tf.relu),
  Relu6: unary((x) => tf.relu6(tf.mul(x, 5))),
  LeakyRelu: unary((x) => tf.leakyRelu(x, 0.3)),
  Prelu: {
    inputs: { x: floats([2, 3]), alpha: floats([3], 0, 1) },
    fn: (t) => ({ y: tf.prelu(get(t, 'x'), get(t, 'alpha')) }),
    gradients: ['x', 'alpha'],
  },
  'Elu, EluGrad': unary(tf.elu),
  Selu: unary(tf.selu),
  Sigmoid: unary(tf.sigmoid),
  Softplus: unary(tf.softplus),
  Step: unary((x) => tf.step(x, 0.25)),

  // reductions
  Sum: of([2, 3, 4], (x) => [tf.sum(x), tf.sum(x, 1), tf.sum(x, [0, -1], true), tf.sum(x, []), tf.sum(tf.sum(x))]),
  'Sum of bools': of([2, 3], (x) => tf.sum(tf.greater(x, 0), 0), false),
  'Sum of a broadcast': of([2, 1], (x) => [
    tf.sum(tf.broadcastTo(x, [2, 3]), 0),
    tf.sum(tf.broadcastTo(x, [4, 2, 3]), [0, 2]),
  ]),
  Mean: of([2, 3, 4], (x) => [tf.mean(x), tf.mean(x, -1, true), tf.mean(x, [0, 1])]),
  'Mean of integers': { inputs: { x: integers([2, 3], 0, 9) }, fn: (t) => ({ y: tf.mean(get(t, 'x'), 1) }) },
  'Prod, Cumprod': of([2, 3], (x) => [tf.prod(x), tf.prod(x, 1, true)], true, 1e-4),
  Cumprod: of(
    [2, 4, 3],
    (x) => [tf.cumprod(x, 1), tf.cumprod(x, 1, true), tf.cumprod(x, 2, false, true), tf.cumprod(x, 0, true, true)],
    false,
  ),
  Cumsum: of(
    [2, 4, 3],
    (x) => [tf.cumsum(x, 1), tf.cumsum(x, 1, true), tf.cumsum(x, 2, false, true), tf.cumsum(x, 0, true, true)],
    false,
  ),
  'Cumsum of the last axis': of([2, 3], (x) => [tf.cumsum(x, 1), tf.cumsum(x, 1, true), tf.cumsum(x, 1, false, true)]),
  Max: of([2, 3, 4], (x) => [tf.max(x), tf.max(x, 1), tf.max(x, [0, 2], true)]),
  Min: of([2, 3, 4], (x) => [tf.min(x), tf.min(x, 1), tf.min(x, [0, 2], true)]),
  'Max with ties': of([2, 3], (x) => tf.max(tf.clipByValue(x, -1, 0), 1)),
  'All, Any': of(
    [2, 3],
    (x) => [tf.all(tf.greater(x, -1), 1), tf.any(tf.greater(x, 1), 0, true), tf.any(tf.greater(x, 3))],
    false,
  ),
  'ArgMax, ArgMin': of([2, 3, 4], (x) => [tf.argMax(x, 1), tf.argMin(x, -1), tf.argMax(x)], false),
  TopK: of(
    [3, 5],
    (x) => {
      const { values, indices } = tf.topk(x, 2);
      return [values, indices];
    },
    false,
  ),
  Softmax: of([2, 3, 4], (x) => [tf.softmax(x), tf.softmax(tf.reshape(x, [6, 4]))]),
  logSoftmax: of([3, 4], (x) => tf.logSoftmax(x)),
  logSumExp: of([3, 4], (x) => [tf.logSumExp(x, 1), tf.logSumExp(x)]),
  norm: of([3, 4], (x) => [tf.norm(x), tf.norm(x, 1, 0), tf.norm(x, 'fro', [0, 1])]),

  // shape
  'Reshape, Identity': of([2, 3, 4], (x) => [
    tf.reshape(x, [6, 4]),
    tf.reshape(tf.reshape(x, [24]), [3, -1]),
    tf.clone(x),
    tf.reshape(tf.exp(tf.reshape(x, [6, 4])), [2, 3, 4]),
    tf.reshape(tf.broadcastTo(tf.slice(x, [0, 0, 0], [1, 1, 1]), [2, 2, 1]), [4]),
  ]),
  'matrix views': {
    inputs: {
      m: floats([6, 4]),
      full: floats([2, 3, 4]),
      column: floats([2, 3, 1]),
      wide: floats([5, 2, 3, 4]),
      row: floats([4]),
      plane: floats([3, 4]),
      other: floats([2, 3, 4], -2, 2, 2),
    },
    fn: (t) => {
      const view = tf.reshape(get(t, 'm'), [2, 3, 4]); // held as [6, 4]
      return {
        full: tf.add(view, get(t, 'full')),
        column: tf.mul(tf.add(view, get(t, 'column')), get(t, 'row')),
        row: tf.sub(view, get(t, 'row')),
        plane: tf.mul(view, get(t, 'plane')),
        wide: tf.mul(view, get(t, 'wide')),
        splat: tf.add(view, tf.ones([5, 2, 3, 4])),
        both: tf.mul(view, tf.reshape(tf.exp(get(t, 'm')), [2, 3, 4])),
        where: tf.where(tf.greater(get(t, 'other'), 0), view, tf.scalar(0)),
        mean: tf.sub(view, tf.mean(view, -1, true)),
        flat: tf.sum(tf.reshape(tf.square(view), [6, 4]), 0),
        turned: tf.transpose(view, [1, 0, 2]),
        split: tf.reshape(view, [2, 3, 2, 2]),
      };
    },
    gradients: ['m', 'full', 'column', 'row', 'plane'],
  },
  Cast: of([2, 3], (x) => [tf.cast(x, 'int32'), tf.cast(x, 'bool'), tf.cast(tf.greater(x, 0), 'float32')], false),
  'Cast with gradient': of([2, 3], (x) => tf.cast(x, 'float32')),
  ExpandDims: of([2, 3], (x) => [tf.expandDims(x, 0), tf.expandDims(x, -1), tf.squeeze(tf.expandDims(x, 1))]),
  Transpose: of([2, 3, 4], (x) => [tf.transpose(x), tf.transpose(x, [1, 0, 2]), tf.transpose(tf.reshape(x, [24]))]),
  'Tile, BroadcastTo': of([2, 1, 3], (x) => [
    tf.tile(x, [2, 3, 1]),
    tf.broadcastTo(x, [4, 2, 5, 3]),
    tf.exp(tf.broadcastTo(x, [2, 2, 3])),
  ]),
  Slice: of([3, 4], (x) => [
    tf.slice(x, [1, 1], [2, 2]),
    tf.slice(x, [1]),
    tf.slice(x, [0, 2], [-1, -1]),
    tf.slice(x, 0),
    tf.slice(x, [1, 0], [0, 4]),
  ]),
  StridedSlice: of(
    [5, 6],
    (x) => [
      tf.stridedSlice(x, [0, 1], [5, 6], [2, 2]),
      tf.stridedSlice(x, [4, 5], [-6, 1], [-1, -2]),
      tf.stridedSlice(x, [1, 0], [2, 6], [1, 1], 0, 0, 0, 0, 1),
    ],
    false,
  ),
  Reverse: of([2, 3, 4], (x) => [tf.reverse(x, 1), tf.reverse(x, [0, -1]), tf.reverse(x)]),
  SplitV: of([4, 6], (x) => [...tf.split(x, 3, 1), ...tf.split(x, [1, 3], 0), ...tf.split(x, [2, -1], -1)]),
  Unpack: of([3, 2, 4], (x) => [...tf.unstack(x), ...tf.unstack(x, -1)]),
  GatherV2: {
    inputs: { x: floats([4, 5, 2]), ids: integers([3, 2], 0, 4), batched: integers([4, 3], 0, 5) },
    fn: (t) => ({
      rows: tf.gather(get(t, 'x'), get(t, 'ids')),
      columns: tf.gather(get(t, 'x'), get(t, 'ids'), 1),
    }),
    gradients: ['x'],
  },
  'GatherV2 by batch': {
    inputs: { x: floats([4, 5, 2]), ids: integers([4, 3], 0, 5) },
    fn: (t) => ({ y: tf.gather(get(t, 'x'), get(t, 'ids'), 1, 1) }),
  },
  GatherNd: {
    inputs: { x: floats([4, 5, 2]), ids: integers([3, 2], 0, 4) },
    fn: (t) => ({ y: tf.gatherND(get(t, 'x'), get(t, 'ids')) }),
  },
  ScatterNd: {
    inputs: { ids: integers([5, 2], 0, 2), updates: floats([5, 3]), rows: integers([6, 1], 0, 3), flat: floats([6]) },
    fn: (t) => ({
      y: tf.scatterND(get(t, 'ids'), get(t, 'updates'), [2, 4, 3]),
      z: tf.scatterND(get(t, 'rows'), get(t, 'flat'), [3]),
    }),
  },
  UnsortedSegmentSum: {
    inputs: { x: floats([6, 2, 2]), ids: integers([6], -1, 3) },
    fn: (t) => ({ y: tf.unsortedSegmentSum(get(t, 'x'), get(t, 'ids') as Tensor1D, 3) }),
    gradients: ['x'],
  },
  Concat: of([2, 3], (x) => [
    tf.concat([x, tf.neg(x)]),
    tf.concat([x, tf.exp(x)], -1),
    tf.concat([tf.slice(x, [0, 0], [0, 3]), x]),
  ]),
  Pack: of([2, 3], (x) => [tf.stack([x, tf.neg(x)]), tf.stack([x, x], 1), tf.stack([x, tf.exp(x)], -1)]),
  PadV2: of([2, 3], (x) => [
    tf.pad(x, [
      [1, 0],
      [0, 2],
    ]),
    tf.pad(
      x,
      [
        [0, 0],
        [1, 1],
      ],
      3.5,
    ),
  ]),
  'PadV2 of integers': { inputs: { x: integers([2], 0, 9) }, fn: (t) => ({ y: tf.pad(get(t, 'x'), [[1, 1]], 4) }) },
  MirrorPad: of([3, 4], (x) =>
    tf.mirrorPad(
      x,
      [
        [1, 0],
        [2, 1],
      ],
      'reflect',
    ),
  ),

  // products
  BatchMatMul: {
    inputs: { a: floats([2, 3]), b: floats([3, 4]), c: floats([4, 3]) },
    fn: (t) => ({
      ab: tf.matMul(get(t, 'a'), get(t, 'b')),
      ac: tf.matMul(get(t, 'a'), get(t, 'c'), false, true),
      cb: tf.matMul(get(t, 'c'), get(t, 'b'), true, true),
      dot: tf.dot(tf.reshape(get(t, 'a'), [6]), tf.reshape(tf.slice(get(t, 'b'), [0, 0], [3, 2]), [6])),
    }),
    gradients: ['a', 'b', 'c'],
  },
  'BatchMatMul of batches': {
    inputs: { a: floats([2, 2, 3, 4]), b: floats([2, 2, 5, 4]) },
    fn: (t) => ({ y: tf.matMul(get(t, 'a'), get(t, 'b'), false, true), z: tf.matMul(get(t, 'a'), get(t, 'a'), true) }),
    gradients: ['a', 'b'],
  },
  'BatchMatMul over a broadcast batch': {
    inputs: { a: floats([2, 5, 3, 4]), b: floats([5, 4, 2]) },
    fn: (t) => ({
      y: tf.matMul(get(t, 'a'), get(t, 'b')),
      z: tf.matMul(get(t, 'a'), tf.broadcastTo(get(t, 'b'), [2, 5, 4, 2])),
    }),
  },
  _FusedMatMul: {
    inputs: { a: floats([2, 3]), b: floats([3, 4]), bias: floats([4]), alpha: floats([4], 0, 1) },
    fn: (t) => {
      const product = (activation: 'linear' | 'relu' | 'relu6' | 'elu' | 'sigmoid' | 'leakyrelu'): Tensor =>
        tf.fused.matMul({ a: get(t, 'a'), b: get(t, 'b'), bias: get(t, 'bias'), activation });
      return {
        linear: product('linear'),
        relu: product('relu'),
        relu6: product('relu6'),
        elu: product('elu'),
        sigmoid: product('sigmoid'),
        leakyrelu: product('leakyrelu'),
        plain: tf.fused.matMul({ a: get(t, 'b'), b: get(t, 'a'), transposeA: true, transposeB: true }),
        prelu: tf.fused.matMul({
          a: get(t, 'a'),
          b: get(t, 'b'),
          activation: 'prelu',
          preluActivationWeights: get(t, 'alpha'),
        }),
      };
    },
    gradients: ['a', 'b', 'bias'],
  },

  // creation
  'Fill, ZerosLike, OnesLike': of([2, 3], (x) => [
    tf.add(x, tf.fill([2, 1], 3)),
    tf.fill([2, 2], 4, 'int32'),
    tf.zerosLike(x),
    tf.add(x, tf.onesLike(x)),
    tf.zeros([0, 2]),
  ]),
  'Range, LinSpace': of([4], (x) => [
    tf.add(x, tf.range(0, 4)),
    tf.range(5, 1, -2, 'int32'),
    tf.range(3, 0),
    tf.range(2, 2),
    tf.range(0, 1, -1),
    tf.linspace(0, 1, 5),
    tf.linspace(2, 3, 1),
  ]),
  OneHot: {
    inputs: { ids: integers([2, 3], -1, 5) },
    fn: (t) => ({
      y: tf.oneHot(get(t, 'ids'), 4),
      custom: tf.oneHot(get(t, 'ids'), 4, 0.9, 0.1),
      integers: tf.oneHot(get(t, 'ids'), 4, 5, -1, 'int32'),
    }),
  },
  'tensors of the function itself': of([2, 3], (x) => [
    tf.add(
      x,
      tf.tensor([
        [1, 2, 3],
        [4, 5, 6],
      ]),
    ),
    tf.where(
      tf.tensor([
        [true, false, true],
        [false, true, false],
      ]),
      x,
      tf.scalar(1),
    ),
    tf.mul(tf.cast(x, 'int32'), tf.tensor([2, 3, 4], [3], 'int32')),
    tf.tensor2d([[1, 2]]),
  ]),

  // layers
  linear: {
    inputs: { x: floats([2, 3, 4]), w: floats([4, 5]), b: floats([5]) },
    fn: (t) => ({ y: linear(get(t, 'x'), get(t, 'w'), get(t, 'b')), z: linear(get(t, 'x'), get(t, 'w')) }),
    gradients: ['x', 'w', 'b'],
  },
  PeftLayerNorm: {
    inputs: { x: floats([2, 3, 8]), gain: floats([8], 0.5, 1.5), shift: floats([8]) },
    fn: (t) => ({
      y: layerNorm(get(t, 'x'), get(t, 'gain'), get(t, 'shift'), 1e-5),
      z: layerNorm(tf.reshape(get(t, 'x'), [6, 8]), tf.ones([8]), tf.zeros([8]), 1e-5),
    }),
    gradients: ['x', 'gain', 'shift'],
  },
  'PeftGelu, PeftGeluGrad': unary(gelu, -4, 4),
  attention: {
    inputs: { q: floats([2, 3, 8]), k: floats([2, 5, 8]), v: floats([2, 5, 8]), mask: integers([2, 5], 0, 2) },
    fn: (t) => ({
      y: attention(get(t, 'q'), get(t, 'k'), get(t, 'v'), { heads: 2, maskBias: maskBias(get(t, 'mask')) }),
      z: attention(get(t, 'q'), get(t, 'k'), get(t, 'v'), { heads: 4, scale: 0.7 }),
    }),
    gradients: ['q', 'k', 'v'],
  },
  embedding: {
    inputs: { table: floats([5, 3]), ids: integers([2, 4], 0, 5) },
    fn: (t) => ({ y: embedding(get(t, 'table'), get(t, 'ids')) }),
    gradients: ['table'],
  },
  dropout: {
    inputs: { x: floats([4, 6]), uniform: floats([4, 6], 0, 1) },
    fn: (t) => ({ y: dropout(get(t, 'x'), 0.4, get(t, 'uniform')) }),
    gradients: ['x'],
  },
};

describe('a compiled kernel gives the numbers of the cpu backend', () => {
  const onnx: Executor<OrtTensor> = compiled({ threads: 1 });
  const used = new Set<string>();
  let cpu: Executor<Tensor>;

  beforeAll(async () => {
    cpu = await eager({ backend: 'cpu' });
    traceBackend();
    for (const config of tf.getKernelsForBackend(TRACE_BACKEND)) {
      const run = config.kernelFunc;
      config.kernelFunc = (params) => {
        used.add(config.kernelName);
        return run(params);
      };
    }
  });

  it.each(Object.entries(CASES))('%s', async (_, { inputs, fn, gradients = [], tolerance = 1e-5 }) => {
    const whole = gradients.length === 0 ? fn : withGradients(fn, gradients);
    const expected = await runOnce(cpu, whole, inputs);
    const got = await runOnce(onnx, whole, inputs);
    const distances = Object.entries(expected).map(([name, tensor]) => [name, distance(got[name], tensor)] as const);
    expect(distances.filter(([, d]) => !(d <= tolerance))).toEqual([]);
    expect(Object.keys(got)).toEqual(Object.keys(expected));
  });

  afterAll(() => {
    expect(Object.keys(kernelTable).filter((name) => !used.has(name))).toEqual([]);
  });
});
