import {
  assertOneRank,
  defineMethod,
  loraFile,
  rankCost,
  ranksForBudget,
  startingRankForBudget,
  readLoraFile,
  type AdapterFile,
  type CallableMethod,
  type HostTensors,
  type MatchOn,
  type Site,
} from '@peftjs/core/method';
import { parseBayesLoraConfig, type BayesLoraConfig } from './config.js';
import { bayesLoraController, resumedLayers } from './controller.js';
import { bayesLoraLayer, constant, initialTensors } from './layer.js';

/**
 * BayesLoRA (Doyle, 2025): LoRA with a learned variance for every rank. Ranks whose entries are small compared to it
 * are pruned during training.
 *
 * @example attach(model, bayesLora({ r: 8, targetModules: 'all-linear' }))
 */
export const bayesLora: CallableMethod<BayesLoraConfig> = defineMethod<BayesLoraConfig>({
  name: 'bayes-lora',
  capabilities: { mergeable: true, identityAtInit: false, adaptsRank: true, kinds: ['linear'] },
  parseConfig: parseBayesLoraConfig,
  fitBudget,
  adapt(sites, config, { rng }) {
    const layer = (site: Site) => bayesLoraLayer(site, config, initialTensors(site, config, rng.fork(site.path)));
    return Object.fromEntries(sites.map((site) => [site.path, layer(site)]));
  },
  controller: bayesLoraController,
  resumedLayers,
  peftTypes: ['LORA'],
  toFile: loraFile,
  fromFile,
});

/** 'stored': starts with more ranks than the budget and prunes to it. 'trained': A, B and variances fill the budget. */
function fitBudget(
  sites: readonly Site[],
  budget: number,
  config: BayesLoraConfig,
  matchOn: MatchOn = 'stored',
): BayesLoraConfig {
  if (matchOn === 'trained') {
    const { r, rankPattern } = ranksForBudget(sites, budget, (site) => rankCost(site) + 1);
    return { ...config, r, rankPattern, budget: null };
  }
  assertOneRank(sites, budget);
  return { ...config, r: startingRankForBudget(sites, budget), rankPattern: {}, budget };
}

/** A LoRA file holds only the means; the variances start from their initial value. */
function fromFile(file: AdapterFile): { config: Partial<BayesLoraConfig>; values: HostTensors } {
  const { values, ...config } = readLoraFile(file);
  const { initLogSigma2 } = parseBayesLoraConfig({});
  for (const path of config.targetModules) {
    const r = values[`${path}.loraA`]?.shape[1] ?? 0;
    values[`${path}.logSigma2`] = constant(r, initLogSigma2);
  }
  return { config, values };
}

export type { BayesLoraConfig } from './config.js';
