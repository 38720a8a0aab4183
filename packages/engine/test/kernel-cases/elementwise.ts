import * as tf from '@tensorflow/tfjs-core';
import { floats, integers } from '../cases.js';
import { binary, binaryOfEqualShapes, get, isBool, logical, of, overPairs, pairs, unary } from './case.js';
import type { Case } from './case.js';

/** Elementwise kernels. */
export const elementwise: Readonly<Record<string, Case>> = {
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
      bools: tf.where(tf.greater(get(t, 'c'), 0), tf.greater(get(t, 'a'), 0), tf.less(get(t, 'b'), 0)),
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
  Expm1: unary(tf.expm1, -2, 2),
  Log: unary(tf.log, 0.1, 3),
  Log1p: unary(tf.log1p, -0.9, 3),
  'Expm1 and Log1p near 0': {
    inputs: { x: floats([2, 5], -1e-6, 1e-6) },
    fn: (t) => ({ exp: tf.mul(tf.expm1(get(t, 'x')), 1e6), log: tf.mul(tf.log1p(get(t, 'x')), 1e6) }),
  },
  'Expm1 and Log1p of large and infinite numbers': {
    inputs: { x: floats([2, 5], 80, 100) },
    fn: (t) => ({
      ones: tf.expm1(tf.neg(get(t, 'x'))),
      infinite: tf.isInf(tf.expm1(tf.mul(get(t, 'x'), 100))),
      log: tf.log1p(get(t, 'x')),
    }),
  },
  'Exp and LeakyRelu of integers': {
    inputs: { x: integers([2, 5], -4, 4) },
    fn: (t) => ({ exp: tf.exp(get(t, 'x')), leaky: tf.leakyRelu(get(t, 'x'), 0.3) }),
  },
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
};
