import * as tf from '@tensorflow/tfjs';
import type { GraphBuilder, Value } from '../graph.js';
import { hardSigmoid, square } from './elementwise.js';
import type { KernelTable, Unary } from './kernel.js';

/** Whole layers of `@peftjs/core/nn` as the nodes that ONNX Runtime has for them. */
export const fused: KernelTable = {
  PeftLayerNorm: layerNorm,
  PeftGelu: gelu,
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

/** One node, unless a gradient follows: then x Phi(x), so that Phi is computed once for both. */
function gelu(g: GraphBuilder, { x }: Unary): Value {
  const isDifferentiated = tf.engine().state.gradientDepth > 0;
  return isDifferentiated ? g.zip('Mul', x, normalCdf(g, x)) : g.map('Gelu', x);
}

/** dy (Phi(x) + x phi(x)) */
function geluGrad(g: GraphBuilder, { dy, x }: Record<'dy' | 'x', Value>): Value {
  const bell = g.map('Exp', g.zip('Mul', square(g, x), g.scalar(-0.5)));
  const slope = g.zip('Mul', g.zip('Mul', x, g.scalar(1 / Math.sqrt(2 * Math.PI))), bell);
  return g.zip('Mul', dy, g.zip('Add', normalCdf(g, x), slope));
}

/** Phi(x) = erf(x / sqrt 2) / 2 + 1 / 2, which lies within [0, 1]. */
function normalCdf(g: GraphBuilder, x: Value): Value {
  return hardSigmoid(g, g.map('Erf', g.zip('Mul', x, g.scalar(Math.SQRT1_2))), 0.5, 0.5);
}
