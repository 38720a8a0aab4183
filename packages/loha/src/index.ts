import { defineMethod, layersByPath, parseOptions, type CallableMethod } from '@peftjs/core/method';
import { alphasFor, withRanksForBudget } from '@peftjs/core/ranks';
import { lohaOptions, type LohaConfig } from './config.js';
import { lohaFiles } from './file.js';
import { lohaCost, lohaLayer } from './layer.js';

/**
 * LoHa (FedPara: Hyeon-Woo et al., 2022; LyCORIS: Yeh et al., 2024): the change of a weight is the elementwise product
 * of two low-rank matrices. It reaches rank r * r with the parameters of rank 2 r.
 *
 * @example attach(model, loha({ r: 8 }))
 */
export const loha: CallableMethod<LohaConfig> = defineMethod<LohaConfig>({
  name: 'loha',
  capabilities: { mergeable: true, identityAtInit: true, adaptsRank: false, kinds: ['linear'] },
  defaultLearningRate: 4e-3,
  readByPeft: ['LOHA'],
  parseConfig: (input) => parseOptions('loha', lohaOptions, input),
  fitBudget: (sites, budget, config) => withRanksForBudget(sites, budget, config, lohaCost),
  scaledTo: (config, scaling) => ({ ...config, ...alphasFor(config, (r) => scaling * r) }),
  adapt: (sites, config, { rng }) => layersByPath(sites.map((site) => lohaLayer(site, config, rng.fork(site.path)))),
  ...lohaFiles,
});

export type { LohaConfig } from './config.js';
