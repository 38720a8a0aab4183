import { quantile, sampleStandardDeviation, sampleVariance, mean } from 'simple-statistics';
import { createRng } from '@peftjs/core/method';
import type { TrialResult } from '@peftjs/cli/results';
import { armsOf, comparable, grouped, pairsOf } from './comparisons.js';
import { LEVEL, pooledError, smallestMargin } from './equivalence.js';
import { seedsToReach, signFlipTest } from './estimates.js';
import { differencesOf, variancesOf } from './resampling.js';
import { studentQuantile } from './student.js';

/** The probability with which a planned difference is detected. */
export const POWER = 0.8;

/** The number of simulated studies. */
const SIMULATIONS = 2000;
/** Up to this many differences, the simulated studies are judged by the sign-flip test; thousands take seconds. */
const FLIPPED = 24;

/** How much two arms differ by chance if they are equal in expectation. */
export interface Spread {
  /** The standard deviation over seeds of the paired difference of the primary metric. */
  readonly seeds: number;
  /**
   * The standard error of the mean difference due to the choice of evaluated rows, and the number of rows; null if
   * unknown.
   */
  readonly rows: { readonly standardError: number; readonly count: number } | null;
}

/** A planned comparison at one budget. */
export interface Design {
  /** The number of seeds. */
  readonly seeds: number;
  /** The number of pairs in Holm's correction. */
  readonly pairs: number;
  /** The spread on each task. */
  readonly spreads: readonly Spread[];
}

/** What the tests of a design can show. */
export interface Reach {
  /** The smallest possible p, 2 / 2^n for n = seeds x tasks. */
  readonly leastP: number;
  /** The smallest possible p after Holm's correction for every pair. */
  readonly leastPHolm: number;
  /** The fewest seeds per task with which the test can pass Holm's correction. */
  readonly seedsNeeded: number;
  /** The smallest true difference that is detected with 80 % probability; null if the seeds cannot show any. */
  readonly difference: number | null;
  /** The smallest margin within which two equal arms are found equivalent with 80 % probability; null for one seed. */
  readonly margin: number | null;
}

/**
 * Estimates what the sign-flip test and the two one-sided tests can show with Holm's full correction: a pair that
 * passes Holm's first step passes whatever the other pairs do. It simulates normal differences with the given spread,
 * the same ones in every call. Beyond 24 differences per study, the paired t test stands for the sign-flip test, which
 * it approximates: with 24, the smallest difference that it detects is the same within 2 %.
 */
export function reachOf({ seeds, pairs, spreads }: Design): Reach {
  const leastP = 2 / 2 ** (seeds * spreads.length); // the smallest p of the sign-flip test
  const rng = createRng(0).fork('studies');
  const studies = Array.from({ length: SIMULATIONS }, () =>
    spreads.map(({ seeds: spread, rows }) => ({
      noise: Array.from({ length: seeds }, () => spread * rng.normal()),
      shift: rows ? rows.standardError * rng.normal() : 0,
    })),
  );
  const margins = seeds < 2 ? null : studies.map((study) => marginOf(study, spreads, LEVEL / pairs));
  const smallest = seeds * spreads.length > FLIPPED ? smallestByStudent : smallestFound;
  const byStudy = studies.map((study) => study.flatMap(({ noise }) => noise));
  return {
    leastP,
    leastPHolm: Math.min(1, pairs * leastP),
    seedsNeeded: Math.ceil(seedsToReach(pairs) / spreads.length),
    difference: pairs * leastP < LEVEL ? smallest(byStudy, pairs) : null,
    margin: margins && quantile(margins, POWER),
  };
}

/** The smallest margin at which one study finds equal arms equivalent. */
function marginOf(
  study: readonly { readonly noise: readonly number[]; readonly shift: number }[],
  spreads: readonly Spread[],
  level: number,
): number {
  const tasks = study.length;
  const parts = study.flatMap(({ noise }, task) => {
    const rows = spreads[task]?.rows;
    const seeds = { variance: sampleVariance([...noise]) / noise.length, degrees: noise.length - 1 };
    return rows ? [seeds, { variance: rows.standardError ** 2, degrees: rows.count - 1 }] : [seeds];
  });
  const whole = parts.map(({ variance, degrees }) => ({ variance: variance / tasks ** 2, degrees }));
  const difference = mean(study.map(({ noise, shift }) => mean([...noise]) + shift));
  return smallestMargin({ mean: difference, ...pooledError(whole) }, level);
}

/**
 * The smallest true difference that enough studies detect, by bisection to half a percent. A study that detects a
 * difference detects every larger one: the observed sum gains more than that of any other sign pattern.
 */
function smallestFound(studies: readonly (readonly number[])[], pairs: number): number {
  const isFound = (noise: readonly number[], by: number): boolean => {
    const seen = noise.map((value) => value + by);
    return mean(seen) > 0 && pairs * signFlipTest(seen) < LEVEL;
  };
  const size = Math.max(...studies.map((noise) => Math.max(...noise.map(Math.abs))));
  let [low, high] = [0, size];
  /** Studies that do not detect a difference of `low`, but one of `high`. */
  let open = studies.filter((noise) => isFound(noise, high));
  let missing = POWER * studies.length;
  while (high - low > 0.005 * high) {
    const middle = (low + high) / 2;
    const found = open.filter((noise) => isFound(noise, middle));
    if (found.length >= missing) {
      high = middle;
      open = found;
    } else {
      low = middle;
      missing -= found.length;
      open = open.filter((noise) => !found.includes(noise));
    }
  }
  return high;
}

/** The smallest true difference that enough studies detect by the paired t test. */
function smallestByStudent(studies: readonly (readonly number[])[], pairs: number): number {
  const { length } = studies[0] as readonly number[];
  const errors = studentQuantile(LEVEL / pairs / 2, length - 1) / Math.sqrt(length);
  const needed = studies.map((noise) => errors * sampleStandardDeviation([...noise]) - mean([...noise]));
  return quantile(needed, POWER);
}

/**
 * The spread of paired differences in an earlier run, by task: the root of the mean variance over all pairs of arms at
 * one budget. Tasks without two seeds of two arms are left out.
 */
export function spreadsOf(results: readonly TrialResult[]): Map<string, Spread> {
  const byTask = grouped(armsOf(results), ({ trials: [{ task }] }) => task);
  return new Map(
    byTask.flatMap((arms) => {
      const contests = grouped(arms, ({ trials: [{ model, budget }] }) => [model, budget.spec]);
      const differences = contests
        .flatMap((contest) => pairsOf(contest))
        .filter(([a, b]) => comparable(a.trials[0], b.trials[0]))
        .map(([a, b]) => differencesOf(a.trials, b.trials))
        .filter(({ values }) => values.length > 1);
      if (differences.length === 0) return [];
      const rows = differences.filter(({ onRows }) => onRows !== null);
      const seeds = Math.sqrt(mean(differences.map(({ values }) => sampleVariance([...values]))));
      const standardError = Math.sqrt(
        mean(rows.length === 0 ? [0] : rows.map((sample) => variancesOf(sample).rows ?? 0)),
      );
      const count = rows[0]?.rows ?? 0;
      return [[arms[0].trials[0].task, { seeds, rows: rows.length === 0 ? null : { standardError, count } }] as const];
    }),
  );
}
