import { ConfigError, floats, type HostTensor, type Init, type Site } from '@peftjs/core/method';
import {
  bestFirst,
  firstWithinBudget,
  fullRank,
  isNearBudget,
  rankCost,
  rankUnit,
  startingRank,
} from '@peftjs/core/ranks';
import type { GoraConfig } from './config.js';

/*
 * How GoRA distributes ranks, from the gradient G of the loss at every frozen weight W0:
 *
 *   I_k = mean |W0 * G|                      importanceOf     over the entries of module k's weight
 *   a_k = I_k / sum I
 *   t_k = b a_k / sqrt(in + out)             targets          b = sum sqrt(in + out) r
 *   r_k                                      distributeRanks  near t_k, in [ceil(r / 2), 4 r] and within the budget
 *
 * The paper rounds t_k, which may store a tenth more or less than rank r everywhere. Here every module starts from the
 * lowest rank. The module whose target is farthest above its rank gets another rank, repeatedly, while the budget pays
 * for it.
 */

/** Returns mean |W0 * G| of a weight and its gradient, both [in, out]. */
export function importanceOf(weight: HostTensor, gradient: HostTensor): number {
  const [w, g] = [floats(weight, 'weight'), floats(gradient, 'gradient')];
  return w.reduce((sum, value, index) => sum + Math.abs(value * (g[index] as number)), 0) / w.length;
}

/** Returns the rank of every module: by the gradients, or as stored. @throws ConfigError without gradients. */
export function chosenRanks(sites: readonly Site[], config: GoraConfig, init: Init): number[] {
  if (config.initLoraWeights === 'stored') return sites.map((site) => startingRank(site, config));
  const gradientAt = (path: string): HostTensor => init.calibrated('gradients', path);
  const importance = sites.map(({ path }) => importanceOf(init.frozen(path).weight, gradientAt(path)));
  return distributeRanks(sites, importance, config);
}

/**
 * Returns the rank of every module.
 * @param importance one value of at least 0 per module
 * @throws ConfigError when all gradients are zero, when the lowest ranks exceed the budget, or when the highest ranks
 * do not reach it.
 */
export function distributeRanks(sites: readonly Site[], importance: readonly number[], config: GoraConfig): number[] {
  const unit = rankUnit(sites);
  const budget = config.budget ?? config.r * unit;
  const reference = budget / unit;
  const wanted = targets(sites, importance, reference);
  const bounded = sites.map((site) => ({ site, cost: rankCost(site), ...boundsOf(site, reference, config) }));
  const more = bounded.flatMap(({ site: { path }, cost, least, most }, index) =>
    Array.from({ length: most - least }, (_, extra) => ({
      path,
      rank: least + extra,
      value: (wanted[index] as number) - (least + extra), // how far the target is above the rank before this one
      cost,
    })),
  );
  const start = bounded.reduce((sum, { least, cost }) => sum + least * cost, 0);
  const most = more.reduce((sum, { cost }) => sum + cost, start);
  assertReachable(start, most, budget);
  const added = firstWithinBudget(bestFirst(more), budget, start); // the first module comes first in a tie
  return bounded.map(({ site, least }) => least + added.filter(({ path }) => path === site.path).length);
}

/** Returns t of every module, a real number. @throws ConfigError when the gradients are zero or not finite. */
export function targets(sites: readonly Site[], importance: readonly number[], reference: number): number[] {
  const sum = importance.reduce((a, b) => a + b, 0);
  if (!(sum > 0 && sum < Infinity)) {
    throw new ConfigError(
      `gora: ranks follow the gradients, but mean |W0 * G| of all modules is ${sum}; calibrate on other batches`,
      'calibration',
    );
  }
  const roots = sites.map((site) => Math.sqrt(rankCost(site)));
  const all = roots.reduce((a, b) => a + b, 0) * reference;
  return roots.map((root, index) => (all * (importance[index] as number)) / sum / root);
}

/** Returns the lowest and the highest rank of a module. */
function boundsOf(site: Site, reference: number, { minR, maxR }: GoraConfig) {
  const full = fullRank(site);
  const least = Math.min(full, minR ?? Math.ceil(reference / 2), maxR ?? Infinity);
  return { least, most: Math.max(least, Math.min(full, maxR ?? Math.floor(4 * reference))) };
}

function assertReachable(least: number, most: number, budget: number): void {
  const refusal = (which: string, stored: number, advice: string, option: string): ConfigError =>
    new ConfigError(`gora: the ${which} ranks store ${stored}, but the budget is ${budget}; ${advice}`, option);
  if (least > budget && !isNearBudget(least, budget)) throw refusal('lowest', least, 'lower minR', 'minR');
  if (most < budget && !isNearBudget(most, budget)) throw refusal('highest', most, 'raise maxR', 'maxR');
}
