import { mean, quantileSorted, sampleStandardDeviation } from 'simple-statistics';
import { createRng } from '@peftjs/core/method';
import { studentQuantile } from './student.js';

/** Resamples behind every interval. */
export const RESAMPLES = 10_000;

export interface Interval {
  readonly low: number;
  readonly high: number;
}

/** What a handful of seeds say; one seed says nothing about the spread. */
export interface Estimate {
  readonly mean: number;
  /** Sample standard deviation (n - 1); null of a mean over tasks, whose spreads have nothing in common. */
  readonly sd: number | null;
  /** 95 % bootstrap interval of the mean. */
  readonly interval: Interval | null;
}

/** Mean, spread and interval of at least one value. */
export function estimate(values: readonly number[]): Estimate {
  const sample = [...values];
  if (sample.length < 2) return { mean: mean(sample), sd: null, interval: null };
  return { mean: mean(sample), sd: sampleStandardDeviation(sample), interval: bootstrapInterval([sample]) };
}

/**
 * The percentile bootstrap of a mean of strata's means: 95 % of what comes of samples drawn with replacement within each stratum.
 * Samples of one size are resampled alike, so that the interval of `b - a` is that of `a - b` turned round.
 */
export function bootstrapInterval(strata: readonly (readonly number[])[]): Interval {
  const means = new Float64Array(RESAMPLES);
  for (const [stratum, values] of strata.entries()) {
    const drawn = resamplesOf(values.length, stratum);
    for (let row = 0; row < RESAMPLES; row++) {
      let sum = 0;
      const end = (row + 1) * values.length;
      for (let index = row * values.length; index < end; index++) sum += values[drawn[index] as number] as number;
      means[row] = (means[row] as number) + sum / values.length / strata.length;
    }
  }
  const sorted = Array.from(means.sort());
  return { low: quantileSorted(sorted, 0.025), high: quantileSorted(sorted, 0.975) };
}

const resamples = new Map<string, Uint16Array>();

/** Which values the resamples take, [RESAMPLES x size]: the same for every sample of a size. */
export function resamplesOf(size: number, stratum: number): Uint16Array {
  const key = `${stratum} of ${size}`;
  const known = resamples.get(key);
  if (known) return known;
  const rng = createRng(0).fork(key);
  const drawn = Uint16Array.from({ length: RESAMPLES * size }, () => rng.integer(size));
  resamples.set(key, drawn);
  return drawn;
}

/**
 * A statistic of independent units, give or take what leaving out each of them does to it: `without` holds its values without the
 * first, the second, .. unit, at least two. Tukey's jackknife, 95 % by Student's t; of a mean it is the usual t interval.
 */
export function jackknifeInterval(whole: number, without: readonly number[]): Interval {
  const units = without.length;
  const center = mean([...without]);
  const squares = without.reduce((sum, value) => sum + (value - center) ** 2, 0);
  const reach = studentQuantile(0.025, units - 1) * Math.sqrt(((units - 1) / units) * squares);
  return { low: whole - reach, high: whole + reach };
}

/** Up to this many pairs every one of the 2^n sign patterns is counted. */
const EXACT_PAIRS = 40;
const SAMPLED_FLIPS = 100_000;
/** Signs that one draw of 32 bits gives. */
const SIGNS_PER_DRAW = 32;

/** The fewest pairs whose smallest possible p, 2 / 2^n, is below 0.05 where Holm's correction counts a family in full. */
export function seedsToReach(family: number): number {
  return Math.floor(Math.log2((2 * family) / 0.05)) + 1;
}

/**
 * Two-sided sign-flip permutation test: were the two methods alike, each paired difference could as well have had the
 * other sign. p = the share of sign patterns whose sum is at least as far from zero as the one seen. Exact up to 40 pairs;
 * beyond, 100,000 patterns, the same for the same number of pairs (with the one seen counted in, so p is never zero).
 */
export function signFlipTest(differences: readonly number[]): number {
  const size = differences.reduce((sum, difference) => sum + Math.abs(difference), 0);
  // Sums that are equal but for rounding are ties.
  const seen = Math.abs(differences.reduce((sum, difference) => sum + difference, 0)) - 1e-12 * size;
  if (seen <= 0) return 1;
  if (differences.length <= EXACT_PAIRS) return (2 * countAtLeast(seen, differences)) / 2 ** differences.length;
  return (1 + countSampled(differences, (sum) => Math.abs(sum) >= seen)) / (SAMPLED_FLIPS + 1);
}

/**
 * The sign patterns whose sum is at least `seen`: each is a pattern of the first half and one of the second, and of both the sums are in
 * order, so that 2 x 2^(n/2) sums are looked at in place of 2^n.
 */
function countAtLeast(seen: number, values: readonly number[]): number {
  const half = values.length >> 1;
  const [first, second] = [signedSums(values.slice(0, half)), signedSums(values.slice(half))];
  let found = 0;
  let reach = second.length;
  for (let at = 0; at < first.length; at++) {
    const missing = seen - (first[at] as number);
    while (reach > 0 && (second[reach - 1] as number) >= missing) reach--;
    found += second.length - reach;
  }
  return found;
}

/** The sums of all 2^n sign patterns, ascending. */
function signedSums(values: readonly number[]): Float64Array {
  return values.reduce<Float64Array>((sums, value) => merged(sums, Math.abs(value)), new Float64Array(1));
}

/** Every sum minus and plus a size, ascending. */
function merged(sums: Float64Array, size: number): Float64Array {
  const both = new Float64Array(2 * sums.length);
  let at = 0;
  let upper = 0;
  for (let lower = 0; lower < sums.length; lower++) {
    const minus = (sums[lower] as number) - size;
    while (upper < lower && (sums[upper] as number) + size < minus) both[at++] = (sums[upper++] as number) + size;
    both[at++] = minus;
  }
  while (upper < sums.length) both[at++] = (sums[upper++] as number) + size;
  return both;
}

/** The sign-flip test of the mean of tasks' means: each seed of each task could as well have had the other sign. */
export function signFlipTestOverTasks(byTask: readonly (readonly number[])[]): number {
  return signFlipTest(byTask.flatMap((values) => values.map((value) => value / values.length / byTask.length)));
}

function countSampled(values: readonly number[], holds: (sum: number) => boolean): number {
  const rng = createRng(0).fork('sign flips');
  let found = 0;
  for (let drawn = 0; drawn < SAMPLED_FLIPS; drawn++) {
    let signs = 0;
    let sum = 0;
    for (const [index, value] of values.entries()) {
      if (index % SIGNS_PER_DRAW === 0) signs = rng.integer(2 ** SIGNS_PER_DRAW);
      sum += (signs >>> (index % SIGNS_PER_DRAW)) & 1 ? value : -value;
    }
    if (holds(sum)) found++;
  }
  return found;
}

/**
 * Holm's step-down adjustment of a family of p values, in their order: the i-th smallest of m is multiplied by m - i + 1, and none
 * is below a smaller one's. Reject where the adjusted p is below a level, and the chance of any false rejection in the family
 * is below it (Holm, Scandinavian Journal of Statistics 1979).
 */
export function holm(ps: readonly number[]): number[] {
  const ascending = ps.map((_, index) => index).sort((a, b) => (ps[a] as number) - (ps[b] as number));
  const adjusted = [...ps];
  let least = 0;
  for (const [rank, index] of ascending.entries()) {
    least = Math.max(least, Math.min(1, (ps.length - rank) * (ps[index] as number)));
    adjusted[index] = least;
  }
  return adjusted;
}
