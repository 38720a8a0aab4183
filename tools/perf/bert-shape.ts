import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import {
  createRng,
  hostTensor,
  sizeOf,
  type HostTensor,
  type HostTensors,
  type Model,
  type Scope,
  type Site,
  type SiteRole,
  type Tensors,
} from '@peftjs/core';
import { attention, gelu, maskBias } from '@peftjs/core/nn';

/** The size of a BERT-like encoder. */
export interface BertShape {
  readonly layers: number;
  readonly hidden: number;
  readonly ffn: number;
  readonly heads: number;
  readonly vocabulary: number;
}

/** all-MiniLM-L6: 6 layers of 384. */
export const MINILM: BertShape = { layers: 6, hidden: 384, ffn: 1536, heads: 12, vocabulary: 30_522 };

const EPSILON = 1e-12;

/** A BERT-like classifier of a given size with random weights: real shapes for timings, no use for anything else. */
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
    head: 'classifier',
    defaultTargetModules: ['query', 'value'],
    lookups: [{ site: 'embeddings', ids: 'inputIds' }],
    forward: (scope, inputs) => forward(shape, scope, inputs),
  };
}

function sitesOf({ layers, hidden, ffn, vocabulary }: BertShape): Site[] {
  const site = (path: string, role: SiteRole, inFeatures: number, outFeatures: number, layer?: number): Site => ({
    path,
    kind: 'linear',
    role,
    inFeatures,
    outFeatures,
    hasBias: true,
    ...(layer === undefined ? {} : { layer }),
  });
  const norm = (path: string): Site => ({ ...site(path, 'other', hidden, hidden), kind: 'layerNorm' });
  const blocks = Array.from({ length: layers }, (_, layer) => {
    const path = `encoder.layer.${layer}`;
    return [
      site(`${path}.attention.query`, 'attention.query', hidden, hidden, layer),
      site(`${path}.attention.key`, 'attention.key', hidden, hidden, layer),
      site(`${path}.attention.value`, 'attention.value', hidden, hidden, layer),
      site(`${path}.attention.output`, 'attention.output', hidden, hidden, layer),
      norm(`${path}.attention.norm`),
      site(`${path}.ffn.in`, 'ffn.in', hidden, ffn, layer),
      site(`${path}.ffn.out`, 'ffn.out', ffn, hidden, layer),
      norm(`${path}.ffn.norm`),
    ];
  }).flat();
  const embeddings: Site = { ...site('embeddings', 'other', vocabulary, hidden), kind: 'embedding', hasBias: false };
  return [embeddings, norm('embeddings.norm'), ...blocks, site('classifier', 'head', hidden, 2)];
}

function forward({ layers, hidden, heads }: BertShape, scope: Scope, { inputIds, attentionMask }: Tensors): Tensor {
  const [batch = 0, tokens = 0] = (inputIds as Tensor).shape;
  const bias = maskBias(attentionMask as Tensor); // [batch, 1, 1, tokens]
  const embedded = tf.add(scope.embedding('embeddings', inputIds as Tensor), scope.weight('positions.weight')); // [batch, tokens, hidden]
  let x = scope.layerNorm('embeddings.norm', embedded, EPSILON);
  for (let layer = 0; layer < layers; layer++) {
    const path = `encoder.layer.${layer}`;
    const project = (name: string): Tensor => scope.linear(`${path}.attention.${name}`, x);
    const mixed = attention(project('query'), project('key'), project('value'), { heads, maskBias: bias });
    const attended = scope.layerNorm(
      `${path}.attention.norm`,
      tf.add(x, scope.linear(`${path}.attention.output`, mixed)),
      EPSILON,
    );
    const widened = gelu(scope.linear(`${path}.ffn.in`, attended)); // [batch, tokens, ffn]
    x = scope.layerNorm(`${path}.ffn.norm`, tf.add(attended, scope.linear(`${path}.ffn.out`, widened)), EPSILON);
  }
  const first = tf.reshape(tf.slice(tf.reshape(x, [batch, tokens, hidden]), [0, 0, 0], [batch, 1, hidden]), [
    batch,
    hidden,
  ]);
  return scope.linear('classifier', first);
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
