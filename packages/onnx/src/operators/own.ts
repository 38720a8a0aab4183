import { ShapeError } from '@peftjs/core/method';
import { headAttention, HIDDEN, silu } from '@peftjs/core/nn';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { isHost, tensorOf, type Value } from '../values.js';
import { input, numberIn, tensor, textIn, type Call, type Inputs, type OperatorTable } from './operator.js';

/** The domain of the nodes that patterns put in place of others. */
export const OWN_DOMAIN = 'peftjs';

/** The nodes that patterns put in place of others. */
export const own: OperatorTable = {
  Linear: (inputs, call) => call.scope.linear(textIn(call, 'path', ''), tensor(inputs, 0)),
  Embedding: (inputs, call) => call.scope.embedding(textIn(call, 'path', ''), tf.cast(tensor(inputs, 0), 'int32')),
  LayerNorm: (inputs, call) =>
    call.scope.layerNorm(textIn(call, 'path', ''), tensor(inputs, 0), numberIn(call, 'epsilon', 1e-5)),
  RmsNorm: (inputs, call) =>
    call.scope.rmsNorm(textIn(call, 'path', ''), tensor(inputs, 0), numberIn(call, 'epsilon', 1e-5)),
  Silu: (inputs) => silu(tensor(inputs, 0)),
  Attention: attention,
  MaskOf: maskOf,
  SwapLast: (inputs) => swapped(tensor(inputs, 0)),
};

/** softmax(q k^T s + masks) v: [batch, heads, queries, size], or [batch * heads, queries, size]. */
function attention(inputs: Inputs, call: Call): Tensor {
  const [q, k, v] = [0, 1, 2].map((index) => tensor(inputs, index)) as [Tensor, Tensor, Tensor];
  const count = numberIn(call, 'masks', 0);
  const masks = inputs.slice(3, 3 + count).map((mask) => (mask === undefined ? tf.scalar(0) : tensorOf(mask)));
  const sum = masks.reduce<Tensor | undefined>((total, mask) => (total ? tf.add(total, mask) : mask), undefined);
  const isLearned = numberIn(call, 'isLearned', 0) === 1;
  const bias = sum && !isLearned ? tf.maximum(sum, HIDDEN) : sum;
  const ops = call.attributes['factors'] as readonly string[];
  const scale = inputs.slice(3 + count).reduce<number>((product, factor, index) => {
    const by = numberOf(input([factor], 0));
    return ops[index] === 'Div' ? product / by : product * by;
  }, 1);
  if (q.rank !== 4) {
    const scores = tf.mul(tf.matMul(q, k, false, true), scale);
    return tf.matMul(tf.softmax(bias ? tf.add(scores, bias) : scores), v);
  }
  const spread = bias && tf.reshape(bias, [...Array<number>(4 - bias.rank).fill(1), ...bias.shape]);
  return headAttention(q, k, v, { scale, ...(spread && (isLearned ? { bias: spread } : { maskBias: spread })) });
}

function numberOf(value: Value): number {
  if (isHost(value) && value.data.length === 1) return value.data[0] as number;
  throw new ShapeError('the factor of scores must be one number that follows from the sizes of the batch');
}

/** What is added to scores in place of a choice between them and a number: 0 where the score is kept. */
function maskOf(inputs: Inputs): Tensor {
  const condition = tf.cast(tensor(inputs, 0), 'bool');
  const [a, b] = [1, 2].map((index) =>
    inputs[index] === undefined ? tf.scalar(0) : tf.maximum(tensor(inputs, index), HIDDEN),
  );
  return tf.where(condition, a as Tensor, b as Tensor);
}

function swapped(x: Tensor): Tensor {
  const [rank, axes] = [x.rank, [...x.shape.keys()]];
  return tf.transpose(x, [...axes.slice(0, -2), rank - 1, rank - 2]);
}
