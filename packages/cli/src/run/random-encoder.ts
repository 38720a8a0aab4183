import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import { hostTensor, type Batch, type Model } from '@peftjs/core';
import {
  createRng,
  embeddingSite,
  hostIntegers,
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

/** The size of an encoder like BERT, and of its random weights. */
export interface EncoderShape {
  readonly layers: number;
  /** Width of the hidden states. */
  readonly hidden: number;
  /** Width of the feed-forward modules. */
  readonly ffn: number;
  /** Attention heads. */
  readonly heads: number;
  /** Words of the vocabulary. */
  readonly vocabulary: number;
  /** Weights are drawn uniformly from minus this number up to it. */
  readonly weights: number;
}

const EPSILON = 1e-12;

/** A BERT-like classifier for two classes with random weights, for rows of exactly `tokens` tokens. */
export function randomEncoder(shape: EncoderShape, tokens: number): Model {
  const { hidden, weights } = shape;
  const sites = sitesOf(shape);
  return {
    name: 'random-encoder',
    fingerprint: JSON.stringify(shape),
    sites,
    weights: {
      ...Object.assign({}, ...sites.map((site) => randomModule(site, weights))),
      'positions.weight': uniform([tokens, hidden], weights, 'positions'),
    } as HostTensors,
    head: ['classifier'],
    defaultTargetModules: ['query', 'value'],
    lookups: [{ site: 'embeddings', ids: 'inputIds' }],
    forward: (scope, inputs) => forward(shape, scope, inputs),
  };
}

/** Batches of random tokens. Each row is a token shorter than the one before, down to half of the length, and padded. */
export function randomBatches(
  { vocabulary }: Pick<EncoderShape, 'vocabulary'>,
  { count, rows, tokens }: { readonly count: number; readonly rows: number; readonly tokens: number },
): Batch[] {
  const rng = createRng(3).fork('batches');
  const shape = [rows, tokens];
  const lengthOf = (row: number): number => tokens - (row % Math.ceil(tokens / 2));
  const numbers = (draw: () => number): number[] =>
    Array.from({ length: rows * tokens }, (_, at) => (at % tokens < lengthOf(Math.floor(at / tokens)) ? draw() : 0));
  return Array.from({ length: count }, () => ({
    inputs: {
      inputIds: hostIntegers(Int32Array.from(numbers(() => rng.integer(vocabulary))), shape),
      attentionMask: hostTensor(Float32Array.from(numbers(() => 1)), shape),
    },
    labels: hostIntegers(
      Int32Array.from({ length: rows }, () => rng.integer(CLASSES)),
      [rows],
    ),
    rowWeights: hostTensor(new Float32Array(rows).fill(1), [rows]),
    rows: Array.from({ length: rows }, (_, row) => row),
  }));
}

const CLASSES = 2;

function sitesOf({ layers, hidden, ffn, vocabulary }: EncoderShape): Site[] {
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
  const head = linearSite('classifier', hidden, CLASSES, { role: 'head' });
  return [embeddingSite('embeddings', vocabulary, hidden), layerNormSite('embeddings.norm', hidden), ...blocks, head];
}

function forward({ layers, hidden, heads }: EncoderShape, scope: Scope, { inputIds, attentionMask }: Tensors): Tensor {
  const bias = maskBias(attentionMask as Tensor); // [batch, 1, 1, tokens]
  const embedded = tf.add(scope.embedding('embeddings', inputIds as Tensor), scope.weight('positions.weight'));
  let x = scope.layerNorm('embeddings.norm', embedded, EPSILON); // [batch, tokens, hidden]
  for (let layer = 0; layer < layers; layer++) {
    // The classifier reads only the first position, so the last layer computes no other.
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

function randomModule({ path, kind, inFeatures, outFeatures, hasBias }: Site, weights: number): HostTensors {
  const bias = hasBias ? { [`${path}.bias`]: hostTensor(new Float32Array(outFeatures), [outFeatures]) } : {};
  if (kind === 'layerNorm') {
    return { [`${path}.weight`]: hostTensor(new Float32Array(outFeatures).fill(1), [outFeatures]), ...bias };
  }
  return { [`${path}.weight`]: uniform([inFeatures, outFeatures], weights, path), ...bias };
}

function uniform(shape: readonly number[], bound: number, label: string): HostTensor {
  const rng = createRng(7).fork(label);
  return hostTensor(
    Float32Array.from({ length: sizeOf(shape) }, () => bound * (2 * rng.uniform() - 1)),
    shape,
  );
}
