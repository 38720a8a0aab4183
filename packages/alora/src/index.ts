import {
  defineMethod,
  gatedLoraFiles,
  withRanksForBudget,
  startingRank,
  startingScaling,
  type CallableMethod,
  type MatchOn,
  type Site,
} from '@peftjs/core/method';
import { parseAloraConfig, type AloraConfig } from './config.js';
import { aloraController, resumedLayers } from './controller.js';
import { aloraLayer, newRanks } from './layer.js';

/** A pruned ALoRA is saved as PEFT's LORA. An adapter to be trained further is saved as ALORA, with its gates. */
const aloraFiles = gatedLoraFiles<AloraConfig>({
  peftType: 'ALORA',
  suffix: '.gate',
  fields: {
    lora_dropout: 'loraDropout',
    rounds: 'rounds',
    first_round: 'firstRound',
    round_interval: 'roundInterval',
    moved_share: 'movedShare',
    probe_rows: 'probeRows',
    budget: 'budget',
  },
  ones: [],
  scaling: startingScaling,
});

/**
 * ALoRA (Liu et al., 2024): LoRA whose ranks move in a few rounds, from where their removal raises the loss least to
 * the modules that lost none.
 *
 * @example attach(model, alora({ r: 8, targetModules: 'all-linear' }))
 */
export const alora: CallableMethod<AloraConfig> = defineMethod<AloraConfig>({
  name: 'alora',
  capabilities: { mergeable: true, identityAtInit: true, adaptsRank: true, kinds: ['linear'] },
  parseConfig: parseAloraConfig,
  fitBudget,
  adapt(sites, config, { rng }) {
    const start = (site: Site) => newRanks(site, startingRank(site, config), rng.fork(site.path));
    return Object.fromEntries(sites.map((site) => [site.path, aloraLayer(site, config, start(site))]));
  },
  controller: aloraController,
  resumedLayers,
  peftTypes: ['ALORA', 'LORA'],
  ...aloraFiles,
});

/** 'stored': the ranks fill the budget, also when they move. 'trained': the initial A and B fill the budget. */
function fitBudget(
  sites: readonly Site[],
  budget: number,
  config: AloraConfig,
  matchOn: MatchOn = 'stored',
): AloraConfig {
  return {
    ...withRanksForBudget(sites, budget, config),
    budget: matchOn === 'stored' ? budget : null,
  };
}

export type { AloraConfig } from './config.js';
