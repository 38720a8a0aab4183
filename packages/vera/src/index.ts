import {
  defineMethod,
  narrowTargets,
  sitesForBudget,
  warnOnce,
  type CallableMethod,
  type Site,
} from '@peftjs/core/method';
import { parseVeraConfig, type VeraConfig } from './config.js';
import { readVeraFile, veraFile } from './file.js';
import { drawProjections, storedAt, veraLayer } from './layer.js';

/**
 * VeRA (Kopiczko et al., 2024): all modules share two frozen random matrices, and each module trains two vectors that
 * scale them.
 *
 * @example attach(model, vera({ r: 256 }))
 */
// #region method
export const vera: CallableMethod<VeraConfig> = defineMethod<VeraConfig>({
  name: 'vera',
  capabilities: { mergeable: true, identityAtInit: true, adaptsRank: false, kinds: ['linear'] },
  defaultLearningRate: 1e-2,
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

/**
 * Returns the configuration that stores, and trains, `budget` parameters, within 2 %: b stores one value per output, and
 * the rest is r for every module. Adapts fewer modules if b alone is too much, and warns of a rank that makes steps slow.
 * @throws ConfigError when not even one module fits.
 */
function fittedToBudget(sites: readonly Site[], budget: number, config: VeraConfig): VeraConfig {
  const kept = sitesForBudget(sites, budget, (site) => storedAt(site, 1));
  const withoutRanks = kept.reduce((sum, site) => sum + storedAt(site, 0), 0);
  const r = Math.max(1, Math.floor((budget - withoutRanks) / kept.length));
  const widest = Math.max(...kept.flatMap(({ inFeatures, outFeatures }) => [inFeatures, outFeatures]));
  if (r > widest) {
    warnOnce(
      `VeRA: for ${budget} parameters r is ${r}, above the ${widest} features of its widest module, so steps are many times slower than LoRA's; without a budget r is ${config.r}`,
    );
  }
  return { ...narrowTargets(kept, config, sites), r };
}

export type { VeraConfig } from './config.js';
