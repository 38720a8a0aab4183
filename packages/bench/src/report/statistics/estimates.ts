import { mean, quantileSorted } from 'simple-statistics';
import { createRng } from '@peftjs/core/method';
import { studentQuantile } from './student.js';

/** The number of resamples behind every interval. */
export const RESAMPLES = 10_000;
/** The number of resamples of a task's rows, and behind an interval that covers other rows. */
export const ROW_RESAMPLES = 2000;

/** An interval of values. */
export interface Interval {
  /** The lower end. */
  readonly low: number;
  /** The upper end. */
  readonly high: number;
}

/** The mean over seeds, with its spread; a single seed has no spread. */
export interface Estimate {
  /** The mean. */
  readonly mean: number;
  /**
   * The sample standard deviation (n - 1); null for one seed, and for a mean over tasks, whose spreads are unrelated.
   */
  readonly sd: number | null;
  /** The 95 % bootstrap interval of the mean; null for one seed. */
  readonly interval: Interval | null;
}

/**
 * The 95 % percentile bootstrap interval of a mean of strata's means, by drawing with replacement within each stratum.
 * With few values it covers less: 88 % for 7 normal ones (`test/coverage.e2e.ts`).
 * Samples of the same size share their resamples, so the interval of `b - a` mirrors that of `a - b`.
 * @param onRows by stratum, each value on every resample of its rows, which are drawn independently of the values; null
 *   if the rows of the stratum are unknown
 */
export function bootstrapInterval(
  strata: readonly (readonly number[])[],
  onRows: readonly (readonly Float64Array[] | null)[] = [],
): Interval {
  const means = new Float64Array(onRows.some((rows) => rows !== null) ? ROW_RESAMPLES : RESAMPLES);
  for (const [stratum, values] of strata.entries()) {
    const drawn = resamplesOf(values.length, stratum);
    const rows = onRows[stratum];
    for (let resample = 0; resample < means.length; resample++) {
      let sum = 0;
      const end = (resample + 1) * values.length;
      for (let index = resample * values.length; index < end; index++) {
        const at = drawn[index] as number;
        sum += (rows ? rows[at]?.[resample] : values[at]) as number;
      }
      means[resample] = (means[resample] as number) + sum / values.length / strata.length;
    }
  }
  const sorted = Array.from(means.sort());
  return { low: quantileSorted(sorted, 0.025), high: quantileSorted(sorted, 0.975) };
}

const resamples = new Map<string, Uint16Array>();

/** The indices that the resamples draw, [RESAMPLES x size]: the same for all samples of one size. */
function resamplesOf(size: number, stratum: number): Uint16Array {
  const key = `${stratum} of ${size}`;
  const known = resamples.get(key);
  if (known) return known;
  const rng = createRng(0).fork(key);
  const drawn = Uint16Array.from({ length: RESAMPLES * size }, () => rng.integer(size));
  resamples.set(key, drawn);
  return drawn;
}

/**
 * The 95 % interval of a statistic of independent units by Tukey's jackknife and Student's t. `without` holds the
 * values with the first, the second, .. unit left out, at least two. For a mean it is the usual t interval.
 */
export function jackknifeInterval(whole: number, without: readonly number[]): Interval {
  const units = without.length;
  const center = mean([...without]);
  const squares = without.reduce((sum, value) => sum + (value - center) ** 2, 0);
  const reach = studentQuantile(0.025, units - 1) * Math.sqrt(((units - 1) / units) * squares);
  return { low: whole - reach, high: whole + reach };
}

/** Up to this many pairs, all 2^n sign patterns are counted. */
const EXACT_PAIRS = 40;
/** The number of sign patterns sampled beyond that. */
const SAMPLED_FLIPS = 100_000;
/** The number of signs that one 32-bit draw gives. */
const SIGNS_PER_DRAW = 32;

/** The fewest pairs whose smallest possible p, 2 / 2^n, is below 0.05 after Holm's correction for a whole family. */
export function seedsToReach(family: number): number {
  return Math.floor(Math.log2((2 * family) / 0.05)) + 1;
}

/**
 * The two-sided sign-flip permutation test. If two methods are equal, each paired difference could equally well have
 * the opposite sign; p is the share of sign patterns whose sum is at least as far from zero as the observed one. Exact
 * up to 40 pairs. Beyond that it samples 100,000 patterns, the same for the same number of pairs, and counts the
 * observed one too, so that p is never zero.
 */
export function signFlipTest(differences: readonly number[]): number {
  const size = differences.reduce((sum, difference) => sum + Math.abs(difference), 0);
  // Sums that differ only by rounding are ties.
  const seen = Math.abs(differences.reduce((sum, difference) => sum + difference, 0)) - 1e-12 * size;
  if (seen <= 0) return 1;
  if (differences.length <= EXACT_PAIRS) return (2 * countAtLeast(seen, differences)) / 2 ** differences.length;
  return (1 + countSampled(differences, seen)) / (SAMPLED_FLIPS + 1);
}

/**
 * Counts the sign patterns whose sum is at least `seen`. Each pattern combines one of the first half with one of the
 * second; both halves' sums are sorted, so 2 x 2^(n/2) sums are visited instead of 2^n.
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

/** The sums of all 2^n sign patterns, in ascending order. */
function signedSums(values: readonly number[]): Float64Array {
  return values.reduce<Float64Array>((sums, value) => merged(sums, Math.abs(value)), new Float64Array(1));
}

/** Every sum minus and plus a size, in ascending order. */
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

/** The sign-flip test of the mean of tasks' means: the sign of each seed of each task may flip. */
export function signFlipTestOverTasks(byTask: readonly (readonly number[])[]): number {
  return signFlipTest(byTask.flatMap((values) => values.map((value) => value / values.length / byTask.length)));
}

/** Counts the sampled sign patterns whose sum is at least `seen` away from zero. */
function countSampled(values: readonly number[], seen: number): number {
  const rng = createRng(0).fork('sign flips');
  let found = 0;
  for (let drawn = 0; drawn < SAMPLED_FLIPS; drawn++) {
    let signs = 0;
    let sum = 0;
    for (const [index, value] of values.entries()) {
      if (index % SIGNS_PER_DRAW === 0) signs = rng.integer(2 ** SIGNS_PER_DRAW);
      sum += (signs >>> (index % SIGNS_PER_DRAW)) & 1 ? value : -value;
    }
    if (Math.abs(sum) >= seen) found++;
  }
  return found;
}

/**
 * Holm's step-down adjustment of a family of p-values, returned in the given order: the i-th smallest of m is
 * multiplied by m - i + 1, and none falls below that of a smaller one. Rejecting where the adjusted p is below a level
 * keeps the chance of any false rejection in the family below it (Holm, Scandinavian Journal of Statistics 1979).
 */
export function holm(ps: readonly number[]): number[] {
  return holmOfGroups(ps.map((p) => [p])).flat();
}

/**
 * The same for groups in which only one null hypothesis can hold, such as that a is worse than b and that b is worse
 * than a: each step counts the groups with a test left, not the tests (Shaffer, JASA 1986).
 */
export function holmOfGroups(groups: readonly (readonly number[])[]): number[][] {
  const adjusted = groups.map((ps) => [...ps]);
  const left = groups.map(({ length }) => length);
  let groupsLeft = groups.length;
  let least = 0;
  const tests = groups.flatMap((ps, group) => ps.map((p, at) => ({ p, group, at }))).sort((a, b) => a.p - b.p);
  for (const { p, group, at } of tests) {
    least = Math.max(least, Math.min(1, groupsLeft * p));
    (adjusted[group] as number[])[at] = least;
    left[group] = (left[group] as number) - 1;
    if (left[group] === 0) groupsLeft--;
  }
  return adjusted;
}
