import { quantile, sampleVariance, mean } from 'simple-statistics';
import { createRng } from '@peftjs/core/method';
import type { TrialResult } from '../../results/schema.js';
import { armsOf, comparable, grouped, pairsOf } from './comparisons.js';
import { LEVEL, pooledError, smallestMargin } from './equivalence.js';
import { seedsToReach, signFlipTest } from './estimates.js';
import { differencesOf, variancesOf } from './resampling.js';

/** With which probability a planned difference is found. */
export const POWER = 0.8;

/** Studies that are simulated. */
const SIMULATIONS = 2000;

/** By what two arms differ that are alike in expectation. */
export interface Spread {
  /** Standard deviation over seeds of the paired difference of the primary metric. */
  readonly seeds: number;
  /** Standard error of the mean difference by the rows that were drawn to judge on, and how many they are; null where it is not known. */
  readonly rows: { readonly standardError: number; readonly count: number } | null;
}

/** What is compared at one budget, before it is run. */
export interface Design {
  readonly seeds: number;
  /** Pairs that Holm's correction counts. */
  readonly pairs: number;
  /** One a task. */
  readonly spreads: readonly Spread[];
}

/** What the tests of a design can show. */
export interface Reach {
  /** The smallest p that there is, 2 / 2^n, and what it is where Holm's correction counts every pair. */
  readonly leastP: number;
  readonly leastPHolm: number;
  /** Seeds on every task from which on the test can pass Holm's correction at all. */
  readonly seedsNeeded: number;
  /** The smallest true difference that is found with 80 % probability; null where the seeds cannot show any. */
  readonly difference: number | null;
  /** The smallest margin within which two arms without a difference are called equivalent with 80 % probability; null of one seed. */
  readonly margin: number | null;
}

/**
 * What the sign-flip test and both one-sided tests can show, Holm's correction counted in full: the pair passes the first of Holm's steps,
 * and so it is found whatever the other pairs do. By simulation of normal differences with the given spread, the same at every call.
 */
export function reachOf({ seeds, pairs, spreads }: Design): Reach {
  const leastP = leastPOf(seeds * spreads.length);
  const rng = createRng(0).fork('studies');
  const studies = Array.from({ length: SIMULATIONS }, () =>
    spreads.map(({ seeds: spread, rows }) => ({
      noise: Array.from({ length: seeds }, () => spread * rng.normal()),
      shift: rows ? rows.standardError * rng.normal() : 0,
    })),
  );
  const margins = seeds < 2 ? null : studies.map((study) => marginOf(study, spreads, LEVEL / pairs));
  const byStudy = studies.map((study) => study.flatMap(({ noise }) => noise));
  return {
    leastP,
    leastPHolm: Math.min(1, pairs * leastP),
    seedsNeeded: Math.ceil(seedsToReach(pairs) / spreads.length),
    difference: pairs * leastP < LEVEL ? smallestFound(byStudy, pairs) : null,
    margin: margins && quantile(margins, POWER),
  };
}

/** The smallest p of the sign-flip test. */
function leastPOf(pairs: number): number {
  return 2 / 2 ** pairs;
}

/** The smallest margin at which one study calls arms without a difference equivalent. */
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
 * The smallest true difference that enough studies find, by bisection to half a percent. A study that finds a difference finds every
 * larger one: whatever signs are flipped, the sum as seen gains the most.
 */
function smallestFound(studies: readonly (readonly number[])[], pairs: number): number {
  const isFound = (noise: readonly number[], by: number): boolean => {
    const seen = noise.map((value) => value + by);
    return mean(seen) > 0 && pairs * signFlipTest(seen) < LEVEL;
  };
  const size = Math.max(...studies.map((noise) => Math.max(...noise.map(Math.abs))));
  let [low, high] = [0, size];
  /** Studies that find no difference of `low`, and each of `high`. */
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

/**
 * The spread of paired differences in an earlier run, by task: the root of the mean variance over all pairs of arms at one budget. A task
 * without two seeds of two arms is not in it.
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
