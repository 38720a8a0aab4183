import type { ClipByValueAttrs, LeakyReluAttrs, StepAttrs } from '@tensorflow/tfjs-core';
import type { GraphBuilder, Value } from '../graph.js';
import type { Attribute } from '../parts.js';
import { numberType, numeric } from './kernel.js';
import type { Binary, Kernel, KernelTable, Unary } from './kernel.js';

/** Elementwise kernels; their operands broadcast. */
export const elementwise: KernelTable = {
  // arithmetic
  Add: arithmetic('Add'),
  Sub: arithmetic('Sub'),
  Multiply: arithmetic('Mul'),
  RealDiv: arithmetic('Div'),
  Maximum: arithmetic('Max'),
  Minimum: arithmetic('Min'),
  Pow: arithmetic('Pow'),
  AddN: (g, terms: Readonly<Record<string, Value>>) =>
    Object.values(terms).reduce((sum, term) => g.zip('Add', sum, term)),
  SquaredDifference: (g, { a, b }: Binary) => square(g, g.zip('Sub', a, b)),
  FloorDiv: floorDiv,
  Mod: mod,
  Atan2: atan2,

  // comparison and logic
  Equal: comparison('Equal'),
  NotEqual: (g, { a, b }: Binary) => g.map('Not', g.zip('Equal', a, b, { dtype: 'bool' })),
  Greater: comparison('Greater'),
  GreaterEqual: comparison('GreaterOrEqual'),
  Less: comparison('Less'),
  LessEqual: comparison('LessOrEqual'),
  LogicalAnd: (g, { a, b }: Binary) => g.zip('And', a, b),
  LogicalOr: (g, { a, b }: Binary) => g.zip('Or', a, b),
  LogicalNot: (g, { x }: Unary) => g.map('Not', x),
  IsNan: test('IsNaN'),
  IsInf: test('IsInf'),
  IsFinite: (g, { x }: Unary) => g.map('Not', g.zip('Or', isIn(g, 'IsNaN', x), isIn(g, 'IsInf', x))),
  Select: select,

  // signs, powers and rounding
  Abs: integral('Abs'),
  Neg: integral('Neg'),
  Sign: integral('Sign'),
  Square: (g, { x }: Unary) => square(g, x),
  Sqrt: real('Sqrt'),
  Rsqrt: composed((g, x) => g.map('Reciprocal', g.map('Sqrt', x))),
  Reciprocal: real('Reciprocal'),
  Floor: real('Floor'),
  Ceil: real('Ceil'),
  Round: real('Round'),
  ClipByValue: (g, { x }: Unary, { clipValueMin, clipValueMax }: ClipByValueAttrs) =>
    clip(g, x, clipValueMin, clipValueMax),

  // exponentials and trigonometry
  Exp: (g, { x }: Unary) => g.map('Exp', g.cast(x, 'float32')), // of integers too, a float
  Expm1: composed(expm1),
  Log: real('Log'),
  Log1p: composed(log1p),
  Erf: real('Erf'),
  Sin: real('Sin'),
  Cos: real('Cos'),
  Tan: real('Tan'),
  Asin: real('Asin'),
  Acos: real('Acos'),
  Atan: real('Atan'),
  Sinh: real('Sinh'),
  Cosh: real('Cosh'),
  Tanh: real('Tanh'),
  Asinh: real('Asinh'),
  Acosh: real('Acosh'),
  Atanh: real('Atanh'),

  // activations
  Relu: integral('Relu'),
  Relu6: (g, { x }: Unary) => clip(g, x, 0, 6),
  LeakyRelu: (g, { x }: Unary, { alpha }: LeakyReluAttrs) => activate(g, 'LeakyRelu', g.cast(x, 'float32'), alpha),
  Prelu: (g, { x, alpha }: Unary & { readonly alpha: Value }) => g.zip('PRelu', x, alpha),
  Elu: real('Elu'),
  EluGrad: (g, { dy, y }: { readonly dy: Value; readonly y: Value }) =>
    g.where(compare(g, 'GreaterOrEqual', y, 0), dy, g.zip('Mul', dy, g.zip('Add', y, g.scalar(1)))),
  Selu: real('Selu', { alpha: { float: 1.6732632423543772 }, gamma: { float: 1.0507009873554805 } }),
  Sigmoid: real('Sigmoid'),
  Softplus: real('Softplus'),
  Step: step,
};

/** e^x - 1; near 0, where the difference loses its digits, by its series to x^9. */
function expm1(g: GraphBuilder, x: Value): Value {
  const near = g.zip('Mul', x, polynomial(g, x, EXPM1));
  return nearZero(g, x, near, g.zip('Sub', g.map('Exp', x), g.scalar(1)));
}

/** log(1 + x); near 0, where the sum loses digits of x, as 2 artanh(s), s = x / (x + 2), by its series to s^15. */
function log1p(g: GraphBuilder, x: Value): Value {
  const s = g.zip('Div', x, g.zip('Add', x, g.scalar(2)));
  const near = g.zip('Mul', s, polynomial(g, g.zip('Mul', s, s), LOG1P));
  return nearZero(g, x, near, g.map('Log', g.zip('Add', x, g.scalar(1))));
}

/** 1 / k! from k = 9 down to 1. */
const EXPM1 = [1 / 362_880, 1 / 40_320, 1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1];
/** 2 / k for odd k from 15 down to 1. */
const LOG1P = [2 / 15, 2 / 13, 2 / 11, 2 / 9, 2 / 7, 2 / 5, 2 / 3, 2];

/** `near` for |x| < 1/2, else `far`. */
function nearZero(g: GraphBuilder, x: Value, near: Value, far: Value): Value {
  return g.where(compare(g, 'Less', g.map('Abs', x), 0.5), near, far);
}

/** A polynomial by Horner's rule; the coefficient of the highest power comes first. */
function polynomial(g: GraphBuilder, x: Value, coefficients: readonly number[]): Value {
  return coefficients.reduce<Value>(
    (sum, coefficient) => g.zip('Add', g.zip('Mul', sum, x), g.scalar(coefficient)),
    g.scalar(0),
  );
}

/**
 * Sine and cosine from arithmetic alone, to 2e-7, or to 1e-6 for |x| up to 1e5. This is Cephes' sinf: with x = k pi/2 +
 * r, a polynomial of r in [-pi/4, pi/4]. pi/2 is split into three parts; k times the first part is exact.
 */
export const ownSines: KernelTable = { Sin: composed((g, x) => sine(g, x, 0)), Cos: composed((g, x) => sine(g, x, 1)) };

/** sin(x + quarters pi/2) */
function sine(g: GraphBuilder, x: Value, quarters: 0 | 1): Value {
  const [times, minus, plus] = (['Mul', 'Sub', 'Add'] as const).map(
    (op) => (a: Value, b: Value | number) => g.zip(op, a, typeof b === 'number' ? g.scalar(b) : b),
  ) as [Arithmetic, Arithmetic, Arithmetic];
  const halves = (n: Value): Value => g.map('Floor', times(n, 0.5));

  const k = g.map('Floor', plus(times(x, 2 / Math.PI), 0.5)); // WebGPU has no Round
  const r = HALF_PI.reduce((rest, part) => minus(rest, times(k, part)), x);
  const r2 = times(r, r);
  const ofSine = plus(r, times(times(r, r2), polynomial(g, r2, SINE)));
  const ofCosine = plus(times(times(r2, r2), polynomial(g, r2, COSINE)), minus(g.scalar(1), times(r2, 0.5)));
  const turns = plus(k, quarters);
  const half = halves(turns);
  const isOdd = compare(g, 'Greater', minus(turns, times(half, 2)), 0.5);
  const sign = minus(g.scalar(1), times(minus(half, times(halves(half), 2)), 2));
  return times(g.where(isOdd, ofCosine, ofSine), sign);
}

type Arithmetic = (a: Value, b: Value | number) => Value;

const HALF_PI = [1.5703125, 4.837512969970703e-4, 7.549789954891882e-8];
const SINE = [-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1];
const COSINE = [2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2];

/** `x` above zero; below it, alpha x (LeakyRelu) or alpha (e^x - 1) (Elu). */
export function activate(g: GraphBuilder, op: 'LeakyRelu' | 'Elu', x: Value, alpha: number): Value {
  return g.map(op, x, { attributes: { alpha: { float: alpha } } });
}

/** `x` limited to a range. */
export function clip(g: GraphBuilder, x: Value, low: number, high: number): Value {
  const atMost = g.zip('Min', x, g.scalar(high, numberType(x)));
  return g.zip('Max', atMost, g.scalar(low, numberType(x)));
}

/** x x */
export function square(g: GraphBuilder, x: Value): Value {
  return g.zip('Mul', x, x);
}

/** Two numbers to one of the same type. ONNX has no arithmetic for bools, so they are computed as integers. */
function arithmetic(op: string): Kernel<Binary> {
  return (g, { a, b }) => {
    if (a.dtype !== 'bool') return g.zip(op, a, b);
    return g.cast(g.zip(op, g.cast(a, 'int32'), g.cast(b, 'int32')), 'bool');
  };
}

/** Two numbers to a bool; ONNX only orders numbers, not bools. */
function comparison(op: string): Kernel<Binary> {
  return (g, { a, b }) => g.zip(op, numeric(g, a), numeric(g, b), { dtype: 'bool' });
}

/** ONNX Runtime only selects numbers, not bools. */
function select(g: GraphBuilder, { condition, t, e }: Record<'condition' | 't' | 'e', Value>): Value {
  return g.cast(g.where(condition, numeric(g, t), numeric(g, e)), t.dtype);
}

/** One number to one of the same type, by an ONNX operator that also takes integers. */
function integral(op: string): Kernel<Unary> {
  return (g, { x }) => g.map(op, x);
}

/** One number to one of the same type, by an ONNX operator that only takes floats. */
function real(op: string, attributes: Readonly<Record<string, Attribute>> = {}): Kernel<Unary> {
  return composed((g, x) => g.map(op, x, { attributes }));
}

/** Several nodes as one kernel; `body` gets float32, and the result is cast back. */
function composed(body: (g: GraphBuilder, x: Value) => Value): Kernel<Unary> {
  return (g, { x }) => g.cast(body(g, g.cast(x, 'float32')), x.dtype);
}

function test(op: string): Kernel<Unary> {
  return (g, { x }) => isIn(g, op, x);
}

function isIn(g: GraphBuilder, op: string, x: Value): Value {
  return g.map(op, g.cast(x, 'float32'), { dtype: 'bool' });
}

function compare(g: GraphBuilder, op: string, x: Value, bound: number): Value {
  return g.zip(op, x, g.scalar(bound, numberType(x)), { dtype: 'bool' });
}

/** 1 above zero, `alpha` elsewhere. */
function step(g: GraphBuilder, { x }: Unary, { alpha }: StepAttrs): Value {
  // The gradient of relu: one pass instead of three. x * MAX_FLOAT, cut to [0, 1], is 0 or 1 for every normal number.
  if (alpha === 0 && x.dtype === 'float32') return hardSigmoid(g, x, MAX_FLOAT, 0);
  const type = numberType(x);
  return g.where(compare(g, 'Greater', x, 0), g.scalar(1, type), g.scalar(alpha, type));
}

/** slope x + offset, cut to [0, 1]: the one operator that scales and shifts in a single pass. */
export function hardSigmoid(g: GraphBuilder, x: Value, slope: number, offset: number): Value {
  return g.map('HardSigmoid', x, { attributes: { alpha: { float: slope }, beta: { float: offset } } });
}

const MAX_FLOAT = 3.4028234663852886e38;

/** The quotient rounded down, as an integer; exact for integers, whose quotient ONNX rounds towards zero. */
function floorDiv(g: GraphBuilder, { a, b }: Binary): Value {
  const quotient = g.zip('Div', a, b);
  if (a.dtype === 'float32') return g.cast(g.map('Floor', quotient), 'int32');
  const remainder = g.zip('Sub', a, g.zip('Mul', quotient, b));
  const isLow = compare(g, 'Less', g.zip('Mul', g.map('Sign', remainder), g.map('Sign', b)), 0);
  return g.where(isLow, g.zip('Sub', quotient, g.scalar(1, 'int32')), quotient);
}

/** The remainder with the sign of the divisor. */
function mod(g: GraphBuilder, { a, b }: Binary): Value {
  if (a.dtype !== 'float32') return g.zip('Mod', a, b);
  const remainder = g.zip('Mod', a, b, { attributes: { fmod: 1 } });
  const differ = compare(g, 'Less', g.zip('Mul', g.map('Sign', remainder), g.map('Sign', b)), 0);
  return g.where(differ, g.zip('Add', remainder, b), remainder);
}

/** The angle of the point (b, a). */
function atan2(g: GraphBuilder, { a, b }: Binary): Value {
  const run = g.where(compare(g, 'Equal', b, 0), g.scalar(0), b); // -0 would turn the slope round
  const slope = g.map('Atan', g.zip('Div', a, run));
  const turn = g.where(compare(g, 'Less', a, 0), g.scalar(-Math.PI), g.scalar(Math.PI));
  const behind = g.where(compare(g, 'Less', b, 0), g.zip('Add', slope, turn), slope);
  const isOrigin = g.zip('And', compare(g, 'Equal', a, 0), compare(g, 'Equal', b, 0));
  return g.where(isOrigin, g.scalar(0), behind);
}
