import { mean, sampleCorrelation } from 'simple-statistics';
import type { DoneTrial } from '@peftjs/cli/results';
import { by, grouped, pairsOf, type Arm } from './comparisons.js';
import { jackknifeInterval, type Interval } from './estimates.js';

/*
 * The stability of an adaptive arm's choice of ranks: whether trials with the same task keep the same ranks, and
 * whether trials with the same seed do. a_i and b_i are the ranks that two trials keep in module i.
 *
 *   Pearson   r(a, b) = sum (a_i - mean a) (b_i - mean b) / sqrt(sum (a_i - mean a)^2 sum (b_i - mean b)^2)
 *   Jaccard   J(a, b) = sum min(a_i, b_i) / sum max(a_i, b_i)      the weighted index, after Ruzicka (Biologia 1958)
 */

/** The kept rank of each module, by path. */
type Ranks = DoneTrial['ranks'];

/** How similar the rank maps of two trials are, over the pairs of one kind. */
export interface Agreement {
  /** The number of pairs. */
  readonly pairs: number;
  /** Pairs left out of `correlation`, because a map with the same rank everywhere has no correlation. */
  readonly uncorrelated: number;
  /** The mean correlation of groups, with equal weight for each group; null if no pair has a value. */
  readonly correlation: number | null;
  /** The mean Jaccard index of groups, likewise. */
  readonly jaccard: number | null;
}

/** The stability of the choice of one arm at one budget. */
export interface StabilityRow {
  /** The model. */
  readonly model: string;
  /** The label of the arm. */
  readonly label: string;
  /** The budget. */
  readonly budget: Pick<DoneTrial['budget'], 'requested' | 'spec'>;
  /** The tasks. */
  readonly tasks: readonly string[];
  /** The seeds. */
  readonly seeds: readonly number[];
  /** The agreement of pairs of seeds on one task, grouped by task. */
  readonly betweenSeeds: Agreement;
  /** The agreement of pairs of tasks with one seed, grouped by seed. */
  readonly betweenTasks: Agreement;
  /**
   * The correlation between seeds minus that between tasks, with its 95 % jackknife interval over seeds; null if either
   * is undefined. The interval is null if either is undefined without some seed.
   */
  readonly difference: { readonly mean: number; readonly interval: Interval | null } | null;
  /**
   * What the choice follows if the interval excludes 0: the task or the initial draw. `same` if all trials kept the
   * same ranks; `open` otherwise.
   */
  readonly verdict: 'task' | 'draw' | 'same' | 'open';
}

/** A row for each arm and budget whose modules end with different ranks. */
export function stabilityOf(arms: readonly Arm[]): StabilityRow[] {
  const ofOneChoice = grouped(arms, ({ label, trials: [{ model, budget }] }) => [model, label, budget.spec]);
  return ofOneChoice
    .filter((onTasks) => onTasks.some(({ trials }) => trials.some(({ ranks }) => !isConstant(Object.values(ranks)))))
    .map(([first, ...others]) => {
      const { label, trials } = first;
      const [{ model, budget }] = trials;
      const all = [first, ...others].flatMap((arm) => arm.trials);
      const { requested, spec } = budget;
      return { model, label, budget: { requested, spec }, ...stabilityOfTrials(all) };
    })
    .sort(inReadingOrder);
}

/** The same for the trials of one arm at one budget, one for each task and seed, in any order. */
export function stabilityOfTrials(
  inAnyOrder: readonly Pick<DoneTrial, 'task' | 'seed' | 'ranks'>[],
): Omit<StabilityRow, 'model' | 'label' | 'budget'> {
  const trials = [...inAnyOrder].sort(
    by(
      ({ task }) => task,
      ({ seed }) => seed,
    ),
  );
  const seeds = [...new Set(trials.map(({ seed }) => seed))].sort((a, b) => a - b);
  const ofTasks = grouped(trials, ({ task }) => task).flatMap(pairsWithin);
  const ofSeeds = grouped(trials, ({ seed }) => seed).flatMap(pairsWithin);
  const difference = differenceOf(ofTasks, ofSeeds, seeds);
  const isSame = ofTasks.length > 0 && [...ofTasks, ...ofSeeds].every(({ jaccard }) => jaccard === 1);
  return {
    tasks: [...new Set(trials.map(({ task }) => task))],
    seeds,
    betweenSeeds: agreementOf(ofTasks),
    betweenTasks: agreementOf(ofSeeds),
    difference,
    verdict: isSame ? 'same' : verdictOn(difference?.interval ?? null),
  };
}

/** Pearson's correlation of two rank maps. A module missing in one has rank 0 there. Null if one is constant. */
export function rankCorrelation(a: Ranks, b: Ranks): number | null {
  const [as, bs] = aligned(a, b);
  return isConstant(as) || isConstant(bs) ? null : sampleCorrelation(as, bs);
}

/**
 * The weighted Jaccard index of two rank maps: 1 if they are equal, 0 if no module is in both; null if both are empty.
 */
export function rankJaccard(a: Ranks, b: Ranks): number | null {
  const [as, bs] = aligned(a, b);
  const sumOf = (pick: (x: number, y: number) => number): number =>
    as.reduce((sum, rank, index) => sum + pick(rank, bs[index] as number), 0);
  const union = sumOf(Math.max);
  return union === 0 ? null : sumOf(Math.min) / union;
}

/** The ranks of two maps by module, in the same order. */
function aligned(a: Ranks, b: Ranks): [number[], number[]] {
  const paths = [...new Set([...Object.keys(a), ...Object.keys(b)])];
  return [paths.map((path) => a[path] ?? 0), paths.map((path) => b[path] ?? 0)];
}

function isConstant(ranks: readonly number[]): boolean {
  return new Set(ranks).size < 2;
}

/** Two trials of a group. */
interface Pair {
  readonly group: number;
  readonly seeds: readonly number[];
  readonly correlation: number | null;
  readonly jaccard: number | null;
}

function pairsWithin(trials: readonly Pick<DoneTrial, 'seed' | 'ranks'>[], group: number): Pair[] {
  return pairsOf(trials).map(([a, b]) => ({
    group,
    seeds: [a.seed, b.seed],
    correlation: rankCorrelation(a.ranks, b.ranks),
    jaccard: rankJaccard(a.ranks, b.ranks),
  }));
}

function agreementOf(pairs: readonly Pair[]): Agreement {
  return {
    pairs: pairs.length,
    uncorrelated: pairs.filter(({ correlation }) => correlation === null).length,
    correlation: meanOf(pairs, 'correlation'),
    jaccard: meanOf(pairs, 'jaccard'),
  };
}

/** The mean of the groups' means. */
function meanOf(pairs: readonly Pair[], quantity: 'correlation' | 'jaccard'): number | null {
  const means = grouped(pairs, ({ group }) => group).flatMap((members) => {
    const values = members.flatMap((pair) => pair[quantity] ?? []);
    return values.length === 0 ? [] : [mean(values)];
  });
  return means.length === 0 ? null : mean(means);
}

/**
 * The difference of the correlations. Pairs that share a seed depend on each other, so the interval comes from leaving
 * out one seed at a time, not from the pairs.
 */
function differenceOf(
  ofTasks: readonly Pair[],
  ofSeeds: readonly Pair[],
  seeds: readonly number[],
): StabilityRow['difference'] {
  const gapWithout = (seed: number | null): number | null => {
    const [within, across] = [ofTasks, ofSeeds].map((pairs) =>
      meanOf(
        pairs.filter((pair) => seed === null || !pair.seeds.includes(seed)),
        'correlation',
      ),
    ) as [number | null, number | null];
    return within === null || across === null ? null : within - across;
  };
  const whole = gapWithout(null);
  if (whole === null) return null;
  const without = seeds.flatMap((seed) => gapWithout(seed) ?? []);
  const isComplete = without.length === seeds.length;
  return { mean: whole, interval: isComplete ? jackknifeInterval(whole, without) : null };
}

/** Rounding error: correlations of equal maps may differ from 1 by this much. */
const ROUNDING = 1e-9;

function verdictOn(interval: Interval | null): StabilityRow['verdict'] {
  if (interval === null) return 'open';
  if (interval.low > ROUNDING) return 'task';
  return interval.high < -ROUNDING ? 'draw' : 'open';
}

const inReadingOrder = by<StabilityRow>(
  ({ model }) => model,
  ({ label }) => label,
  ({ budget }) => budget.requested ?? -1,
  ({ budget }) => budget.spec,
);
