import { defineMethod, layersByPath, type MatchOn, type CallableMethod, type Site } from '@peftjs/core/method';
import { rankUnit, startAbove } from '@peftjs/core/ranks';
import { adaloraController, resumedLayers } from './controller.js';
import { parseAdaloraConfig, type AdaloraConfig } from './config.js';
import { adaloraLayer, divisorOf } from './layer.js';
import { adaloraFile, readAdaloraFile } from './file.js';

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
  scaledTo: (config, scaling) => ({ ...config, loraAlpha: scaling * divisorOf(config) }),
  adapt: (sites, config, { rng }) => layersByPath(sites.map((site) => adaloraLayer(site, config, rng.fork(site.path)))),
  controller: adaloraController,
  resumedLayers,
  peftTypes: ['ADALORA', 'LORA'],
  readByPeft: ['ADALORA'],
  toFile: adaloraFile,
  fromFile: readAdaloraFile,
});

/** The target is the average rank that the kept parameters pay for. */
function fitBudget(
  sites: readonly Site[],
  budget: number,
  config: AdaloraConfig,
  matchOn: MatchOn = 'stored',
): AdaloraConfig {
  const vectors = config.parametrization === 'svd' ? sites.length : 0;
  const { r: initR, budget: stored } = startAbove(sites, budget, matchOn, vectors);
  const targetR = Math.min(initR, Math.max(1, Math.round(stored / rankUnit(sites))));
  return { ...config, initR, targetR, budgetUnit: 'parameters', budget: stored };
}

export { rankBudget, type RankSchedule } from './controller.js';
export type { AdaloraConfig } from './config.js';
