import type { GraphBuilder, Value } from '../graph.js';
import { hardSigmoid, square } from './elementwise.js';
import type { KernelTable, Unary } from './kernel.js';

/** Whole layers of `@peftjs/core/nn` as the nodes that ONNX Runtime has for them. */
export const fused: KernelTable = {
  PeftLayerNorm: layerNorm,
  PeftGelu: (g, { x }: Unary) => g.map('Gelu', x),
  PeftGeluGrad: geluGrad,
};

/** y, mean and 1 / standard deviation, the last two `[.., 1]`. */
function layerNorm(
  g: GraphBuilder,
  { x, gain, shift }: Record<'x' | 'gain' | 'shift', Value>,
  { epsilon }: { epsilon: number },
): Value[] {
  const moments = [...x.shape.slice(0, -1), 1];
  const rows = g.rows(x); // [rows, features]
  const [count = 1] = rows.shape;
  const outputs = [rows.shape, [count, 1], [count, 1]].map((shape) => ({ dtype: x.dtype, shape }));
  const attributes = { axis: -1, epsilon: { float: epsilon } };
  const values = g.nodeOf('LayerNormalization', [rows, gain, shift], outputs, { attributes });
  return values.map((value, index) => g.reshape(value, index === 0 ? x.shape : moments));
}

/**
 * dy (Phi(x) + x phi(x)), arranged for few passes over memory. Half of the slope is the difference of two terms that lie within
 * [0, 1], where one operator scales and shifts: Phi(x) / 2 + 1/4 and 1/4 - x phi(x) / 2. The factor 2 goes to dy, into the
 * matrix product that made it.
 */
function geluGrad(g: GraphBuilder, { dy, x }: Record<'dy' | 'x', Value>): Value {
  const bell = g.map('Exp', g.zip('Mul', square(g, x), g.scalar(-0.5))); // sqrt(2 pi) phi(x)
  const falling = hardSigmoid(g, g.zip('Mul', x, bell), -0.5 / Math.sqrt(2 * Math.PI), 0.25);
  const rising = hardSigmoid(g, g.map('Erf', g.zip('Mul', x, g.scalar(Math.SQRT1_2))), 0.25, 0.5);
  return g.zip('Mul', g.zip('Mul', dy, g.scalar(2)), g.zip('Sub', rising, falling));
}
