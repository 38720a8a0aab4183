import { mean } from 'simple-statistics';
import type { DoneTrial } from '../../results/schema.js';
import { grouped, type Comparison, type PairedDifference } from './comparisons.js';
import type { Estimate } from './estimates.js';
import { estimateOf, type Sample } from './resampling.js';

/**
 * The paired difference of the primary metric to the reference: this arm minus the reference, seed by seed. Where less of
 * the metric is better, so is a negative difference.
 */
export interface Difference extends PairedDifference {
  /** Label of the reference. */
  readonly to: string;
  /** `p` by Holm's method over the pairs of this task and budget. */
  readonly pHolm: number;
}

/** One arm at one budget on one task, over its seeds. */
export interface SummaryRow {
  readonly model: string;
  readonly task: string;
  /** The primary metric. */
  readonly metric: string;
  /** Whether less of it is better. */
  readonly lowerIsBetter: boolean;
  readonly arm: string;
  readonly method: string;
  readonly variant: number;
  /** The arm's name, with a number where a folder holds several configurations of it. */
  readonly label: string;
  readonly budget: Pick<DoneTrial['budget'], 'requested' | 'spec' | 'matchedOn' | 'met'>;
  /** Trains nothing but the head. */
  readonly baseline: boolean;
  /** Result files behind the row, by seed; `values` holds their primary metric. */
  readonly trials: readonly string[];
  readonly seeds: readonly number[];
  readonly values: readonly number[];
  readonly score: Estimate;
  readonly difference: Difference | null;
  /** Rows of the task that the intervals are resampled from beside the seeds; 0 where the result files do not hold them. */
  readonly resampledRows: number;
  /** Place among the rows of the same task and budget; null where `unranked` says why. */
  readonly rank: number | null;
  readonly unranked: string | null;
  /** Means over the seeds. */
  readonly parameters: DoneTrial['parameters'];
  readonly learningRate: number;
  /** Means over the seeds. */
  readonly time: DoneTrial['time'];
  readonly peakRssBytes: number;
}

/** A trial without a number. */
export interface Failure {
  readonly id: string;
  readonly arm: string;
  readonly method: string;
  readonly task: string;
  readonly budget: string;
  readonly seed: number;
  readonly message: string;
}

/** How good a row's mean is: more is better, whatever the metric. */
export function meritOf({ lowerIsBetter, score }: Pick<SummaryRow, 'lowerIsBetter' | 'score'>): number {
  return lowerIsBetter ? -score.mean : score.mean;
}

/** One arm at one budget over all tasks of a model, each counting alike. */
export interface OverallRow {
  readonly model: string;
  readonly tasks: readonly string[];
  /** The tasks' primary metrics, each once. */
  readonly metrics: readonly string[];
  readonly lowerIsBetter: boolean;
  readonly label: string;
  readonly budget: SummaryRow['budget'];
  readonly baseline: boolean;
  /** Mean of the tasks' means; the interval is of other seeds on these tasks. */
  readonly score: Estimate;
  /** To the reference at the same budget; its Holm family are all pairs of this budget. */
  readonly difference: Difference | null;
  /** Place among the rows of the same budget; null where the arm is not ranked on some task. */
  readonly rank: number | null;
  /** Mean over the tasks. */
  readonly stored: number;
}

interface OverTasksOptions {
  readonly comparisons: readonly Comparison[];
  readonly reference: string;
  /** What a row's estimate is made of. */
  readonly scores: (row: SummaryRow) => Sample;
}

type Unplaced = OverallRow & { readonly isRanked: boolean };

/** Means over tasks of the arms that were trained on all of them, in the rows' order of budgets, best first. */
export function overTasks(
  rows: readonly SummaryRow[],
  { comparisons, reference, scores }: OverTasksOptions,
): OverallRow[] {
  return grouped(rows, ({ model }) => model).flatMap((ofModel) => {
    const tasks = new Set(ofModel.map(({ task }) => task)).size;
    const directions = new Set(ofModel.map(({ lowerIsBetter }) => lowerIsBetter)).size;
    if (tasks < 2 || directions > 1) return [];
    // A row without a budget has a difference for each budget of a reference that has some.
    const isOpen = ofModel.some((row) => row.label === reference && row.budget.requested === null);
    const unplaced = grouped(ofModel, ({ label, budget }) => [label, budget.spec])
      .filter((byTask) => byTask.length === tasks)
      .map((byTask) => overallRow(byTask, { comparisons, reference, scores, isOpen }));
    return unplaced.map((row) => placed(row, unplaced)).sort(inReadingOrder);
  });
}

function overallRow(
  byTask: readonly [SummaryRow, ...SummaryRow[]],
  { comparisons, reference, scores, isOpen }: OverTasksOptions & { readonly isOpen: boolean },
): Unplaced {
  const [{ model, lowerIsBetter, label, budget }] = byTask;
  const isComparable = isOpen || budget.requested !== null;
  return {
    ...{ model, lowerIsBetter, label },
    tasks: byTask.map(({ task }) => task),
    metrics: [...new Set(byTask.map(({ metric }) => metric))],
    budget: { ...budget, met: byTask.every((row) => row.budget.met) },
    baseline: byTask.every(({ baseline }) => baseline),
    score: estimateOf(byTask.map(scores)),
    difference: isComparable ? differenceTo(reference, byTask[0], null, comparisons) : null,
    rank: null,
    isRanked: byTask.every(({ rank }) => rank !== null),
    stored: mean(byTask.map(({ parameters }) => parameters.stored)),
  };
}

/**
 * A row's difference to the reference, on its task or (null) over the tasks. One between two arms without a budget is compared at every
 * budget, and has the largest adjusted p of those.
 */
export function differenceTo(
  reference: string,
  { model, budget, label }: Pick<SummaryRow, 'model' | 'budget' | 'label'>,
  task: string | null,
  comparisons: readonly Comparison[],
): Difference | null {
  const [found] = comparisons
    .filter((each) => each.task === task && each.model === model)
    .filter((each) => budget.requested === null || each.budget === budget.spec)
    .filter(({ a, b }) => (a === label && b === reference) || (a === reference && b === label))
    .sort((a, b) => b.pHolm - a.pHolm);
  if (!found) return null;
  const { mean: difference, sd, interval, pairs, p, pHolm } = found.a === label ? found : reversed(found);
  return { to: reference, pairs, mean: difference, sd, interval, p, pHolm };
}

/** The same comparison seen from the other side. */
export function reversed(comparison: Comparison): Comparison {
  const { a, b, mean: difference, interval, equivalence } = comparison;
  return {
    ...comparison,
    a: b,
    b: a,
    mean: 0 - difference,
    equivalence: equivalence && { ...equivalence, aNoWorse: equivalence.bNoWorse, bNoWorse: equivalence.aNoWorse },
    interval: interval && { low: 0 - interval.high, high: 0 - interval.low },
  };
}

function placed({ isRanked, ...row }: Unplaced, all: readonly Unplaced[]): OverallRow {
  if (!isRanked) return row;
  const better = all.filter(
    (other) => other.isRanked && other.budget.spec === row.budget.spec && meritOf(other) > meritOf(row),
  );
  return { ...row, rank: better.length + 1 };
}

function inReadingOrder(a: OverallRow, b: OverallRow): number {
  return (
    (a.budget.requested ?? -1) - (b.budget.requested ?? -1) ||
    (a.rank ?? Infinity) - (b.rank ?? Infinity) ||
    meritOf(b) - meritOf(a) ||
    a.label.localeCompare(b.label, 'en')
  );
}
