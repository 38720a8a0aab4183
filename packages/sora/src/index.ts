import { ConfigError, defineMethod, rankCost, rankUnit, type CallableMethod, type Site } from '@peftjs/core';
import { parseSoraConfig, type SoraConfig } from './config.js';
import { soraController } from './controller.js';
import { readSoraFile, soraFile } from './file.js';
import { gateCount, soraLayer } from './layer.js';

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
  adapt(sites, config, { rng }) {
    const gates = sites.reduce((sum, site) => sum + gateCount(site, config), 0);
    return Object.fromEntries(sites.map((site) => [site.path, soraLayer(site, config, rng.fork(site.path), gates)]));
  },
  controller: soraController,
  peftTypes: ['SORA', 'LORA'],
  toFile: soraFile,
  fromFile: readSoraFile,
});

/** One r_max for all modules, half as much again as the budget keeps on average. */
function fitBudget(sites: readonly Site[], budget: number, config: SoraConfig): SoraConfig {
  const least = Math.min(...sites.map(rankCost));
  if (!(budget >= least)) {
    throw new ConfigError(`budget is ${budget}; one rank of the smallest module stores ${least} parameters`, 'budget');
  }
  return { ...config, r: Math.ceil((RANKS_PER_KEPT_RANK * budget) / rankUnit(sites)), rankPattern: {}, budget };
}

export { sparsifyingLevels, type LevelSpacing } from './levels.js';
export { referenceThreshold, softThreshold } from './threshold.js';
export type { SoraConfig } from './config.js';
