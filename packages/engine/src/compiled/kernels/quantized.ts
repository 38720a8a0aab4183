/**
 * Products of a matrix with a frozen weight in 8 bits, W = s Q (`@peftjs/core/nn`, quantizedLinear), by ONNX Runtime's product of
 * uint8 and int8 with exact sums:
 *
 *   forward    x as r (u - z), one r and z for the whole matrix:       y  = r s ((u - z) Q)
 *   backward   dy s row by row as r (u - 128), r = max |dy s| / 127:   dx = r ((u - 128) Q^T)
 *
 * Forward, one operator rounds and multiplies; its error is that of rounding by rows (logits of MiniLM on CoLA: .068 against .066).
 * The rows of a gradient differ by orders of magnitude, so that they keep a scale each. The weight is an input of the graph in one
 * copy; the backward pass transposes its bytes.
 */
import type { GraphBuilder, Value } from '../graph.js';
import type { KernelTable } from './kernel.js';
import { transposed } from './shape.js';

/** Kernels that take a weight in 8 bits; no other does. */
export const quantized: KernelTable = {
  PeftInt8MatMul: roundedProduct,
  PeftInt8MatMulGrad: (g, { dy, values, scale }: QuantizedInputs<'dy'>) =>
    productByRows(g, g.zip('Mul', dy, scale), transposed(g, values, [1, 0])),
  PeftDequantize: (g, { values, scale }: QuantizedInputs<never>) => g.zip('Mul', signed(g, values), scale),
};

type QuantizedInputs<Name extends string> = Readonly<Record<Name | 'values' | 'scale', Value>>;

const ZERO_POINT = 128;
const LARGEST = 127;
/** Keeps a row of zeros from a scale of zero; no row that matters is as small. */
const SMALLEST_SCALE = 1e-30;

/** x `[.., inner]` times bytes `[inner, columns]` and the scale of each column -> `[rows, columns]` */
function roundedProduct(g: GraphBuilder, { x, values, scale }: QuantizedInputs<'x'>): Value {
  const rows = g.rows(x);
  const shape = [rows.shape[0] as number, values.shape[1] as number];
  return g.node('DynamicQuantizeMatMul', [rows, values, scale, ...zeroPoint(g, values)], shape, FLOATS);
}

/** x `[.., inner]` times bytes `[inner, columns]` -> `[rows, columns]` */
function productByRows(g: GraphBuilder, x: Value, bytes: Value): Value {
  const { integers, scales } = rounded(g, g.rows(x));
  const shape = [integers.shape[0] as number, bytes.shape[1] as number];
  const zero = g.constant(Uint8Array.of(ZERO_POINT), 'uint8', []);
  const operands = [integers, bytes, g.scalar(1), g.scalar(1), zero, ...zeroPoint(g, bytes)];
  return g.zip('Mul', g.node('MatMulIntegerToFloat', operands, shape, FLOATS), scales);
}

const FLOATS = { domain: 'com.microsoft', dtype: 'float32' } as const;

/** Bytes without a sign are held 128 higher, where the machine's product of the others is not exact. */
function zeroPoint(g: GraphBuilder, bytes: Value): Value[] {
  return bytes.dtype === 'uint8' ? [g.constant(Uint8Array.of(ZERO_POINT), 'uint8', [])] : [];
}

/** Each row of x `[rows, features]` in uint8, and the scales `[rows, 1]`. */
function rounded(g: GraphBuilder, x: Value): { integers: Value; scales: Value } {
  const [rows = 1] = x.shape;
  const extreme = (op: string): Value => g.node(op, [x, g.ints([1])], [rows], { attributes: { keepdims: 0 } });
  // One look at each extreme costs less than a look at the absolute values, which would be written out.
  const largest = g.node('Max', [extreme('ReduceMax'), g.map('Neg', extreme('ReduceMin'))], [rows]);
  const scales = g.zip('Add', g.zip('Mul', largest, g.scalar(1 / LARGEST)), g.scalar(SMALLEST_SCALE)); // [rows]
  const zeros = g.constant(new Uint8Array(rows).fill(ZERO_POINT), 'uint8', [rows]);
  const options = { dtype: 'uint8', attributes: { axis: 0 } } as const;
  const integers = g.node('QuantizeLinear', [x, scales, zeros], x.shape, options);
  return { integers, scales: g.reshape(scales, [rows, 1]) };
}

/** Bytes as floats, with their sign. */
function signed(g: GraphBuilder, bytes: Value): Value {
  const numbers = g.cast(bytes, 'float32');
  return bytes.dtype === 'uint8' ? g.zip('Sub', numbers, g.scalar(ZERO_POINT)) : numbers;
}
