import { isNearBudget, narrowedTo, ranksForBudget, sitesForBudget, type Site } from '@peftjs/core';
import type { BottleneckConfig } from './config.js';
import { biasCost, unitCost } from './layer.js';

/** Adapters by what they are made of, and what they store together. */
interface Sizes extends Pick<BottleneckConfig, 'bottleneck' | 'bottleneckPattern' | 'withoutBias'> {
  readonly stored: number;
}

/**
 * The configuration whose adapters store, and train, as near to a budget as can be. What it changes comes in this order, as
 * little of each as brings them within 2 %: the widths; biases u, those nearest to the input first; the places themselves,
 * where width 1 without a bias is too much everywhere.
 *
 * @param sites where the method puts its adapters
 * @throws ConfigError when the budget does not pay for one adapter.
 */
export function fittedToBudget(sites: readonly Site[], budget: number, config: BottleneckConfig): BottleneckConfig {
  const kept = sitesForBudget(sites, budget, unitCost);
  const { stored: _, ...sizes } = nearestSizes(kept, budget);
  return { ...narrowedTo(kept, config, sites), ...sizes };
}

/** The first sizes within 2 % of a budget, with one bias fewer each time; the nearest where none are. */
function nearestSizes(sites: readonly Site[], budget: number): Sizes {
  const tried: Sizes[] = [];
  for (let without = 0; without <= sites.length; without++) {
    const sizes = sizesWithout(without, sites, budget);
    if (sizes && isNearBudget(sizes.stored, budget)) return sizes;
    if (sizes) tried.push(sizes);
  }
  const distance = ({ stored }: Sizes): number => Math.abs(stored - budget);
  return tried.reduce((nearest, other) => (distance(other) < distance(nearest) ? other : nearest));
}

/** The widths that go with the biases left when so many of them are left out; undefined where width 1 is too much. */
function sizesWithout(biases: number, sites: readonly Site[], budget: number): Sizes | undefined {
  const biased = sites.slice(biases).reduce((sum, site) => sum + biasCost(site), 0);
  const narrowest = sites.reduce((sum, site) => sum + unitCost(site), 0);
  const left = budget - biased;
  if (left < narrowest && !isNearBudget(narrowest, left)) return undefined;
  const { r, rankPattern, cost } = ranksForBudget(sites, left, unitCost);
  const withoutBias = sites.slice(0, biases).map(({ path }) => path);
  return { bottleneck: r, bottleneckPattern: rankPattern, withoutBias, stored: biased + cost };
}
