import {
  defineMethod,
  gatedLoraFiles,
  rankCost,
  withRanksForBudget,
  startingRank,
  startingScaling,
  type CallableMethod,
  type MatchOn,
  type Site,
} from '@peftjs/core/method';
import { parseL1raConfig, type L1raConfig } from './config.js';
import { l1raController, resumedLayers } from './controller.js';
import { l1raLayer, newRanks } from './layer.js';

/** A pruned L1RA is saved as PEFT's LORA; one to be trained further as L1RA, with the released code's gate names. */
const l1raFiles = gatedLoraFiles<L1raConfig>({
  peftType: 'L1RA',
  suffix: '.lora_c',
  fields: {
    lora_dropout: 'loraDropout',
    l1ra_lambda: 'l1raLambda',
    eta_c: 'etaC',
    rank_update_ratio: 'rankUpdateRatio',
    prune_threshold: 'pruneThreshold',
    reassign: 'reassign',
    exclude_pruned: 'excludePruned',
    budget: 'budget',
  },
  ones: [],
  scaling: startingScaling,
});

/**
 * L1RA (Singh et al., 2025): LoRA with a gate on every rank, which L1 regularization shrinks. Ranks whose gates vanish
 * are given to other modules. So ranks move to where they are needed while their number stays constant.
 *
 * @example attach(model, l1ra({ r: 8, targetModules: 'all-linear' }))
 */
export const l1ra: CallableMethod<L1raConfig> = defineMethod<L1raConfig>({
  name: 'l1ra',
  capabilities: { mergeable: true, identityAtInit: true, adaptsRank: true, kinds: ['linear'] },
  parseConfig: parseL1raConfig,
  fitBudget,
  adapt(sites, config, { rng }) {
    const start = (site: Site) => newRanks(site, startingRank(site, config), config, rng.fork(site.path));
    return Object.fromEntries(sites.map((site) => [site.path, l1raLayer(site, config, start(site))]));
  },
  controller: l1raController,
  resumedLayers,
  peftTypes: ['L1RA', 'LORA'],
  ...l1raFiles,
});

/** 'stored': the ranks fill the budget, also when they move. 'trained': the initial A, B and gates fill the budget. */
function fitBudget(
  sites: readonly Site[],
  budget: number,
  config: L1raConfig,
  matchOn: MatchOn = 'stored',
): L1raConfig {
  const costOf = (site: Site): number => rankCost(site) + (matchOn === 'trained' ? 1 : 0);
  return {
    ...withRanksForBudget(sites, budget, config, costOf),
    budget: matchOn === 'stored' ? budget : null,
  };
}

export type { L1raConfig } from './config.js';
