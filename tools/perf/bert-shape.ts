import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import { hostTensor, type Model } from '@peftjs/core';
import {
  createRng,
  embeddingSite,
  layerNormSite,
  linearSite,
  sizeOf,
  type HostTensor,
  type HostTensors,
  type Scope,
  type Site,
  type Tensors,
} from '@peftjs/core/method';
import { attention, gelu, maskBias } from '@peftjs/core/nn';

/** The sizes of a BERT-like encoder. */
export interface BertShape {
  /** Number of layers. */
  readonly layers: number;
  /** Width of the hidden states. */
  readonly hidden: number;
  /** Width of the feed-forward layers. */
  readonly ffn: number;
  /** Attention heads in each layer. */
  readonly heads: number;
  /** Number of token embeddings. */
  readonly vocabulary: number;
}

/** all-MiniLM-L6: 6 layers of width 384. */
export const MINILM: BertShape = { layers: 6, hidden: 384, ffn: 1536, heads: 12, vocabulary: 30_522 };

const EPSILON = 1e-12;

/** Returns a BERT-like classifier of a given size with random weights, only for timings. */
export function bertShaped(shape: BertShape, tokens: number): Model {
  const sites = sitesOf(shape);
  return {
    name: 'bert-shape',
    fingerprint: JSON.stringify(shape),
    sites,
    weights: {
      ...Object.assign({}, ...sites.map(randomModule)),
      'positions.weight': normal([tokens, shape.hidden], 'positions'),
    } as HostTensors,
    head: ['classifier'],
    defaultTargetModules: ['query', 'value'],
    lookups: [{ site: 'embeddings', ids: 'inputIds' }],
    forward: (scope, inputs) => forward(shape, scope, inputs),
  };
}

function sitesOf({ layers, hidden, ffn, vocabulary }: BertShape): Site[] {
  const blocks = Array.from({ length: layers }, (_, layer) => {
    const path = `encoder.layer.${layer}`;
    return [
      linearSite(`${path}.attention.query`, hidden, hidden, { role: 'attention.query', layer }),
      linearSite(`${path}.attention.key`, hidden, hidden, { role: 'attention.key', layer }),
      linearSite(`${path}.attention.value`, hidden, hidden, { role: 'attention.value', layer }),
      linearSite(`${path}.attention.output`, hidden, hidden, { role: 'attention.output', layer }),
      layerNormSite(`${path}.attention.norm`, hidden),
      linearSite(`${path}.ffn.in`, hidden, ffn, { role: 'ffn.in', layer }),
      linearSite(`${path}.ffn.out`, ffn, hidden, { role: 'ffn.out', layer }),
      layerNormSite(`${path}.ffn.norm`, hidden),
    ];
  }).flat();
  const head = linearSite('classifier', hidden, 2, { role: 'head' });
  return [embeddingSite('embeddings', vocabulary, hidden), layerNormSite('embeddings.norm', hidden), ...blocks, head];
}

function forward({ layers, hidden, heads }: BertShape, scope: Scope, { inputIds, attentionMask }: Tensors): Tensor {
  const bias = maskBias(attentionMask as Tensor); // [batch, 1, 1, tokens]
  const embedded = tf.add(scope.embedding('embeddings', inputIds as Tensor), scope.weight('positions.weight'));
  let x = scope.layerNorm('embeddings.norm', embedded, EPSILON); // [batch, tokens, hidden]
  for (let layer = 0; layer < layers; layer++) {
    // The classifier reads only the first position, so the last layer computes nothing else.
    const queries = layer === layers - 1 ? firstPosition(x) : x; // [batch, 1 or tokens, hidden]
    x = encoderLayer(scope, `encoder.layer.${layer}`, { x, queries, heads, bias });
  }
  return scope.linear('classifier', tf.reshape(x, [-1, hidden])); // [batch, 1, hidden] -> [batch, 2]
}

function encoderLayer(
  scope: Scope,
  path: string,
  { x, queries, heads, bias }: { x: Tensor; queries: Tensor; heads: number; bias: Tensor },
): Tensor {
  const query = scope.linear(`${path}.attention.query`, queries);
  const key = scope.linear(`${path}.attention.key`, x);
  const value = scope.linear(`${path}.attention.value`, x);
  const mixed = scope.linear(`${path}.attention.output`, attention(query, key, value, { heads, maskBias: bias }));
  const attended = scope.layerNorm(`${path}.attention.norm`, tf.add(queries, mixed), EPSILON);
  const widened = gelu(scope.linear(`${path}.ffn.in`, attended)); // [.., hidden] -> [.., ffn]
  return scope.layerNorm(`${path}.ffn.norm`, tf.add(attended, scope.linear(`${path}.ffn.out`, widened)), EPSILON);
}

/** [batch, tokens, hidden] -> [batch, 1, hidden] */
function firstPosition(x: Tensor): Tensor {
  return tf.slice(x, [0, 0, 0], [-1, 1, -1]);
}

function randomModule(site: Site): HostTensors {
  const { path, kind, inFeatures, outFeatures, hasBias } = site;
  const bias = hasBias ? { [`${path}.bias`]: hostTensor(new Float32Array(outFeatures), [outFeatures]) } : {};
  if (kind === 'layerNorm')
    return { [`${path}.weight`]: hostTensor(new Float32Array(outFeatures).fill(1), [outFeatures]), ...bias };
  return { [`${path}.weight`]: normal([inFeatures, outFeatures], path), ...bias };
}

function normal(shape: readonly number[], label: string): HostTensor {
  const rng = createRng(7).fork(label);
  return hostTensor(
    Float32Array.from({ length: sizeOf(shape) }, () => 0.06 * (rng.uniform() - 0.5)),
    shape,
  );
}
