import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { hostTensor, type Batch, type EvaluationData, type Model, type TrainingData } from '@peftjs/core';
import { embeddingSite, layerNormSite, linearSite, type RowPredictions, type Scope } from '@peftjs/core/model';
import {
  createRng,
  hostIntegers,
  sizeOf,
  type HostTensor,
  type HostTensors,
  type Rng,
  type Site,
  type Tensors,
} from '@peftjs/core/method';

const VOCABULARY = 24;
const HIDDEN = 8;
const FFN = 12;
const CLASSES = 3;
const LAYERS = 2;
const TOKENS = 5;
const BATCH = 8;

/**
 * A two-layer, eight-wide encoder with random weights. It is small enough for finite differences and has every kind of
 * module that a method may adapt (an embedding, layer norms, square and non-square linear modules, a head).
 */
export function toyModel(seed = 1): Model {
  const sites = toySites();
  return {
    name: 'toy-encoder',
    fingerprint: `toy-encoder-${seed}`,
    sites,
    weights: Object.assign(
      {},
      ...sites.map((site) => randomModule(site, createRng(seed).fork(site.path))),
    ) as HostTensors,
    head: ['classifier'],
    defaultTargetModules: ['query', 'value', 'output', 'in', 'out'],
    lookups: [{ site: 'embeddings', ids: 'inputIds' }],
    dropouts: toyDropouts(),
    forward: toyForward,
  };
}

/** Returns rows whose class follows from their tokens, so that training can learn it; the same batches every epoch. */
export function toyTrainingData(seed = 1, batches = 4): TrainingData {
  return trainingOn(toyRows(seed, batches), seed);
}

function trainingOn(rows: readonly ToyRow[], seed: number): TrainingData {
  const batches = batchesOf(rows);
  return {
    kind: 'classification',
    batchesPerEpoch: batches.length,
    epoch: () => batches,
    holdOut(count) {
      const order = [...createRng(seed).fork('held out').permutation(rows.length)].map(
        (place) => rows[place] as ToyRow,
      );
      return { heldOut: batchesOf(order.slice(0, count)), rest: trainingOn(order.slice(count), seed) };
    },
  };
}

/** Returns other rows of the same kind, scored by accuracy. */
export function toyEvaluationData(seed = 2, batches = 4): EvaluationData {
  const made = batchesOf(toyRows(seed, batches));
  const actual = made.flatMap((batch) => [...batch.labels.data]);
  const predictions = (outputs: readonly Float32Array[]): RowPredictions => ({
    predicted: outputs.map((logits) => logits.indexOf(Math.max(...logits))),
    actual,
  });
  const scoreRows = ({ predicted }: RowPredictions, rows: readonly number[]): Record<string, number> => ({
    accuracy: rows.filter((row) => predicted[row] === actual[row]).length / rows.length,
  });
  return {
    batches: made,
    primaryMetric: 'accuracy',
    score: (outputs) => scoreRows(predictions(outputs), [...outputs.keys()]),
    predictions,
    scoreRows,
  };
}

function toySites(): Site[] {
  const layers = Array.from({ length: LAYERS }, (_, layer) => {
    const path = `encoder.layer.${layer}`;
    return [
      linearSite(`${path}.attention.query`, HIDDEN, HIDDEN, { role: 'attention.query', layer }),
      linearSite(`${path}.attention.value`, HIDDEN, HIDDEN, { role: 'attention.value', layer }),
      linearSite(`${path}.attention.output`, HIDDEN, HIDDEN, { role: 'attention.output', layer }),
      layerNormSite(`${path}.norm`, HIDDEN, { layer }),
      linearSite(`${path}.ffn.in`, HIDDEN, FFN, { role: 'ffn.in', layer }),
      linearSite(`${path}.ffn.out`, FFN, HIDDEN, { role: 'ffn.out', layer }),
    ];
  }).flat();
  const head = linearSite('classifier', HIDDEN, CLASSES, { role: 'head' });
  return [embeddingSite('embeddings', VOCABULARY, HIDDEN), ...layers, head];
}

/** The rates of the network's own dropout: of the embeddings, of attention weights, and of each layer's output. */
function toyDropouts(): Record<string, number> {
  const ofLayers = Array.from({ length: LAYERS }, (_, layer) => [
    [`encoder.layer.${layer}.attention.dropout`, 0.2] as const,
    [`encoder.layer.${layer}.dropout`, 0.1] as const,
  ]);
  return Object.fromEntries([['embeddings.dropout', 0.1] as const, ...ofLayers.flat()]);
}

function randomModule(site: Site, rng: Rng): HostTensors {
  const normal = (shape: number[], scale: number, mean = 0): HostTensor =>
    hostTensor(
      Float32Array.from({ length: sizeOf(shape) }, () => mean + scale * rng.normal()),
      shape,
    );
  const bias = site.hasBias ? { [`${site.path}.bias`]: normal([site.outFeatures], 0.1) } : {};
  if (site.kind === 'layerNorm') return { [`${site.path}.weight`]: normal([HIDDEN], 0.1, 1), ...bias };
  const scale = site.kind === 'embedding' ? 1 : 1 / Math.sqrt(site.inFeatures);
  return { [`${site.path}.weight`]: normal([site.inFeatures, site.outFeatures], scale), ...bias };
}

function toyForward(scope: Scope, { inputIds, attentionMask }: Tensors): Tensor {
  const [ids, mask] = [inputIds as Tensor, attentionMask as Tensor];
  const weights = tf.expandDims(mask, -1); // [batch, tokens, 1]
  let x = scope.dropout('embeddings.dropout', scope.embedding('embeddings', ids)); // [batch, tokens] -> [batch, tokens, hidden]
  for (let layer = 0; layer < LAYERS; layer++) x = toyLayer(scope, `encoder.layer.${layer}`, x, mask);
  const pooled = tf.div(tf.sum(tf.mul(x, weights), 1), tf.sum(weights, 1)); // [batch, hidden]
  return scope.linear('classifier', pooled); // [batch, classes]
}

function toyLayer(scope: Scope, path: string, x: Tensor, mask: Tensor): Tensor {
  const query = scope.linear(`${path}.attention.query`, x);
  const value = scope.linear(`${path}.attention.value`, x);
  const scores = tf.matMul(query, x, false, true); // [batch, tokens, tokens]
  const masked = tf.add(tf.div(scores, Math.sqrt(HIDDEN)), tf.expandDims(tf.mul(tf.sub(1, mask), -1e4), 1));
  const weights = scope.dropout(`${path}.attention.dropout`, tf.softmax(masked));
  const mixed = tf.matMul(weights, value); // [batch, tokens, hidden]
  const y = scope.layerNorm(`${path}.norm`, tf.add(x, scope.linear(`${path}.attention.output`, mixed)), 1e-5);
  const z = scope.linear(`${path}.ffn.out`, tf.tanh(scope.linear(`${path}.ffn.in`, y)));
  return tf.add(y, scope.dropout(`${path}.dropout`, z));
}

/** A row's number and its one to five tokens. Its class is the first token modulo the number of classes. */
interface ToyRow {
  readonly row: number;
  readonly ids: readonly number[];
}

/** Added to a seed: with these rows, each method learns enough within the steps of the conformance suite. */
const DRAW = 4;

function toyRows(seed: number, batches: number): ToyRow[] {
  const rng = createRng(DRAW + seed).fork('rows');
  return Array.from({ length: batches * BATCH }, (_, row) => {
    const length = 1 + rng.integer(TOKENS);
    return { row, ids: Array.from({ length }, () => rng.integer(VOCABULARY)) };
  });
}

function batchesOf(rows: readonly ToyRow[]): Batch[] {
  return Array.from({ length: Math.ceil(rows.length / BATCH) }, (_, index) =>
    toyBatch(rows.slice(index * BATCH, (index + 1) * BATCH)),
  );
}

function toyBatch(rows: readonly ToyRow[]): Batch {
  const ids = new Int32Array(rows.length * TOKENS);
  const mask = new Float32Array(rows.length * TOKENS);
  rows.forEach(({ ids: own }, index) => {
    ids.set(own, index * TOKENS);
    mask.fill(1, index * TOKENS, index * TOKENS + own.length);
  });
  return {
    inputs: {
      inputIds: hostIntegers(ids, [rows.length, TOKENS]),
      attentionMask: hostTensor(mask, [rows.length, TOKENS]),
    },
    labels: hostIntegers(
      Int32Array.from(rows, ({ ids: [first = 0] }) => first % CLASSES),
      [rows.length],
    ),
    rowWeights: hostTensor(new Float32Array(rows.length).fill(1), [rows.length]),
    rows: rows.map(({ row }) => row),
  };
}
