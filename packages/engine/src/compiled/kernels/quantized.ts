/**
 * Products of a matrix with a frozen 8-bit weight, W = s Q (`@peftjs/core/nn`, quantizedLinear), by ONNX Runtime's
 * product of uint8 and int8 with exact sums:
 *
 *   x row by row as r (u - 128), u in 1..255, r = max |x| / 127
 *   y  = r s ((u - 128) Q)        dx = r' ((u' - 128) Q^T) with u', r' of dy s
 *
 * The weight is one input of the graph; the backward pass transposes its bytes.
 */
import type { GraphBuilder, Value } from '../graph.js';
import type { FusedTable } from './kernel.js';

/** The only kernels that read an 8-bit weight. */
export type QuantizedName = 'PeftInt8MatMul' | 'PeftInt8MatMulGrad' | 'PeftDequantize';

export const quantized: Pick<FusedTable, QuantizedName> = {
  PeftInt8MatMul: (g, { x, values, scale }) => integerProduct(g, x, values, scale),
  PeftInt8MatMulGrad: (g, { dy, values, scale }) =>
    integerProduct(g, g.zip('Mul', dy, scale), g.transpose(values, [1, 0]), g.scalar(1)),
  PeftDequantize: (g, { values, scale }) => g.zip('Mul', signed(g, values), scale),
};

const ZERO_POINT = 128;
const INT8_MAX = 127;
/** Avoids a scale of zero for a row of zeros; every row that matters is larger. */
const SMALLEST_SCALE = 1e-30;

/** x `[rows, inner]` times bytes `[inner, columns]` and the scale of each column -> `[rows, columns]` */
function integerProduct(g: GraphBuilder, x: Value, bytes: Value, scale: Value): Value {
  const { integers, scales } = rounded(g, g.rows(x));
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
  const largest = g.node('Max', [extreme('ReduceMax'), g.map('Neg', extreme('ReduceMin'))], [rows]);
  const scales = g.zip('Add', g.zip('Mul', largest, g.scalar(1 / INT8_MAX)), g.scalar(SMALLEST_SCALE)); // [rows]
  const zeros = g.constant(new Uint8Array(rows).fill(ZERO_POINT), 'uint8', [rows]);
  const options = { dtype: 'uint8', attributes: { axis: 0 } } as const;
  const integers = g.node('QuantizeLinear', [x, scales, zeros], x.shape, options);
  return { integers, scales: g.reshape(scales, [rows, 1]) };
}

/** Bytes as floats, with the sign restored. */
function signed(g: GraphBuilder, bytes: Value): Value {
  const numbers = g.cast(bytes, 'float32');
  return bytes.dtype === 'uint8' ? g.zip('Sub', numbers, g.scalar(ZERO_POINT)) : numbers;
}
