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

/** dy (Phi(x) + x phi(x)), Phi the normal distribution and phi its density. */
function geluGrad(g: GraphBuilder, { dy, x }: Record<'dy' | 'x', Value>): Value {
  const distribution = hardSigmoid(g, g.map('Erf', g.zip('Mul', x, g.scalar(Math.SQRT1_2))), 0.5, 0.5);
  const bell = g.map('Exp', g.zip('Mul', square(g, x), g.scalar(-0.5)));
  const slope = g.zip('Mul', g.zip('Mul', x, bell), g.scalar(1 / Math.sqrt(2 * Math.PI)));
  return g.zip('Mul', dy, g.zip('Add', distribution, slope));
}
