import type { BatchMatMulAttrs, _FusedMatMulAttrs } from '@tensorflow/tfjs-core';
import { EngineError } from '@peftjs/core/method';
import { broadcast } from '../graph.js';
import type { GraphBuilder, Value } from '../graph.js';
import { activate, clip } from './elementwise.js';
import { indices } from './kernel.js';
import type { Binary, KernelTable } from './kernel.js';

/** Matrix products. */
export const products: KernelTable = {
  BatchMatMul: matMul,
  _FusedMatMul: fusedMatMul,
};

/** `[.., rows, inner]` x `[.., inner, columns]`, each transposed on request; the leading axes broadcast. */
function matMul(g: GraphBuilder, inputs: Binary, { transposeA, transposeB }: BatchMatMulAttrs): Value {
  const [a, b] = [transposeA ? swapped(g, inputs.a) : inputs.a, transposeB ? swapped(g, inputs.b) : inputs.b];
  const batch = broadcast([a.shape.slice(0, -2), b.shape.slice(0, -2)]);
  return g.node('MatMul', [a, b], [...batch, ...a.shape.slice(-2, -1), ...b.shape.slice(-1)]);
}

/** The last two axes exchanged. ONNX Runtime folds the transpose into the product that reads it. */
function swapped(g: GraphBuilder, x: Value): Value {
  const rank = x.shape.length;
  return g.transpose(x, [...indices(rank - 2), rank - 1, rank - 2]);
}

interface FusedMatMulInputs extends Binary {
  readonly bias?: Value;
  readonly preluActivationWeights?: Value;
}

function fusedMatMul(g: GraphBuilder, inputs: FusedMatMulInputs, at: _FusedMatMulAttrs): Value {
  const { bias, preluActivationWeights } = inputs;
  const product = matMul(g, inputs, at);
  const y = bias === undefined ? product : g.zip('Add', product, bias);
  switch (at.activation) {
    case 'linear':
      return y;
    case 'relu':
      return g.map('Relu', y);
    case 'relu6':
      return clip(g, y, 0, 6);
    case 'elu':
      return activate(g, 'Elu', y, 1);
    case 'sigmoid':
      return g.map('Sigmoid', y);
    case 'leakyrelu':
      return activate(g, 'LeakyRelu', y, at.leakyreluAlpha ?? 0.2);
    case 'prelu':
      if (preluActivationWeights !== undefined) return g.zip('PRelu', y, preluActivationWeights);
  }
  throw new EngineError(
    `tf.fused.matMul with activation '${at.activation}' cannot be compiled; apply the activation by itself`,
  );
}
