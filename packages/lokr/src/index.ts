import { defineMethod, layersByPath, parseOptions, type CallableMethod } from '@peftjs/core/method';
import { alphasFor } from '@peftjs/core/ranks';
import { fitBudget } from './budget.js';
import { lokrOptions, type LokrConfig } from './config.js';
import { lokrFiles } from './file.js';
import { lokrLayer } from './layer.js';

/**
 * LoKr (LyCORIS: Yeh et al., 2024): the change of a weight is the Kronecker product of two small matrices. The larger
 * one may be of low rank.
 *
 * @example attach(model, lokr({ r: 8, decomposeFactor: 8 }))
 */
export const lokr: CallableMethod<LokrConfig> = defineMethod<LokrConfig>({
  name: 'lokr',
  capabilities: { mergeable: true, identityAtInit: true, adaptsRank: false, kinds: ['linear'] },
  defaultLearningRate: 4e-3,
  readByPeft: ['LOKR'],
  parseConfig: (input) => parseOptions('lokr', lokrOptions, input),
  fitBudget,
  scaledTo: (config, scaling) => ({ ...config, ...alphasFor(config, (r) => scaling * r) }),
  adapt: (sites, config, { rng }) => layersByPath(sites.map((site) => lokrLayer(site, config, rng.fork(site.path)))),
  ...lokrFiles,
});

export type { LokrConfig } from './config.js';
