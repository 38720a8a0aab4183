import type { FusedKernels } from '@peftjs/core/nn';
import type { GraphBuilder, Value } from '../graph.js';
import { hardSigmoid, square } from './elementwise.js';
import type { attention } from './attention.js';
import { MICROSOFT, type FusedTable } from './kernel.js';
import type { QuantizedName } from './quantized.js';

/** Kernels that compile whole layers of `@peftjs/core/nn` to ONNX Runtime's fused operators. */
export const fused: Omit<FusedTable, QuantizedName | keyof typeof attention> = {
  PeftLayerNorm: (g, { x, gain, shift }, { epsilon }) =>
    norm(g, 'LayerNormalization', [x, gain, shift], { moments: 2, epsilon }) as [Value, Value, Value],
  PeftGelu: (g, { x }) => g.map('Gelu', x),
  PeftGeluGrad: geluGrad,
  PeftGeluTanh: (g, { x }) => g.map('Gelu', x, { attributes: { approximate: 'tanh' } }),
  PeftRmsNorm: (g, { x, gain }, { epsilon }) =>
    norm(g, 'SimplifiedLayerNormalization', [x, gain], { moments: 1, epsilon }) as [Value, Value],
  PeftRotary: rotary,
  PeftSilu: (g, { x }) => g.map('QuickGelu', x, { domain: MICROSOFT, attributes: { alpha: { float: 1 } } }),
};

/**
 * A norm of the last axis: y, and its `moments` numbers of each row, `[.., 1]`: mean and 1 / standard deviation, or 1 /
 * root mean square.
 */
function norm(
  g: GraphBuilder,
  op: string,
  [x, ...weights]: readonly [Value, ...Value[]],
  { moments, epsilon }: { readonly moments: number; readonly epsilon: number },
): Value[] {
  const rows = g.rows(x); // [rows, features]
  const [count = 1] = rows.shape;
  const shapes = [rows.shape, ...Array<number[]>(moments).fill([count, 1])];
  const outputs = shapes.map((shape) => ({ dtype: x.dtype, shape }));
  const attributes = { axis: -1, epsilon: { float: epsilon } };
  const [y, ...ofRows] = g.nodeOf(op, [rows, ...weights], outputs, { attributes }) as [Value, ...Value[]];
  const moment = [...x.shape.slice(0, -1), 1];
  return [g.reshape(y, x.shape), ...ofRows.map((value) => g.reshape(value, moment))];
}

/** dy (Phi(x) + x phi(x)), Phi the normal distribution and phi its density. */
function geluGrad(g: GraphBuilder, { dy, x }: Record<'dy' | 'x', Value>): Value {
  const distribution = hardSigmoid(g, g.map('Erf', g.zip('Mul', x, g.scalar(Math.SQRT1_2))), 0.5, 0.5);
  const bell = g.map('Exp', g.zip('Mul', square(g, x), g.scalar(-0.5)));
  const slope = g.zip('Mul', g.zip('Mul', x, bell), g.scalar(1 / Math.sqrt(2 * Math.PI)));
  return g.zip('Mul', dy, g.zip('Add', distribution, slope));
}

/**
 * Rotates heads by the angles of their positions. Without `positions`, these are 0, 1, ..: ONNX Runtime reads a single
 * 0 as this.
 */
function rotary(g: GraphBuilder, { x, cos, sin, positions }: Parameters<FusedKernels<Value>['PeftRotary']>[0]): Value {
  const places = positions === undefined ? g.ints([0]) : g.cast(positions, 'int64');
  const attributes = { interleaved: 0 };
  return g.node('RotaryEmbedding', [x, places, cos, sin], x.shape, { domain: MICROSOFT, attributes });
}
