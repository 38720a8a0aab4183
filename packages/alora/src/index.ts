import {
  defineMethod,
  gatedLoraFiles,
  withRanksFor,
  startingRank,
  startingScaling,
  type CallableMethod,
  type MatchOn,
  type Site,
} from '@peftjs/core/method';
import { parseAloraConfig, type AloraConfig } from './config.js';
import { aloraController, resumedLayers } from './controller.js';
import { aloraLayer, newRanks } from './layer.js';

/** Pruned, an ALoRA is PEFT's LORA; to be trained further, it is ALORA, with its gates. */
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
 * ALoRA: LoRA whose ranks move, a few rounds long, from where leaving them out costs least to the modules that lost none
 * (Liu et al., 2024).
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

/** Stored: ranks that store as much from the start, kept to it as they move. Trained: A and B are the budget at the start. */
function fitBudget(
  sites: readonly Site[],
  budget: number,
  config: AloraConfig,
  matchOn: MatchOn = 'stored',
): AloraConfig {
  return {
    ...withRanksFor(sites, budget, config),
    budget: matchOn === 'stored' ? budget : null,
  };
}

export type { AloraConfig } from './config.js';
