import {
  assertOneRank,
  ConfigError,
  defineMethod,
  rankCost,
  ranksForBudget,
  rankUnit,
  type MatchOn,
  type CallableMethod,
  type Site,
} from '@peftjs/core';
import { resumedLayers } from './compaction.js';
import { parseSoraConfig, type SoraConfig } from './config.js';
import { soraController } from './controller.js';
import { soraFiles } from './file.js';
import { gatesAtStart, initialTensors, soraLayer } from './layer.js';

/** How many ranks a budgeted run starts with for each that it may keep. */
const RANKS_PER_KEPT_RANK = 1.5;

/**
 * SoRA: LoRA with a gate on every rank, which a proximal step drives to exact zeros, so that training chooses the rank of
 * every module (Ding et al., 2023).
 *
 * @example attach(model, sora({ r: 8, targetModules: 'all-linear' }))
 */
export const sora: CallableMethod<SoraConfig> = defineMethod<SoraConfig>({
  name: 'sora',
  capabilities: { mergeable: true, identityAtInit: true, adaptsRank: true, kinds: ['linear'] },
  parseConfig: parseSoraConfig,
  fitBudget,
  atSparsity,
  adapt(sites, config, { rng }) {
    const gates = gatesAtStart(sites, config);
    const layer = (site: Site) => soraLayer(site, config, gates, initialTensors(site, config, rng.fork(site.path)));
    return Object.fromEntries(sites.map((site) => [site.path, layer(site)]));
  },
  controller: soraController,
  resumedLayers,
  peftTypes: ['SORA', 'LORA'],
  ...soraFiles,
});

/** Stored: one r_max for all modules, half as much again as the budget keeps on average. Trained: A, B and gates are the budget. */
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
  return { ...config, r: Math.ceil((RANKS_PER_KEPT_RANK * budget) / rankUnit(sites)), rankPattern: {}, budget };
}

/** lambda, or xi with `thresholdMode: 'constant'`, is the level. @throws ConfigError with a budget, whose controller sets it. */
function atSparsity(config: SoraConfig, level: number): SoraConfig {
  const { budget } = config;
  if (budget === null) return { ...config, sparseLambda: level };
  throw new ConfigError(`a budget (here ${budget}) sets its own levels; sparsify an adapter without one`, 'budget');
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
} from '@peftjs/core';
export { referenceThreshold, softThreshold } from './threshold.js';
export type { SoraConfig } from './config.js';
