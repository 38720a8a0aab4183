import {
  ConfigError,
  defineMethod,
  layersByPath,
  narrowTargets,
  parseOptions,
  warnOnce,
  type CallableMethod,
  type Site,
} from '@peftjs/core/method';
import { sitesForBudget } from '@peftjs/core/ranks';
import { veraOptions, type VeraConfig } from './config.js';
import { veraFiles } from './file.js';
import { drawProjections, storedAt, veraLayer, widest } from './layer.js';

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
  readByPeft: ['VERA'],
  parseConfig: (input) => parseOptions('vera', veraOptions, input),
  fitBudget: fittedToBudget,
  adapt(sites, config) {
    const projections = drawProjections(sites, config);
    return layersByPath(sites.map((site) => veraLayer(site, config, projections)));
  },
  ...veraFiles,
});
// #endregion method

/**
 * Returns the configuration that stores `budget` parameters, within 2 %: b takes one per output, and each rank one per
 * module. The shared matrices are left to their seed; with `saveProjection: true`, a rank also takes one column of A
 * and one row of B. Adapts fewer modules if b alone is too much, and warns of a rank that makes steps slow.
 * @throws ConfigError when not even one module fits, next to saved matrices as wide as all modules need.
 */
function fittedToBudget(sites: readonly Site[], budget: number, config: VeraConfig): VeraConfig {
  const saveProjection = config.saveProjection ?? false;
  const projectionOf = (all: readonly Site[]): number => (saveProjection ? widest(all).reduce((a, b) => a + b) : 0);
  const least = projectionOf(sites) + Math.min(...sites.map((site) => storedAt(site, 1)));
  if (saveProjection && budget < least) {
    throw new ConfigError(
      `budget is ${budget}; with saved matrices as wide as these modules need, one module takes ${least} parameters`,
      'budget',
    );
  }
  const kept = sitesForBudget(sites, budget - projectionOf(sites), (site) => storedAt(site, 1));
  const withoutRanks = kept.reduce((sum, site) => sum + storedAt(site, 0), 0);
  const r = Math.max(1, Math.floor((budget - withoutRanks) / (kept.length + projectionOf(kept))));
  const features = Math.max(...widest(kept));
  if (r > features) {
    warnOnce(
      `VeRA: for ${budget} parameters r is ${r}, above the ${features} features of its widest module, so steps are many times slower than LoRA's; without a budget r is ${config.r}`,
    );
  }
  return { ...narrowTargets(kept, config, sites), r, saveProjection };
}

export type { VeraConfig } from './config.js';
