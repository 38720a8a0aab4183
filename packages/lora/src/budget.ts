import { ConfigError, rankCost, ranksForBudget, type Site } from '@peftjs/core';
import { isPartOfWeight, type LoraConfig } from './config.js';

/**
 * The configuration that stores `budget` parameters over these sites: the same rank everywhere, one more for some modules
 * where that does not fit. With EVA, ranks then move by what they store.
 * @throws ConfigError when not even the least rank fits, or for `bias: 'all'`, which stores what no rank can make up for.
 */
export function fittedToBudget(sites: readonly Site[], budget: number, config: LoraConfig): LoraConfig {
  if (config.bias === 'all') {
    throw new ConfigError("lora: bias 'all' trains modules that are not adapted: no budget is kept by ranks", 'bias');
  }
  const step = config.initLoraWeights === 'orthogonal' ? 2 : 1;
  const unitCost = (site: Site): number => step * storedRanksOf(site, config) * rankCost(site);
  const beside = sum(sites, (site) => besideRanks(site, config));
  const least = beside + sum(sites, unitCost);
  if (!(budget >= least)) {
    throw new ConfigError(
      `budget is ${budget}; the least rank on ${sites.length} modules stores ${least} parameters, ask for at least that or target fewer modules`,
      'budget',
    );
  }
  const { r, rankPattern } = ranksForBudget(sites, budget - beside, unitCost);
  const ranks = Object.entries(rankPattern).map(([pattern, rank]) => [pattern, step * rank] as const);
  return {
    ...config,
    r: step * r,
    rankPattern: Object.fromEntries(ranks),
    evaConfig: config.evaConfig && { ...config.evaConfig, budgetUnit: 'parameters' },
  };
}

/** Ranks that a file holds for each that is trained: where A and B are taken out of W0, it is a difference. */
function storedRanksOf({ kind }: Site, { initLoraWeights, loraGaConfig }: LoraConfig): number {
  return kind === 'linear' && (isPartOfWeight(initLoraWeights) || loraGaConfig) ? 2 : 1;
}

/** Magnitudes and biases, one for each output. */
function besideRanks({ outFeatures, hasBias }: Site, { useDora, loraBias, bias }: LoraConfig): number {
  const vectors = [useDora, loraBias, bias === 'lora_only' && hasBias].filter(Boolean).length;
  return vectors * outFeatures;
}

function sum(sites: readonly Site[], value: (site: Site) => number): number {
  return sites.reduce((total, site) => total + value(site), 0);
}
