import { createRng } from '@peftjs/core';

/** Up to this many pairs every one of the 2^n sign patterns is counted. */
const EXACT_PAIRS = 20;
const SAMPLED_FLIPS = 100_000;
/** Signs that one draw of 32 bits gives. */
const SIGNS_PER_DRAW = 32;

/** The fewest paired seeds whose smallest possible p, 2 / 2^n, is below 0.05. */
export const PAIRS_FOR_SIGNIFICANCE = 6;

/**
 * Two-sided sign-flip permutation test: were the two methods alike, each paired difference could as well have had the
 * other sign. p = the share of sign patterns whose sum is at least as far from zero as the one seen. Exact up to 20 pairs;
 * beyond, 100,000 patterns, the same for the same number of pairs (with the one seen counted in, so p is never zero).
 */
export function signFlipTest(differences: readonly number[]): number {
  const size = differences.reduce((sum, difference) => sum + Math.abs(difference), 0);
  // Sums that are equal but for rounding are ties.
  const seen = Math.abs(differences.reduce((sum, difference) => sum + difference, 0)) - 1e-12 * size;
  const isAsFar = (sum: number): boolean => Math.abs(sum) >= seen;
  if (differences.length <= EXACT_PAIRS) return countPatterns(differences, 0, 0, isAsFar) / 2 ** differences.length;
  return (1 + countSampled(differences, isAsFar)) / (SAMPLED_FLIPS + 1);
}

function countPatterns(values: readonly number[], from: number, sum: number, holds: (sum: number) => boolean): number {
  const value = values[from];
  if (value === undefined) return holds(sum) ? 1 : 0;
  return countPatterns(values, from + 1, sum + value, holds) + countPatterns(values, from + 1, sum - value, holds);
}

function countSampled(values: readonly number[], holds: (sum: number) => boolean): number {
  const rng = createRng(0).fork('sign flips');
  let held = 0;
  for (let drawn = 0; drawn < SAMPLED_FLIPS; drawn++) {
    let signs = 0;
    let sum = 0;
    for (const [index, value] of values.entries()) {
      if (index % SIGNS_PER_DRAW === 0) signs = rng.integer(2 ** SIGNS_PER_DRAW);
      sum += (signs >>> (index % SIGNS_PER_DRAW)) & 1 ? value : -value;
    }
    if (holds(sum)) held++;
  }
  return held;
}
