import {
  ConfigError,
  hostFilled,
  hostZeros,
  tensorAt,
  type CallableMethod,
  type MatchOn,
  type Site,
  type SizeStages,
} from '@peftjs/core/method';
import {
  allocatedShare,
  assertOneRank,
  rankCost,
  rankMethod,
  ranksForBudget,
  startingRankForBudget,
} from '@peftjs/core/ranks';
import { kaimingUniform, normalValues } from '@peftjs/core/linalg';
import * as tf from '@tensorflow/tfjs-core';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import { choiceOf, soraOptions, withLambda, type SoraConfig } from './config.js';
import { soraPolicy } from './policy.js';
import { referenceThreshold, softThreshold } from './proximal.js';

/*
 * SoRA (Ding et al., 2023, arXiv 2311.11696), in row vectors:
 *
 *   y  = x W0 + b + s ((d(x) A) * g) B   x [rows, in]   A [in, r]   g [r]   B [r, out]   d: dropout
 *   s  = alpha / r, with the initial r = r_max, no matter how many ranks remain
 *   dW = s A diag(g) B over I = {i : g_i != 0}
 *   g <- T_t(g after the optimizer)      update       t = eta lambda, or a constant xi: the policy's `threshold`
 *   T_t(x) = sign(x) max(|x| - t, 0)     softThreshold
 *   A ~ U(-1/sqrt(in), 1/sqrt(in)), B = 0, g ~ N(0, 1) or g = 1
 *   m [r]                                the state `mask`: 0 for gates that a budget has pruned for good
 *
 * A zero gate and a zero row of B would never give each other a gradient. B starts from zero, so no gate may.
 */

/**
 * SoRA (Ding et al., 2023): LoRA with a gate on every rank. A proximal step drives gates to exact zeros, so that
 * training chooses the rank of every module.
 *
 * @example attach(model, sora({ r: 8, targetModules: 'all-linear' }))
 */
export const sora: CallableMethod<SoraConfig> = rankMethod<SoraConfig>({
  name: 'sora',
  budget: 'prunes',
  defaults: { r: 8, loraAlpha: 16 },
  options: soraOptions,
  complete: withLambda,
  file: {
    peftType: 'SORA',
    gate: '.gate',
    config: ({ config, layers }) => ({ ...config, l1Weight: config.l1Weight * allocatedShare(layers, config) }),
  },
  start: ({ inFeatures, outFeatures }, r, config, rng) => ({
    loraA: kaimingUniform(rng.fork('loraA'), inFeatures, r), // [in, r]
    loraB: hostZeros([r, outFeatures]),
    gate: choiceOf(config).gateInit === 'ones' ? hostFilled([r], 1) : normalValues(rng.fork('gate'), [r], 1),
    mask: hostFilled([r], 1),
  }),
  unsaved: ({ gate }) => ({ mask: hostFilled([gate?.data.length ?? 0], 1) }),
  train: () => ({ loraA: {}, loraB: {}, gate: { group: 'gate', decay: false } }),
  loss: ({ l1Weight }, { ranks }) =>
    l1Weight > 0 ? (p) => tf.mul(absoluteSum(tensorAt(p, 'gate')), l1Weight / ranks) : undefined,
  update(proposed, { previous, ctx }, { proximal }) {
    const threshold = proximal === 'soft' ? softThreshold : referenceThreshold;
    const shrunk = threshold(tensorAt(proposed, 'gate'), ctx.scalar('threshold'));
    const kept = tf.greater(tensorAt(previous, 'mask'), 0);
    return { gate: tf.where(kept, shrunk, tf.zerosLike(shrunk)) }; // [r]
  },
  fitBudget,
  atSparsity,
  sizing,
  policy: soraPolicy,
});

/** sum |x| with a zero gradient at zero. The gradient of `tf.abs` is -1 there, which would push pruned gates up. */
function absoluteSum(x: Tensor): Scalar {
  return tf.sum(tf.mul(x, tf.sign(x)));
}

/** 'stored': one r_max for all modules, above the budget's average rank. 'trained': A, B and gates fill the budget. */
function fitBudget(
  sites: readonly Site[],
  budget: number,
  config: SoraConfig,
  matchOn: MatchOn = 'stored',
): SoraConfig {
  if (matchOn === 'trained') {
    const { r, rankPattern } = ranksForBudget(sites, budget, (site) => rankCost(site) + 1);
    return { ...config, r, rankPattern, budget: null };
  }
  assertOneRank(sites, budget);
  const choice = choiceOf({ ...config, budget });
  const r = startingRankForBudget(sites, budget, choice.variant === 'paper' ? 1 : undefined);
  return { ...config, ...choice, r, rankPattern: {}, budget };
}

/**
 * Sets lambda (xi with `thresholdMode: 'constant'`) to the level.
 * @throws ConfigError with a budget: it sets lambda itself.
 */
function atSparsity(config: SoraConfig, level: number): SoraConfig {
  const { budget } = config;
  if (budget === null) return { ...config, sparseLambda: level };
  throw new ConfigError(`a budget (here ${budget}) sets its own levels; sparsify an adapter without one`, 'budget');
}

/** The stages of `budget: 'auto'`: each has a budget of its own, or, with null, keeps the ranks that are live. */
function sizing(config: SoraConfig): SizeStages<SoraConfig> | null {
  if (config.budget !== 'auto') return null;
  const chosen = { ...config, ...choiceOf(config) };
  return (budget) =>
    budget === null ? { ...chosen, budget, sparseLambda: 0, separation: false } : { ...chosen, budget };
}

export { rankSizes, type RankSize } from './gates.js';
export {
  sparsify,
  sparsifyingLevels,
  type LevelSpacing,
  type SparsifyData,
  type SparsifyOptions,
  type SparsifySnapshot,
  type StageRecord,
} from '@peftjs/core/runtime';
export { referenceThreshold, softThreshold } from './proximal.js';
export type { SoraConfig } from './config.js';
