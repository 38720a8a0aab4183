import {
  hostZeros,
  tensorAt,
  tensorsAt,
  type AdapterContents,
  type CallableMethod,
  type Tensors,
} from '@peftjs/core/method';
import { allocatedShare, rankedPaths, rankMethod, startAbove } from '@peftjs/core/ranks';
import { kaimingUniform, scaled } from '@peftjs/core/linalg';
import * as tf from '@tensorflow/tfjs-core';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import { checked, dynamicDoraOptions, type DynamicDoraConfig } from './config.js';
import { dynamicDoraPolicy, targetRanks } from './policy.js';

/*
 * Dynamic DoRA (Mao et al., 2024, arXiv 2405.17357), in row vectors; a component is (A_i, c_i, B_i):
 *
 *   y   = x W0 + b + s ((d(x) A) * c) B             x [rows, in]   A [in, r]   c [r]   B [r, out]   d: dropout
 *   s   = alpha / r                                 with the initial r of the module
 *   dW  = s A diag(c) B over {i : c_i != 0}
 *   A   ~ U(-sqrt(6 / in), sqrt(6 / in)), B ~ U(-sqrt(6 / r), sqrt(6 / r)), c = 0     start
 *   R   = 1 / (2 N) sum_i Var(A_i) + Var(B_i)       loss, times eta until the last pruning; N initial ranks
 *                                                   in all modules; Var is unbiased, within a component
 *   s_i = ||c_i A_i B_i|| / (||A diag(c) B|| + e)   update, of the optimizer's proposal; Frobenius norms, e = 1e-8
 *   S_i <- beta S_i + (1 - beta) s_i                S_i starts from 0
 *   c_i <- 0 where S_i is small                     policy.ts
 */

/** e, which avoids a division by zero. */
const MIN_NORM = 1e-8;

/**
 * Dynamic DoRA (Mao et al., 2024): LoRA as a sum of components of rank one, each with a gate. Components that add least
 * to their module's change are pruned during training. Not the DoRA of magnitudes and directions, which is
 * `lora({ useDora: true })`.
 *
 * @example attach(model, dynamicDora({ r: 12, targetR: 8, targetModules: 'all-linear' }))
 */
export const dynamicDora: CallableMethod<DynamicDoraConfig> = rankMethod<DynamicDoraConfig>({
  name: 'dynamic-dora',
  budget: 'prunes',
  defaultLearningRate: 4e-3,
  defaults: { r: 12, loraAlpha: 8 },
  options: dynamicDoraOptions,
  complete: checked,
  file: { peftType: 'DYNAMIC_DORA', gate: '.lora_c', config: continued },
  start: ({ inFeatures, outFeatures }, r, _config, rng) => ({
    loraA: scaled(kaimingUniform(rng.fork('loraA'), inFeatures, r), Math.sqrt(6)), // [in, r]
    loraB: scaled(kaimingUniform(rng.fork('loraB'), r, outFeatures), Math.sqrt(6)), // [r, out]
    gate: hostZeros([r]),
    importance: hostZeros([r]),
  }),
  unsaved: ({ gate }) => ({ importance: hostZeros(gate?.shape ?? []) }),
  train: () => ({ loraA: {}, loraB: {}, gate: {} }),
  loss: ({ demWeight }, { ranks }) =>
    demWeight > 0 ? (p, ctx) => tf.mul(spread(p), tf.mul(ctx.scalar('dem'), demWeight / (2 * ranks))) : undefined,
  update(proposed, { previous }, { beta }) {
    const before = tensorAt(previous, 'importance');
    return { importance: tf.add(tf.mul(before, beta), tf.mul(shares(proposed), 1 - beta)) }; // [r]
  },
  fitBudget(sites, budget, config, matchOn = 'stored') {
    return { ...config, ...startAbove(sites, budget, matchOn, sites.length), rankPattern: {}, targetR: null };
  },
  policy: dynamicDoraPolicy,
});

/** Returns sum_i Var(A_i) + Var(B_i). */
function spread(p: Tensors): Scalar {
  const { loraA, loraB } = tensorsAt(p, 'loraA', 'loraB');
  return tf.add(tf.sum(variances(loraA, 0)), tf.sum(variances(loraB, 1)));
}

/** Returns the unbiased variances along an axis. The variance of a single entry is zero. */
function variances(x: Tensor, axis: 0 | 1): Tensor {
  const squares = tf.square(tf.sub(x, tf.mean(x, axis, true)));
  return tf.div(tf.sum(squares, axis), Math.max(1, (x.shape[axis] as number) - 1));
}

/**
 * Returns s_i, [r]. The norms do not need a matrix [in, out]: ||c_i A_i B_i|| = |c_i| ||A_i|| ||B_i||, and
 * ||A diag(c) B||^2 = sum_ij c_i c_j (A_i . A_j) (B_i . B_j), which rounding may make negative.
 */
function shares(p: Tensors): Tensor {
  const { loraA, gate, loraB } = tensorsAt(p, 'loraA', 'gate', 'loraB');
  const norms = tf.mul(tf.abs(gate), tf.sqrt(tf.mul(tf.sum(tf.square(loraA), 0), tf.sum(tf.square(loraB), 1)))); // [r]
  const products = tf.mul(tf.matMul(loraA, loraA, true, false), tf.matMul(loraB, loraB, false, true)); // [r, r]
  const squared = tf.sum(tf.mul(products, tf.mul(tf.expandDims(gate, 0), tf.expandDims(gate, 1))));
  return tf.div(norms, tf.add(tf.sqrt(tf.maximum(squared, 0)), MIN_NORM));
}

/**
 * Returns the configuration for a file, whose modules are those with ranks left: a file does not say how many ranks its
 * modules started with.
 */
function continued({ config, layers }: AdapterContents<DynamicDoraConfig>): DynamicDoraConfig {
  const modules = rankedPaths(layers).length;
  if (modules === 0) return config;
  const demWeight = config.demWeight * allocatedShare(layers, config);
  const targetR = config.budget === null ? targetRanks(layers, config) / modules : config.targetR;
  return { ...config, demWeight, targetR };
}

export type { DynamicDoraConfig } from './config.js';
