import {
  ConfigError,
  firstWithinBudget,
  floats,
  isNearBudget,
  rankCost,
  rankUnit,
  type HostTensor,
  type Site,
} from '@peftjs/core/method';
import type { GoraConfig } from './config.js';

/*
 * How GoRA distributes ranks, from the gradient G of the loss at every frozen weight W0:
 *
 *   I_k = mean |W0 * G|                      importanceOf     over the entries of module k's weight
 *   a_k = I_k / sum I
 *   t_k = b a_k / sqrt(in + out)             targets          b = sum sqrt(in + out) r
 *   r_k                                      distributeRanks      near t_k, in [ceil(r / 2), 4 r] and within the budget
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

/**
 * Returns the rank of every module.
 * @param importance one value of at least 0 per module
 * @throws ConfigError when all gradients are zero, when the lowest ranks exceed the budget, or when the highest ranks
 * do not reach it.
 */
export function distributeRanks(
  sites: readonly Site[],
  importance: readonly number[],
  config: Pick<GoraConfig, 'r' | 'minR' | 'maxR' | 'budget'>,
): number[] {
  const unit = rankUnit(sites);
  const budget = config.budget ?? config.r * unit;
  const reference = budget / unit;
  const bounds = sites.map((site) => boundsOf(site, reference, config));
  const wanted = targets(sites, importance, reference);
  const additions = bounds
    .flatMap(({ least, most }, site) =>
      Array.from({ length: most - least }, (_, index) => ({
        site,
        cost: rankCost(sites[site] as Site),
        missing: (wanted[site] as number) - (least + index),
      })),
    )
    .sort((a, b) => b.missing - a.missing); // stable: the first module comes first in a tie
  const start = sites.reduce((sum, site, index) => sum + (bounds[index] as Bounds).least * rankCost(site), 0);
  assertReachable(start, total(additions), budget);
  const ranks = bounds.map(({ least }) => least);
  for (const { site } of firstWithinBudget(additions, budget, start)) ranks[site] = (ranks[site] as number) + 1;
  return ranks;
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

/** The lowest and the highest rank of a module. */
interface Bounds {
  /** The lowest rank. */
  readonly least: number;
  /** The highest rank. */
  readonly most: number;
}

function boundsOf(
  { inFeatures, outFeatures }: Site,
  reference: number,
  { minR, maxR }: Pick<GoraConfig, 'minR' | 'maxR'>,
): Bounds {
  const full = Math.min(inFeatures, outFeatures);
  const least = Math.min(full, minR ?? Math.ceil(reference / 2), maxR ?? Infinity);
  return { least, most: Math.max(least, Math.min(full, maxR ?? Math.floor(4 * reference))) };
}

function assertReachable(start: number, more: number, budget: number): void {
  if (start > budget && !isNearBudget(start, budget)) {
    throw new ConfigError(`gora: the lowest ranks store ${start}, but the budget is ${budget}; lower minR`, 'minR');
  }
  if (start + more < budget && !isNearBudget(start + more, budget)) {
    throw new ConfigError(
      `gora: the highest ranks store ${start + more}, but the budget is ${budget}; raise maxR`,
      'maxR',
    );
  }
}

/** One more rank for a module. */
interface Addition {
  /** The module's index among the sites. */
  readonly site: number;
  /** The number of parameters that the rank stores. */
  readonly cost: number;
  /** How far the module's target is above its rank before this one. */
  readonly missing: number;
}

function total(additions: readonly Addition[]): number {
  return additions.reduce((sum, { cost }) => sum + cost, 0);
}
