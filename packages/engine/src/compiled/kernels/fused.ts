import type { FusedKernels } from '@peftjs/core/nn';
import type { GraphBuilder, Value } from '../graph.js';
import { hardSigmoid, square } from './elementwise.js';
import type { FusedTable } from './kernel.js';
import type { QuantizedName } from './quantized.js';

/** Kernels that compile whole layers of `@peftjs/core/nn` to ONNX Runtime's fused operators. */
export const fused: Omit<FusedTable, QuantizedName> = {
  PeftLayerNorm: layerNorm,
  PeftGelu: (g, { x }) => g.map('Gelu', x),
  PeftGeluGrad: geluGrad,
  PeftGeluTanh: (g, { x }) => g.map('Gelu', x, { attributes: { approximate: 'tanh' } }),
  PeftRmsNorm: rmsNorm,
  PeftRotary: rotary,
  PeftSilu: (g, { x }) => g.map('QuickGelu', x, { domain: MICROSOFT, attributes: { alpha: { float: 1 } } }),
};

/** The domain of ONNX Runtime's own operators. */
const MICROSOFT = 'com.microsoft';

/** y, mean and 1 / standard deviation, the last two `[.., 1]`. */
function layerNorm(
  g: GraphBuilder,
  { x, gain, shift }: Record<'x' | 'gain' | 'shift', Value>,
  { epsilon }: { epsilon: number },
): [Value, Value, Value] {
  const moments = [...x.shape.slice(0, -1), 1];
  const rows = g.rows(x); // [rows, features]
  const [count = 1] = rows.shape;
  const outputs = [rows.shape, [count, 1], [count, 1]].map((shape) => ({ dtype: x.dtype, shape }));
  const attributes = { axis: -1, epsilon: { float: epsilon } };
  const values = g.nodeOf('LayerNormalization', [rows, gain, shift], outputs, { attributes });
  const [y, mean, invStd] = values as [Value, Value, Value];
  return [g.reshape(y, x.shape), g.reshape(mean, moments), g.reshape(invStd, moments)];
}

/** dy (Phi(x) + x phi(x)), Phi the normal distribution and phi its density. */
function geluGrad(g: GraphBuilder, { dy, x }: Record<'dy' | 'x', Value>): Value {
  const distribution = hardSigmoid(g, g.map('Erf', g.zip('Mul', x, g.scalar(Math.SQRT1_2))), 0.5, 0.5);
  const bell = g.map('Exp', g.zip('Mul', square(g, x), g.scalar(-0.5)));
  const slope = g.zip('Mul', g.zip('Mul', x, bell), g.scalar(1 / Math.sqrt(2 * Math.PI)));
  return g.zip('Mul', dy, g.zip('Add', distribution, slope));
}

/** y, and 1 / root mean square `[.., 1]`. */
function rmsNorm(
  g: GraphBuilder,
  { x, gain }: Record<'x' | 'gain', Value>,
  { epsilon }: { epsilon: number },
): [Value, Value] {
  const rows = g.rows(x); // [rows, features]
  const [count = 1] = rows.shape;
  const outputs = [rows.shape, [count, 1]].map((shape) => ({ dtype: x.dtype, shape }));
  const attributes = { axis: -1, epsilon: { float: epsilon } };
  const [y, invRms] = g.nodeOf('SimplifiedLayerNormalization', [rows, gain], outputs, { attributes }) as [Value, Value];
  return [g.reshape(y, x.shape), g.reshape(invRms, [...x.shape.slice(0, -1), 1])];
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
