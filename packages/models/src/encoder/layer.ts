/**
 * A post-norm transformer layer, whatever its attention is. x: hidden states, c: what the attention makes of them.
 *
 *   a  = LN(x + c W_o)
 *   x' = LN(a + gelu(a W_i) W_f)     gelu(z) = z Phi(z)
 *
 * Every W has a bias.
 */
import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import { layerNormSite, linearSite } from '@peftjs/core';
import type { Scope, Site } from '@peftjs/core';
import { gelu } from '@peftjs/core/nn';

/** What the modules of a layer are called below it, as in transformers. */
export interface LayerNames {
  readonly query: string;
  readonly key: string;
  readonly value: string;
  /** W_o and the norm after it. */
  readonly output: string;
  readonly outputNorm: string;
  /** W_i, W_f and the norm after them. */
  readonly inner: string;
  readonly outer: string;
  readonly outerNorm: string;
}

/** The names of BERT and of most that came after it. */
export const bertLayerNames: LayerNames = {
  query: 'attention.self.query',
  key: 'attention.self.key',
  value: 'attention.self.value',
  output: 'attention.output.dense',
  outputNorm: 'attention.output.LayerNorm',
  inner: 'intermediate.dense',
  outer: 'output.dense',
  outerNorm: 'output.LayerNorm',
};

/** The sizes of a layer. */
export interface LayerConfig {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layerNormEps: number;
}

/** Where a layer stands. */
export interface LayerPlace {
  readonly path: string;
  readonly names: LayerNames;
}

/** The modules of the layer of that index, in the order of the forward pass. */
export function layerSites({ path, names }: LayerPlace, config: LayerConfig, layer: number): Site[] {
  const { hiddenSize, intermediateSize } = config;
  return [
    linearSite(`${path}.${names.query}`, hiddenSize, hiddenSize, { role: 'attention.query', layer }),
    linearSite(`${path}.${names.key}`, hiddenSize, hiddenSize, { role: 'attention.key', layer }),
    linearSite(`${path}.${names.value}`, hiddenSize, hiddenSize, { role: 'attention.value', layer }),
    linearSite(`${path}.${names.output}`, hiddenSize, hiddenSize, { role: 'attention.output', layer }),
    layerNormSite(`${path}.${names.outputNorm}`, hiddenSize, { layer }),
    linearSite(`${path}.${names.inner}`, hiddenSize, intermediateSize, { role: 'ffn.in', layer }),
    linearSite(`${path}.${names.outer}`, intermediateSize, hiddenSize, { role: 'ffn.out', layer }),
    layerNormSite(`${path}.${names.outerNorm}`, hiddenSize, { layer }),
  ];
}

/** What a layer makes of hidden states x and the attention's context, both [B, Q, H] -> [B, Q, H]. */
export function afterAttention(
  scope: Scope,
  { path, names }: LayerPlace,
  { layerNormEps }: LayerConfig,
  { x, context }: { readonly x: Tensor; readonly context: Tensor },
): Tensor {
  const mixed = scope.linear(`${path}.${names.output}`, context);
  const attended = scope.layerNorm(`${path}.${names.outputNorm}`, tf.add(x, mixed), layerNormEps);
  const inner = gelu(scope.linear(`${path}.${names.inner}`, attended)); // [B, Q, intermediate]
  const outer = scope.linear(`${path}.${names.outer}`, inner); // [B, Q, H]
  return scope.layerNorm(`${path}.${names.outerNorm}`, tf.add(attended, outer), layerNormEps);
}
