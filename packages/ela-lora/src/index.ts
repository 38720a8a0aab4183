import {
  defineMethod,
  gatedLoraFiles,
  rankCost,
  tensorAt,
  withRanksForBudget,
  startingRank,
  startingScaling,
  type CallableMethod,
  type HostTensors,
  type MatchOn,
  type Site,
} from '@peftjs/core/method';
import { parseElaLoraConfig, type ElaLoraConfig } from './config.js';
import { elaLoraController, resumedLayers } from './controller.js';
import { elaLoraLayer, initialTensors, noScores } from './layer.js';

/** A pruned adapter is saved as PEFT's LORA. One to be trained further is saved as ELA_LORA, with E. */
const files = gatedLoraFiles<ElaLoraConfig>({
  peftType: 'ELA_LORA',
  suffix: '.lora_E',
  fields: {
    lora_dropout: 'loraDropout',
    moved_ranks: 'movedRanks',
    candidate_ranks: 'candidateRanks',
    start_ratio: 'startRatio',
    rank_update_ratio: 'rankUpdateRatio',
    beta1: 'beta1',
    beta2: 'beta2',
    orth_reg_weight: 'orthRegWeight',
    restarts_optimizer: 'restartsOptimizer',
    budget: 'budget',
  },
  ones: [],
  scaling: startingScaling,
});

/**
 * ElaLoRA (Chang et al., 2025): AdaLoRA's triplets, whose ranks move from the modules where they matter least to those
 * where they matter most. Their number stays constant.
 *
 * @example attach(model, elaLora({ r: 8, targetModules: 'all-linear' }))
 */
export const elaLora: CallableMethod<ElaLoraConfig> = defineMethod<ElaLoraConfig>({
  name: 'ela-lora',
  capabilities: { mergeable: true, identityAtInit: true, adaptsRank: true, kinds: ['linear'] },
  defaultLearningRate: 4e-3,
  shortRunOptions: { orthRegWeight: 0 },
  parseConfig: parseElaLoraConfig,
  fitBudget,
  adapt(sites, config, { rng }) {
    const start = (site: Site) => initialTensors(site, startingRank(site, config), rng.fork(site.path));
    return Object.fromEntries(sites.map((site) => [site.path, elaLoraLayer(site, config, start(site))]));
  },
  controller: elaLoraController,
  resumedLayers,
  peftTypes: ['ELA_LORA', 'LORA'],
  ...files,
  fromFile(file) {
    const { config, values } = files.fromFile(file);
    return { config, values: { ...values, ...scoresOf(values) } };
  },
});

/** Returns zero scores for an adapter from a file, which contains none. */
function scoresOf(values: HostTensors): HostTensors {
  const paths = Object.keys(values).flatMap((key) => (key.endsWith('.gate') ? [key.slice(0, -'.gate'.length)] : []));
  const scores = paths.flatMap((path) => {
    const at = (name: string) => tensorAt(values, `${path}.${name}`);
    const own = noScores({ loraA: at('loraA'), gate: at('gate'), loraB: at('loraB') });
    return Object.entries(own).map(([name, zeros]) => [`${path}.${name}`, zeros] as const);
  });
  return Object.fromEntries(scores);
}

/** 'stored': the ranks fill the budget, also when they move. 'trained': the initial A, E and B fill the budget. */
function fitBudget(
  sites: readonly Site[],
  budget: number,
  config: ElaLoraConfig,
  matchOn: MatchOn = 'stored',
): ElaLoraConfig {
  const costOf = (site: Site): number => rankCost(site) + (matchOn === 'trained' ? 1 : 0);
  return {
    ...withRanksForBudget(sites, budget, config, costOf),
    budget: matchOn === 'stored' ? budget : null,
  };
}

export type { ElaLoraConfig } from './config.js';
