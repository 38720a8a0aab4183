import { defineMethod, type MatchOn, type CallableMethod, type Site } from '@peftjs/core/method';
import { assertOneRank, rankUnit } from '@peftjs/core/ranks';
import { adaloraController, resumedLayers } from './controller.js';
import { parseAdaloraConfig, type AdaloraConfig } from './config.js';
import { adaloraLayer } from './layer.js';
import { adaloraFile, readAdaloraFile } from './file.js';

/** b(0) / b(T) in the paper's experiments. */
const INITIAL_PER_TARGET = 1.5;

/**
 * AdaLoRA (Zhang et al., 2023): the change of a weight is P diag(E) Q. During training, triplets are masked by
 * importance, so that ranks go to the modules where they matter most.
 *
 * @example attach(model, adalora({ initR: 12, targetR: 8, targetModules: 'all-linear' }))
 */
export const adalora: CallableMethod<AdaloraConfig> = defineMethod<AdaloraConfig>({
  name: 'adalora',
  capabilities: { mergeable: true, identityAtInit: true, adaptsRank: true, kinds: ['linear'] },
  defaultLearningRate: 8e-3,
  shortRunOptions: { loraAlpha: 32, orthRegWeight: 0 },
  parseConfig: parseAdaloraConfig,
  fitBudget,
  adapt: (sites, config, { rng }) =>
    Object.fromEntries(sites.map((site) => [site.path, adaloraLayer(site, config, rng.fork(site.path))])),
  controller: adaloraController,
  resumedLayers,
  peftTypes: ['ADALORA', 'LORA'],
  toFile: adaloraFile,
  fromFile: readAdaloraFile,
});

/**
 * 'stored': the target is the average rank that the budget pays for, and the initial rank 1.5 times that. 'trained': P,
 * Lambda and Q of the initial rank fill the budget, and the target is two thirds of their stored parameters.
 */
function fitBudget(
  sites: readonly Site[],
  budget: number,
  config: AdaloraConfig,
  matchOn: MatchOn = 'stored',
): AdaloraConfig {
  assertOneRank(sites, budget);
  const unit = rankUnit(sites);
  const singularValues = config.parametrization === 'svd' ? sites.length : 0;
  const initR =
    matchOn === 'stored'
      ? Math.ceil((INITIAL_PER_TARGET * budget) / unit)
      : Math.max(1, Math.round(budget / (unit + singularValues)));
  const stored = matchOn === 'stored' ? budget : Math.round((initR * unit) / INITIAL_PER_TARGET);
  const targetR = Math.min(initR, Math.max(1, Math.round(stored / unit)));
  return { ...config, initR, targetR, budgetUnit: 'parameters', budget: stored };
}

export { rankBudget, type RankSchedule } from './controller.js';
export type { AdaloraConfig } from './config.js';
