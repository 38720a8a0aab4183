import * as tf from '@tensorflow/tfjs-core';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import { tiedTable } from '../adapter/scope.js';
import type { AdapterLayers } from '../contracts/layer.js';
import type { Model, Scope } from '../contracts/model.js';
import type { Loss, LossBatch } from '../losses/loss.js';
import { surpriseOf, type Surprise } from '../losses/surprise.js';
import { blockedCrossEntropy, type WordBlocks } from '../nn/cross-entropy.js';
import { toRows } from '../nn/linear.js';
import { isQuantized } from '../quantized.js';
import type { Tensors } from '../tensors.js';

/**
 * The number of words in a block. Its logits take as much memory as a layer's widest activations; smaller blocks would
 * multiply more slowly. A smaller vocabulary is one block: its logits are computed whole.
 */
const BLOCK = 4096;

/**
 * Computes a loss on a batch. The logits of a language model with a large vocabulary, which would be the largest tensor
 * of a step, are computed in blocks of words.
 */
export function lossOn(model: Model, layers: AdapterLayers, scope: Scope, loss: Loss, batch: LossBatch): Scalar {
  const surprise = loss.ofSurprise && blockedSurprise(model, layers);
  if (!surprise || !loss.ofSurprise) return loss.loss(model.forward(scope, batch.inputs), batch);
  return loss.ofSurprise(surprise(scope, batch.inputs), batch);
}

/** Returns the surprise at each label of a batch, for any model of tokens. */
export function tokenSurprise(model: Model, layers: AdapterLayers): (scope: Scope, inputs: Tensors) => Surprise {
  return blockedSurprise(model, layers) ?? ((scope, inputs) => surpriseOf(model.forward(scope, inputs)));
}

/** Returns the surprise at each label of a batch, computed in blocks of words; undefined for other models. */
export function blockedSurprise(
  model: Model,
  layers: AdapterLayers,
): ((scope: Scope, inputs: Tensors) => Surprise) | undefined {
  const { split } = model;
  const head = frozenWords(model, layers);
  if (!head || !split) return undefined;
  return (scope, inputs) => {
    const states = toRows(split.features(scope, inputs)); // [batch * tokens, width]
    const blocks = blocksOf(head, split.outputs, scope);
    return (labels) => blockedCrossEntropy(states, labels, blocks);
  };
}

/** The frozen head of a language model. */
interface WordWeights {
  /** The path of its module or, if it is tied, of the table. */
  readonly path: string;
  /** Whether it is tied. */
  readonly isTable: boolean;
  /** The number of words. */
  readonly words: number;
}

/**
 * Returns the head of a model whose logits may be computed in blocks: a linear module or a tied table, frozen, of many
 * words, without an adapter or a bias. A linear module in few bits is multiplied whole, in integers.
 */
function frozenWords(model: Model, layers: AdapterLayers): WordWeights | undefined {
  const { sites, tied = [], weights, outputs: words = 0, split, forward } = model;
  if (model.task !== 'causal-lm' || split?.forward !== forward || words <= BLOCK) return undefined;
  const [tying] = tied;
  const head = (tying?.site ?? sites.find(({ role }) => role === 'head'))?.path ?? '';
  const table = tiedTable(model, weights, head);
  const [path, isTable] = [table ?? head, table !== undefined];
  const isPlain = !(head in layers) && !(path in layers) && !(`${head}.bias` in weights);
  const weight = weights[`${path}.weight`];
  if (!isPlain || !weight || (!isTable && isQuantized(weight))) return undefined;
  return { path, isTable, words };
}

function blocksOf(
  { path, isTable, words }: WordWeights,
  outputs: (scope: Scope, states: Tensor) => Tensor,
  scope: Scope,
): WordBlocks {
  // What the model does to logits, e.g. a soft cap, it does to those of its only linear module.
  const through = (states: Tensor, linear: (x: Tensor) => Tensor): Tensor =>
    outputs({ ...scope, linear: (_, x) => linear(x) }, states);
  // Words are gathered: a table in few bits is then never expanded as a whole.
  const weightOf = (ids: Tensor): Tensor =>
    isTable ? scope.embedding(path, ids) : tf.transpose(tf.gather(scope.weight(`${path}.weight`), ids, 1)); // [ids, width]
  return {
    words,
    size: BLOCK,
    logits: (states, from, to) =>
      through(states, (x) => tf.matMul(x, weightOf(tf.range(from, to, 1, 'int32')), false, true)),
    logit: (states, labels) => through(states, (x) => tf.sum(tf.mul(x, weightOf(labels)), 1, true)),
  };
}
