import { defineMethod, type CallableMethod } from '@peftjs/core/method';
import { fitBudget } from './budget.js';
import { parseOftConfig, type OftConfig } from './config.js';
import { oftFile, readOftFile } from './file.js';
import { oftLayer } from './layer.js';

/**
 * OFT: what a module reads is rotated, in blocks of features, and nothing is added to its weight (Qiu et al., 2023).
 *
 * @example attach(model, oft({ oftBlockSize: 32 }))
 */
export const oft: CallableMethod<OftConfig> = defineMethod<OftConfig>({
  name: 'oft',
  capabilities: { mergeable: true, identityAtInit: true, adaptsRank: false, kinds: ['linear', 'embedding'] },
  parseConfig: parseOftConfig,
  fitBudget,
  adapt: (sites, config, { rng }) =>
    Object.fromEntries(sites.map((site) => [site.path, oftLayer(site, config, rng.fork(site.path))])),
  peftTypes: ['OFT'],
  toFile: oftFile,
  fromFile: readOftFile,
});

export type { OftConfig } from './config.js';
