import {
  assertOneRank,
  ConfigError,
  defineMethod,
  gatedLoraFiles,
  rankCost,
  ranksForBudget,
  startingRankForBudget,
  type CallableMethod,
  type MatchOn,
  type Site,
  type SizeStages,
} from '@peftjs/core/method';
import { choiceOf, parseSoraConfig, variantOf, type SoraConfig } from './config.js';
import { resumedLayers, soraController } from './controller.js';
import { alphaOf, gateCount, initialGateCount, initialTensors, soraLayer } from './layer.js';

/** A pruned SoRA is saved as PEFT's LORA. An adapter to be trained further is saved as SORA, with its gates. */
const soraFiles = gatedLoraFiles<SoraConfig>({
  peftType: 'SORA',
  suffix: '.gate',
  fields: {
    sparse_lambda: 'sparseLambda',
    threshold_mode: 'thresholdMode',
    proximal: 'proximal',
    variant: 'variant',
    gate_init: 'gateInit',
    separation: 'separation',
    lora_dropout: 'loraDropout',
    l1_weight: 'l1Weight',
    budget: 'budget',
    selection: 'selection',
    compact_every: 'compactEvery',
  },
  ones: ['mask'],
  scaling: (site, config) => alphaOf(site, config) / gateCount(site, config),
});

/**
 * SoRA (Ding et al., 2023): LoRA with a gate on every rank. A proximal step drives gates to exact zeros, so that
 * training chooses the rank of every module.
 *
 * @example attach(model, sora({ r: 8, targetModules: 'all-linear' }))
 */
export const sora: CallableMethod<SoraConfig> = defineMethod<SoraConfig>({
  name: 'sora',
  capabilities: { mergeable: true, identityAtInit: true, adaptsRank: true, kinds: ['linear'] },
  parseConfig: parseSoraConfig,
  fitBudget,
  atSparsity,
  sizing,
  adapt(sites, config, { rng }) {
    const gates = initialGateCount(sites, config);
    const layer = (site: Site) => soraLayer(site, config, gates, initialTensors(site, config, rng.fork(site.path)));
    return Object.fromEntries(sites.map((site) => [site.path, layer(site)]));
  },
  controller: soraController,
  resumedLayers,
  peftTypes: ['SORA', 'LORA'],
  ...soraFiles,
});

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
  const variant = variantOf({ ...config, budget });
  const r = startingRankForBudget(sites, budget, variant === 'paper' ? 1 : undefined);
  const fitted = { ...config, variant, r, rankPattern: {}, budget };
  return { ...fitted, ...choiceOf(fitted) };
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
  const chosen = { ...config, ...choiceOf(config), variant: variantOf(config) };
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
export { referenceThreshold, softThreshold } from './layer.js';
export type { SoraConfig } from './config.js';
