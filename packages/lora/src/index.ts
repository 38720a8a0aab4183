import { defineMethod, loraFile, ranksForBudget, readLoraFile, type CallableMethod } from '@peftjs/core';
import { parseLoraConfig, type LoraConfig } from './config.js';
import { loraLayer } from './layer.js';

/**
 * LoRA: a frozen weight is changed by the product of two thin matrices (Hu et al., 2021).
 *
 * @example attach(model, lora({ r: 8, targetModules: 'all-linear' }))
 */
export const lora: CallableMethod<LoraConfig> = defineMethod<LoraConfig>({
  name: 'lora',
  capabilities: { mergeable: true, identityAtInit: true, adaptsRank: false, kinds: ['linear'] },
  parseConfig: parseLoraConfig,
  fitBudget: (sites, budget, config) => ({ ...config, ...ranksForBudget(sites, budget) }),
  adapt: (sites, config, { rng }) =>
    Object.fromEntries(sites.map((site) => [site.path, loraLayer(site, config, rng.fork(site.path))])),
  peftTypes: ['LORA'],
  toFile: (adapter) => loraFile(adapter),
  fromFile(file) {
    const { values, ...config } = readLoraFile(file);
    return { config, values };
  },
});

export type { LoraConfig } from './config.js';
