/**
 * Products of a matrix with a frozen weight in few bits (`@peftjs/core/nn`, quantizedLinear), W = s Q, by ONNX
 * Runtime's product of uint8 and int8 with exact sums:
 *
 *   x row by row as r (u - 128), u in 1..255, r = max |x| / 127
 *   y  = r s ((u - 128) Q)        dx = r' ((u' - 128) Q^T) with u', r' of dy s
 *
 * An 8-bit weight is one input of the graph; the backward pass transposes its bytes. A 4-bit weight is expanded to such
 * bytes right before each product, so that those of one module at a time are in memory: in time, about as much as three
 * rows of x per unit of work of the product.
 */
import { isTable, type QuantizedInputs } from '@peftjs/core/nn';
import type { GraphBuilder, Value } from '../graph.js';
import type { FusedTable } from './kernel.js';

/** The only kernels that read bytes. */
export type QuantizedName = 'PeftInt8MatMul' | 'PeftInt8MatMulGrad' | 'PeftDequantize' | 'PeftDequantizeRows';

type Weight = QuantizedInputs<Value>;

export const quantized: Pick<FusedTable, QuantizedName> = {
  PeftInt8MatMul: (g, { x, ...weight }) => integerProduct(g, x, () => inBytes(g, weight, 'forward')),
  PeftInt8MatMulGrad(g, { dy, ...weight }) {
    const scaled = g.zip('Mul', dy, outputScale(g, weight));
    return integerProduct(g, scaled, () => {
      const { bytes } = inBytes(g, weight, 'backward');
      return { bytes: g.transpose(bytes, [1, 0]), scale: g.scalar(1) };
    });
  },
  PeftDequantize: (g, weight) =>
    isFourBits(weight)
      ? g.transpose(inFloats(g, weight, 'forward'), [1, 0])
      : g.zip('Mul', signed(g, weight.values), weight.scale),
  PeftDequantizeRows(g, { values, scale, ids }) {
    const rows = (of: Value): Value =>
      g.node('Gather', [of, ids], [...ids.shape, of.shape[1] as number], { attributes: { axis: 0 } });
    return g.zip('Mul', signed(g, rows(values)), rows(scale));
  },
};

const ZERO_POINT = 128;
const INT8_MAX = 127;
/** Stands in for the largest number of a row of zeros, whose scale would be zero; every row that matters is larger. */
const SMALLEST = 1e-28;

/**
 * x `[rows, inner]` times bytes `[inner, columns]` and the scale of each column -> `[rows, columns]`. The bytes are
 * written after x, so that they are computed after it (order.ts): before it, those of all layers would be in memory.
 */
function integerProduct(g: GraphBuilder, x: Value, weight: () => ByteWeight): Value {
  const { integers, scales } = rounded(g, g.rows(x));
  const { bytes, scale } = weight();
  const [rows = 1] = integers.shape;
  const columns = bytes.shape[1] as number;
  const zero = g.constant(Uint8Array.of(ZERO_POINT), 'uint8', []);
  // Where the processor's int8 product is not exact, weights are uint8, raised by 128.
  const weightZero = bytes.dtype === 'uint8' ? [zero] : [];
  const operands = [integers, bytes, g.scalar(1), scale, zero, ...weightZero];
  const options = { domain: 'com.microsoft', dtype: 'float32' } as const;
  const product = g.node('MatMulIntegerToFloat', operands, [rows, columns], options);
  return g.zip('Mul', product, scales);
}

/** Each row of x `[rows, features]` in uint8, and the scales `[rows, 1]`. */
function rounded(g: GraphBuilder, x: Value): { integers: Value; scales: Value } {
  const [rows = 1] = x.shape;
  const extreme = (op: string): Value => g.node(op, [x, g.ints([1])], [rows], { attributes: { keepdims: 0 } });
  // The two extremes cost less than the largest absolute value, which would write out the absolute values.
  const extremes = [extreme('ReduceMax'), g.map('Neg', extreme('ReduceMin')), g.scalar(SMALLEST)];
  const scales = g.zip('Mul', g.node('Max', extremes, [rows]), g.scalar(1 / INT8_MAX)); // [rows]
  const zeros = g.constant(new Uint8Array(rows).fill(ZERO_POINT), 'uint8', [rows]);
  const options = { dtype: 'uint8', attributes: { axis: 0 } } as const;
  const integers = g.node('QuantizeLinear', [x, scales, zeros], x.shape, options);
  return { integers, scales: g.reshape(scales, [rows, 1]) };
}

type Pass = 'forward' | 'backward';

/** A weight as bytes `[in, out]`, and the scale of each output, `[out]`. */
interface ByteWeight {
  readonly bytes: Value;
  readonly scale: Value;
}

function inBytes(g: GraphBuilder, weight: Weight, pass: Pass): ByteWeight {
  const scale = outputScale(g, weight);
  if (isFourBits(weight)) return { bytes: g.transpose(roundedWeight(g, weight, pass), [1, 0]), scale };
  return { bytes: isTable(weight) ? g.transpose(weight.values, [1, 0]) : weight.values, scale };
}

/** The scale of each output, `[out]`. */
function outputScale(g: GraphBuilder, weight: Weight): Value {
  if (isFourBits(weight)) return weight.step;
  return isTable(weight) ? g.reshape(weight.scale, weight.values.shape.slice(0, 1)) : weight.scale;
}

type FourBits = Required<Weight>;

function isFourBits(weight: Weight): weight is FourBits {
  return weight.zero !== undefined && weight.step !== undefined;
}

/** A 4-bit weight in 8 bits, `[out, in]`, in the type that integer products read. */
function roundedWeight(g: GraphBuilder, weight: FourBits, pass: Pass): Value {
  const whole = inFloats(g, weight, pass);
  const dtype = g.bytes;
  const [outputs = 1] = whole.shape;
  const zero = dtype === 'uint8' ? ZERO_POINT : 0;
  const zeros = g.constant(new Uint8Array(outputs).fill(zero), dtype, [outputs]);
  return g.node('QuantizeLinear', [whole, weight.step, zeros], whole.shape, { dtype, attributes: { axis: 0 } });
}

/** A 4-bit weight as floats, `[out, in]`. */
function inFloats(g: GraphBuilder, { values, scale, zero, step }: FourBits, pass: Pass): Value {
  const [blocks = 1, half = 1] = values.shape;
  const [outputs = 1] = step.shape;
  const sixteenths = g.node('Concat', inSixteenths(g, values, pass), [blocks, 2 * half], { attributes: { axis: 1 } });
  const options = { dtype: 'float32', attributes: { axis: 0 } } as const;
  const numbers = g.node('DequantizeLinear', [sixteenths, scale, zero], sixteenths.shape, options);
  return g.reshape(numbers, [outputs, (blocks * 2 * half) / outputs]);
}

/**
 * The two numbers of each byte, times 16. The backward pass computes the same bits by other operators: nodes that are
 * equal become one, whose bytes would then be kept from the forward to the backward pass, for every module at once.
 */
function inSixteenths(g: GraphBuilder, pairs: Value, pass: Pass): [low: Value, high: Value] {
  const byte = (value: number): Value => g.constant(Uint8Array.of(value), 'uint8', []);
  const raised = (x: Value): Value => g.zip('BitShift', x, byte(4), { attributes: { direction: 'LEFT' } });
  if (pass === 'forward') return [raised(pairs), g.zip('BitwiseAnd', pairs, byte(240))];
  const low = g.zip('BitwiseAnd', pairs, byte(15));
  return [raised(low), g.zip('BitwiseXor', pairs, low)];
}

/** Bytes as floats, with the sign restored. */
function signed(g: GraphBuilder, bytes: Value): Value {
  const numbers = g.cast(bytes, 'float32');
  return bytes.dtype === 'uint8' ? g.zip('Sub', numbers, g.scalar(ZERO_POINT)) : numbers;
}
