import {
  biasLayers,
  ConfigError,
  defineMethod,
  layersByPath,
  narrowTargets,
  type AdapterLayers,
  type CallableMethod,
  type Init,
  type MatchOn,
  type Site,
} from '@peftjs/core/method';
import { rankCost, ranksForBudget, sitesForBudget } from '@peftjs/core/ranks';
import { isPartOfWeight, parseLoraConfig, scaledTo, type LoraConfig, type LoraOptions } from './config.js';
import { LORA_GA, loraAdapterFile, readLoraAdapterFile } from './file.js';
import { initialFactors } from './starts.js';
import { loraLayer } from './variants.js';

/**
 * LoRA (Hu et al., 2021): changes a frozen weight by the product of two low-rank matrices. Its variants are options.
 *
 * @example attach(model, lora({ r: 8, targetModules: 'all-linear' }))
 */
export const lora: CallableMethod<LoraConfig, LoraOptions> = defineMethod<LoraConfig, LoraOptions>({
  name: 'lora',
  capabilities: { mergeable: true, identityAtInit: true, adaptsRank: false, kinds: ['linear', 'embedding'] },
  parseConfig: parseLoraConfig,
  calibration: ({ evaConfig, loraGaConfig }) => (evaConfig ? 'activations' : loraGaConfig ? 'gradients' : null),
  fitBudget: fittedToBudget,
  scaledTo,
  adapt,
  peftTypes: ['LORA', LORA_GA],
  toFile: loraAdapterFile,
  fromFile: readLoraAdapterFile,
});

function adapt(sites: readonly Site[], config: LoraConfig, init: Init): AdapterLayers {
  const starts = initialFactors(sites, config, init);
  const layers = sites.flatMap((site) => {
    const start = starts[site.path];
    return start ? [loraLayer(site, config, start, init.frozen(site.path))] : [];
  });
  const adapted = layersByPath(layers);
  return config.bias === 'all'
    ? { ...adapted, ...biasLayers(adapted, init, { rateFactor: config.loraplusLrRatio }) }
    : adapted;
}

/**
 * Returns the configuration that stores, or trains, `budget` parameters over these modules: the same rank everywhere,
 * one more in some modules to fill the budget, and fewer modules if even the lowest rank everywhere is too large. With
 * EVA, ranks then move by the parameters they store.
 * @throws ConfigError when not even one module of the lowest rank fits, or for `bias: 'all'`, whose biases are stored
 * at any rank.
 */
function fittedToBudget(
  sites: readonly Site[],
  budget: number,
  config: LoraConfig,
  matchOn: MatchOn = 'stored',
): LoraConfig {
  if (config.bias === 'all') {
    throw new ConfigError("lora: bias 'all' trains unadapted modules, so ranks cannot meet a budget", 'bias');
  }
  const step = config.initLoraWeights === 'orthogonal' ? 2 : 1;
  const perRank = matchOn === 'stored' ? storedPerRank : trainedPerRank;
  const unitCost = (site: Site): number => step * perRank(site, config);
  const kept = sitesForBudget(sites, budget, (site) => vectorParameters(site, config) + unitCost(site));
  const left = budget - sum(kept, (site) => vectorParameters(site, config));
  const { r, rankPattern } = ranksForBudget(kept, Math.max(left, sum(kept, unitCost)), unitCost);
  const ranks = Object.entries(rankPattern).map(([pattern, rank]) => [pattern, step * rank] as const);
  return {
    ...narrowTargets(kept, config, sites),
    r: step * r,
    rankPattern: Object.fromEntries(ranks),
    evaConfig: config.evaConfig && { ...config.evaConfig, budgetUnit: 'parameters' },
  };
}

/** If A0 and B0 are subtracted from W0, a file holds the difference: two ranks per trained rank. */
function storedPerRank(site: Site, { initLoraWeights, loraGaConfig }: LoraConfig): number {
  const isDifference = site.kind === 'linear' && (isPartOfWeight(initLoraWeights) || loraGaConfig);
  return (isDifference ? 2 : 1) * rankCost(site);
}

/** LoRA-FA trains B only. */
function trainedPerRank(site: Site, { loraFa }: LoraConfig): number {
  return loraFa && site.kind === 'linear' ? site.outFeatures : rankCost(site);
}

/** Returns the number of values in magnitudes and biases, each with one value per output. */
function vectorParameters({ outFeatures, hasBias }: Site, { useDora, loraBias, bias }: LoraConfig): number {
  const vectors = [useDora, loraBias, bias === 'lora_only' && hasBias].filter(Boolean).length;
  return vectors * outFeatures;
}

function sum(sites: readonly Site[], value: (site: Site) => number): number {
  return sites.reduce((total, site) => total + value(site), 0);
}

export { truncatedLora } from './truncated.js';
export type { TruncatedLoraConfig } from './truncated.js';
export type { EvaConfig, InitLoraWeights, LoraConfig, LoraGaConfig, LoraOptions } from './config.js';
