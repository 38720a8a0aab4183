import {
  defineMethod,
  loraFile,
  moduleRank,
  narrowTargets,
  patternValue,
  rankCost,
  rankPatterns,
  ranksForBudget,
  readLoraFile,
  sitesForBudget,
  type AdapterFile,
  type AdapterLayers,
  type CallableMethod,
  type HostTensors,
  type Init,
  type Site,
} from '@peftjs/core/method';
import { parseGoraConfig, type GoraConfig } from './config.js';
import { goraLayer, initialTensors } from './layer.js';
import { importanceOf, distributeRanks } from './ranks.js';

/**
 * GoRA (He et al., 2025): LoRA that distributes ranks by the gradients over some batches and starts with a step down
 * these gradients.
 *
 * @example attach(model, gora(), { calibration: await calibrate(model, gora(), data, { executor }) })
 */
export const gora: CallableMethod<GoraConfig> = defineMethod<GoraConfig>({
  name: 'gora',
  capabilities: { mergeable: true, identityAtInit: false, adaptsRank: false, kinds: ['linear'] },
  parseConfig: parseGoraConfig,
  calibration: ({ initLoraWeights }) => (initLoraWeights === 'gora' ? 'gradients' : null),
  fitBudget,
  adapt,
  peftTypes: ['LORA'],
  toFile: loraFile,
  fromFile,
});

function adapt(sites: readonly Site[], config: GoraConfig, init: Init): AdapterLayers {
  const isStored = config.initLoraWeights === 'stored';
  const gradients = isStored ? [] : sites.map(({ path }) => init.calibrated('gradients', path));
  const importance = gradients.map((gradient, index) =>
    importanceOf(init.frozen((sites[index] as Site).path).weight, gradient),
  );
  const ranks = isStored
    ? sites.map(({ path }) => patternValue(config.rankPattern, path) ?? config.r)
    : distributeRanks(sites, importance, config);
  return Object.fromEntries(
    sites.map((site, index) => {
      const rng = init.rng.fork(site.path);
      const initial = initialTensors(site, ranks[index] as number, config, rng, gradients[index]);
      return [site.path, goraLayer(site, config, initial)];
    }),
  );
}

/** Sets the budget and its average rank. Adapts fewer modules if one rank for each is too much. */
function fitBudget(sites: readonly Site[], budget: number, config: GoraConfig): GoraConfig {
  const kept = sitesForBudget(sites, budget, rankCost);
  const least = kept.reduce((sum, site) => sum + rankCost(site), 0);
  const { r, rankPattern } = ranksForBudget(kept, Math.max(budget, least));
  return {
    ...narrowTargets(kept, config, sites),
    r,
    budget: Math.max(budget, least),
    ...(config.initLoraWeights === 'stored' && { rankPattern }),
  };
}

/** Converts the alpha of a LoRA, which is divided by r, to one that is divided by sqrt(r). */
function fromFile(file: AdapterFile): { config: Partial<GoraConfig>; values: HostTensors } {
  const { values, targetModules, ...lora } = readLoraFile(file);
  const modules = Object.fromEntries(
    targetModules.map((path) => {
      const { r, alpha } = moduleRank({ ...lora, alpha: lora.loraAlpha }, path);
      return [path, { r, alpha: Number((alpha / Math.sqrt(r)).toPrecision(12)) }];
    }),
  );
  const loraAlpha = Object.values(modules)[0]?.alpha ?? lora.loraAlpha;
  const { rankPattern, alphaPattern } = rankPatterns(modules, { r: lora.r, alpha: loraAlpha });
  return {
    config: { r: lora.r, loraAlpha, rankPattern, alphaPattern, targetModules, initLoraWeights: 'stored' },
    values,
  };
}

export type { GoraConfig } from './config.js';
