import { gelu, geluTanh } from '@peftjs/core/nn';
import { UnsupportedError } from '@peftjs/core/method';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { TYPES, typeNumbered, type ElementType, type Kind } from '../format/tensor.js';
import { dtypeOf, hostInts, isHost, kindOf, tensorOf, zipped, type HostArray, type Value } from '../values.js';
import {
  assertBound,
  hosts,
  input,
  made,
  numberIn,
  only,
  tensor,
  textIn,
  type Call,
  type Inputs,
  type OperatorTable,
  type Operator,
} from './operator.js';

const plus = zip((a, b) => a + b, tf.add);
const minus = zip((a, b) => a - b, tf.sub);

/** Operators on each element; operands broadcast. */
export const elementwise: OperatorTable = {
  // arithmetic
  Add: plus,
  Sub: minus,
  Mul: zip((a, b) => a * b, tf.mul),
  Div: (inputs) => (kindOf(input(inputs, 0)) === 'int' ? divided(inputs) : quotient(inputs)),
  Mod: (inputs, call) => (numberIn(call, 'fmod', 0) === 1 ? remainder(inputs) : modulo(inputs)),
  Pow: power,
  Max: (inputs, call) => largest(inputs, call),
  Min: (inputs, call) => smallest(inputs, call),
  Sum: variadic(plus),
  Clip: clip,

  // comparison and logic
  Equal: zip((a, b) => Number(a === b), tf.equal, 'bool'),
  Greater: zip((a, b) => Number(a > b), tf.greater, 'bool'),
  GreaterOrEqual: zip((a, b) => Number(a >= b), tf.greaterEqual, 'bool'),
  Less: zip((a, b) => Number(a < b), tf.less, 'bool'),
  LessOrEqual: zip((a, b) => Number(a <= b), tf.lessEqual, 'bool'),
  And: zip((a, b) => a * b, tf.logicalAnd, 'bool'),
  Or: zip(Math.max, tf.logicalOr, 'bool'),
  Xor: zip((a, b) => Number(a !== b), tf.notEqual, 'bool'),
  Not: map((x) => 1 - x, tf.logicalNot, 'bool'),
  IsNaN: map((x) => Number(Number.isNaN(x)), tf.isNaN, 'bool'),
  IsInf: only(
    { detect_negative: 1, detect_positive: 1 },
    map((x) => Number(Math.abs(x) === Infinity), tf.isInf, 'bool'),
  ),
  Where: where,

  // signs, powers and rounding
  Abs: map(Math.abs, tf.abs),
  Neg: map((x) => -x, tf.neg),
  Sign: map(Math.sign, tf.sign),
  Sqrt: map(Math.sqrt, tf.sqrt),
  Reciprocal: map((x) => 1 / x, tf.reciprocal),
  Floor: map(Math.floor, tf.floor),
  Ceil: map(Math.ceil, tf.ceil),
  Round: map(halfToEven, tf.round),

  // exponentials and trigonometry
  Exp: map(Math.exp, tf.exp),
  Log: map(Math.log, tf.log),
  Sin: map(Math.sin, tf.sin),
  Cos: map(Math.cos, tf.cos),
  Tanh: map(Math.tanh, tf.tanh),
  Erf: real(tf.erf),

  // activations
  Sigmoid: real(tf.sigmoid),
  Relu: map((x) => Math.max(x, 0), tf.relu),
  Softplus: real(tf.softplus),
  Softsign: real((x) => tf.div(x, tf.add(tf.abs(x), 1))),
  LeakyRelu: (inputs, call) => tf.leakyRelu(tensor(inputs, 0), numberIn(call, 'alpha', 0.01)),
  Elu: (inputs, call) => elu(tensor(inputs, 0), numberIn(call, 'alpha', 1)),
  HardSigmoid: (inputs, call) =>
    hardSigmoid(tensor(inputs, 0), numberIn(call, 'alpha', 0.2), numberIn(call, 'beta', 0.5)),
  HardSwish: real((x) => tf.mul(x, hardSigmoid(x, 1 / 6, 0.5))),
  Gelu: (inputs, call) => (textIn(call, 'approximate', 'none') === 'tanh' ? geluTanh : gelu)(tensor(inputs, 0)),

  // types
  Identity: (inputs) => input(inputs, 0),
  Dropout: identityInInference,
  Cast: (inputs, call) => castTo(input(inputs, 0), typeNumbered(numberIn(call, 'to', 0), 'to')),
  CastLike: (inputs) => cast(input(inputs, 0), kindOf(input(inputs, 1))),
};

/** An operator of two operands; computed on the host if both are host arrays. */
function zip(
  onHost: (a: number, b: number) => number,
  compute: (a: Tensor, b: Tensor) => Tensor,
  kind?: Kind,
): (inputs: Inputs) => Value {
  const operator = (inputs: Inputs): Value => {
    const both = hosts(inputs);
    return both ? zipped(both, kind ?? kindOf(input(both, 0)), onHost) : compute(tensor(inputs, 0), tensor(inputs, 1));
  };
  return Object.assign(operator, { kind });
}

/** An operator of one operand; computed on the host if the operand is a host array. */
function map(onHost: (x: number) => number, compute: (x: Tensor) => Tensor, kind?: Kind): Operator {
  return made(kind, (inputs) => {
    const x = input(inputs, 0);
    return isHost(x) ? zipped([x], kind ?? x.kind, onHost) : compute(x);
  });
}

/** An operator of one operand that is only computed as a tensor. */
function real(compute: (x: Tensor) => Tensor): Operator {
  return (inputs) => compute(tensor(inputs, 0));
}

/** An operator of any number of operands. */
function variadic(two: (inputs: Inputs, call: Call) => Value): (inputs: Inputs, call: Call) => Value {
  return (inputs, call) => inputs.filter((value) => value !== undefined).reduce((a, b) => two([a, b], call));
}

const quotient = zip((a, b) => a / b, tf.div);

/** The quotient of integers, rounded towards zero. */
export const divided = zip(
  (a, b) => Math.trunc(a / b),
  (a, b) => tf.mul(tf.floorDiv(tf.abs(a), tf.abs(b)), tf.mul(tf.sign(a), tf.sign(b))),
);

/** The remainder with the sign of the divisor. */
const modulo = zip((a, b) => a - b * Math.floor(a / b), tf.mod);

/** The remainder with the sign of the dividend. */
const remainder = zip(
  (a, b) => a % b,
  (a, b) => tf.mul(tf.mod(tf.abs(a), tf.abs(b)), tf.sign(a)),
);

const largest = variadic(decided(zip(Math.max, tf.maximum)));
const smallest = variadic(decided(zip(Math.min, tf.minimum)));

/** Refuses to choose between a size and a fixed number where other texts have another choice. */
function decided(two: (inputs: Inputs) => Value): (inputs: Inputs, call: Call) => Value {
  return (inputs, call) => {
    const all = hosts(inputs) ?? [];
    const [size, bound] = [true, false].map((varies) => all.find((value) => value.varies === varies));
    if (size && bound) zipped([size, bound], 'int', (of, by) => (assertBound(Math.min(of, 1), by, call), of));
    return two(inputs);
  };
}

/** x^y; small whole powers are products, whose gradients hold for x below zero too. */
function power(inputs: Inputs): Value {
  const [x, y] = [input(inputs, 0), input(inputs, 1)];
  const isInt = kindOf(x) === 'int';
  if (isHost(x) && isHost(y)) return zipped([x, y], x.kind, (a, b) => (isInt ? Math.trunc(a ** b) : a ** b));
  const exponent = isHost(y) && y.data.length === 1 ? y.data[0] : undefined;
  const base = tensorOf(x);
  if (exponent === 2) return tf.square(base);
  if (exponent === 3) return tf.mul(tf.square(base), base);
  if (isInt && kindOf(y) === 'float') return tf.cast(tf.pow(tf.cast(base, 'float32'), tensorOf(y)), 'int32');
  if (exponent === 0.5) return tf.sqrt(base);
  return tf.pow(base, tf.cast(tensorOf(y), base.dtype));
}

/** x within bounds, which are optional inputs. */
function clip(inputs: Inputs, call: Call): Value {
  const [x, low, high] = [input(inputs, 0), inputs[1], inputs[2]];
  const atLeast = low === undefined ? x : largest([x, low], call);
  return high === undefined ? atLeast : smallest([atLeast, high], call);
}

function where(inputs: Inputs): Value {
  const all = hosts(inputs);
  if (all) return zipped(all, (all[1] ?? all[0])?.kind ?? 'float', (condition, a, b) => (condition ? a : b));
  return tf.where(tf.cast(tensor(inputs, 0), 'bool'), tensor(inputs, 1), tensor(inputs, 2));
}

function halfToEven(x: number): number {
  const down = Math.floor(x);
  const isTie = x - down === 0.5;
  return isTie ? down + (down % 2 === 0 ? 0 : 1) : Math.round(x);
}

function elu(x: Tensor, alpha: number): Tensor {
  return alpha === 1 ? tf.elu(x) : tf.where(tf.greater(x, 0), x, tf.mul(tf.sub(tf.exp(x), 1), alpha));
}

function hardSigmoid(x: Tensor, alpha: number, beta: number): Tensor {
  return tf.clipByValue(tf.add(tf.mul(x, alpha), beta), 0, 1);
}

/** @throws UnsupportedError for a dropout that was exported to drop numbers. */
function identityInInference(inputs: Inputs): Value {
  const [, rate, training] = inputs;
  const isOff = [rate, training].some((value) => value !== undefined && isHost(value) && value.data[0] === 0);
  if (training === undefined || isOff) return input(inputs, 0);
  throw new UnsupportedError('a dropout that is on: export the model in evaluation mode');
}

/** Converts numbers to a type; an integer outside the range of an 8- or 16-bit type wraps around. */
function castTo(value: Value, type: ElementType): Value {
  const { kind, array } = TYPES[type];
  const made = cast(value, kind);
  const bits = 8 * array.BYTES_PER_ELEMENT;
  if (kind !== 'int' || bits > 16 || kindOf(value) === 'bool') return made;
  const [low, span] = [type.startsWith('u') ? 0 : 2 ** (bits - 1), 2 ** bits].map((number): HostArray => ({
    ...hostInts([number], false),
    shape: [],
  }));
  return minus([modulo([plus([made, low]), span]), low]);
}

/** Converts numbers to another kind; floats become integers by rounding towards zero. */
function cast(value: Value, kind: Kind): Value {
  const from = kindOf(value);
  if (!isHost(value)) return from === kind ? value : tf.cast(value, dtypeOf(kind));
  if (from === kind) return value;
  const convert = { float: (x: number) => x, int: Math.trunc, bool: (x: number) => Number(x !== 0) }[kind];
  return zipped([value], kind, convert);
}
