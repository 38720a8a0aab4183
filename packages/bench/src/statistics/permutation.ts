import type { Rng } from '@peftjs/core';

/** Up to this many pairs every one of the 2^n sign patterns is counted. */
const EXACT_PAIRS = 20;
const SAMPLED_FLIPS = 100_000;

/** The fewest paired seeds whose smallest possible p, 2 / 2^n, is below 0.05. */
export const PAIRS_FOR_SIGNIFICANCE = 6;

/**
 * Two-sided sign-flip permutation test: were the two methods alike, each paired difference could as well have had the
 * other sign. p = the share of sign patterns whose sum is at least as far from zero as the one seen. Exact up to 20 pairs;
 * beyond, 100,000 patterns drawn from `rng` (with the one seen counted in, so p is never zero).
 */
export function signFlipTest(differences: readonly number[], rng: Rng): number {
  const size = differences.reduce((sum, difference) => sum + Math.abs(difference), 0);
  // Sums that are equal but for rounding are ties.
  const seen = Math.abs(differences.reduce((sum, difference) => sum + difference, 0)) - 1e-12 * size;
  const isAsFar = (sum: number): boolean => Math.abs(sum) >= seen;
  if (differences.length <= EXACT_PAIRS) return countPatterns(differences, 0, 0, isAsFar) / 2 ** differences.length;
  let asFar = 1;
  for (let drawn = 0; drawn < SAMPLED_FLIPS; drawn++) {
    if (isAsFar(differences.reduce((sum, difference) => sum + (rng.uniform() < 0.5 ? difference : -difference), 0)))
      asFar++;
  }
  return asFar / (SAMPLED_FLIPS + 1);
}

function countPatterns(values: readonly number[], from: number, sum: number, holds: (sum: number) => boolean): number {
  const value = values[from];
  if (value === undefined) return holds(sum) ? 1 : 0;
  return countPatterns(values, from + 1, sum + value, holds) + countPatterns(values, from + 1, sum - value, holds);
}
