import { defineMethod, type CallableMethod } from '@peftjs/core';
import { fittedToBudget } from './budget.js';
import { parseVeraConfig, type VeraConfig } from './config.js';
import { readVeraFile, veraFile } from './file.js';
import { veraLayer } from './layer.js';
import { drawProjections } from './projections.js';

/**
 * VeRA: two random matrices, frozen and shared by all modules, of which each module trains two vectors that scale them
 * (Kopiczko et al., 2024).
 *
 * @example attach(model, vera({ r: 256 }))
 */
// #region method
export const vera: CallableMethod<VeraConfig> = defineMethod<VeraConfig>({
  name: 'vera',
  capabilities: { mergeable: true, identityAtInit: true, adaptsRank: false, kinds: ['linear'] },
  parseConfig: parseVeraConfig,
  fitBudget: fittedToBudget,
  adapt(sites, config) {
    const projections = drawProjections(sites, config);
    return Object.fromEntries(sites.map((site) => [site.path, veraLayer(site, config, projections)]));
  },
  peftTypes: ['VERA'],
  toFile: veraFile,
  fromFile: readVeraFile,
});
// #endregion method

export type { VeraConfig } from './config.js';
