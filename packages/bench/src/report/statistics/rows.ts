import { mean } from 'simple-statistics';
import type { DoneTrial, TrialResult } from '@peftjs/cli/results';
import { by, grouped, nameAt, type Comparison, type Named, type PairedDifference } from './comparisons.js';
import type { Estimate } from './estimates.js';
import { estimateOf, type Sample } from './resampling.js';

/**
 * The paired difference of the primary metric to the reference, seed by seed: this arm minus the reference. If lower is
 * better, negative differences are good.
 */
export interface Difference extends PairedDifference {
  /** The name of the reference. */
  readonly to: string;
  /** `p`, Holm-adjusted over the pairs of this task and budget. */
  readonly pHolm: number;
}

/** One arm at one budget on one task, over its seeds. */
export interface SummaryRow {
  /** The model. */
  readonly model: string;
  /** The task. */
  readonly task: string;
  /** The primary metric. */
  readonly metric: string;
  /** Whether lower values of the metric are better. */
  readonly lowerIsBetter: boolean;
  /** The name of the arm. */
  readonly arm: string;
  /** The method of the arm. */
  readonly method: string;
  /** The number of the configuration, from 1, if a folder holds several of the arm. */
  readonly variant: number;
  /** The arm's name, with the variant if there are several. */
  readonly label: string;
  /** The budget; `met` if every seed met it. */
  readonly budget: Pick<DoneTrial['budget'], 'requested' | 'spec' | 'matchedOn' | 'met'>;
  /** Whether it never stores anything but the head: an adapter that has lost all its ranks did before. */
  readonly baseline: boolean;
  /** The ids of the trials behind the row, sorted by seed. */
  readonly trials: readonly string[];
  /** The seeds. */
  readonly seeds: readonly number[];
  /** The primary metric of each trial. */
  readonly values: readonly number[];
  /** The mean of the primary metric, with its spread. */
  readonly score: Estimate;
  /** The difference to the reference; null if there is none. */
  readonly difference: Difference | null;
  /** The number of rows that the intervals resample, besides the seeds; 0 if the result files lack them. */
  readonly resampledRows: number;
  /** The rank among the rows of the same task and budget under the same conditions; null if unranked. */
  readonly rank: number | null;
  /** Why the row is unranked; null if it is ranked. */
  readonly unranked: string | null;
  /** Parameter counts, averaged over seeds. */
  readonly parameters: DoneTrial['parameters'];
  /** The peak learning rate. */
  readonly learningRate: number;
  /** The factor of the change at the start, averaged over modules; absent if the method or its files have none. */
  readonly scale?: number;
  /** Durations, averaged over seeds. */
  readonly time: DoneTrial['time'];
  /** The largest peak memory of the seeds, in bytes. */
  readonly peakRssBytes: number;
}

/** A failed trial. */
export interface Failure extends Pick<TrialResult, 'id' | 'arm' | 'method' | 'task' | 'seed'> {
  /** The budget as typed. */
  readonly budget: string;
  /** The error message. */
  readonly message: string;
}

/** A row of one task, or over the tasks. */
export type ScoredRow = SummaryRow | OverallRow;

/** The stored parameters of a row. */
export function storedOf(row: ScoredRow): number {
  return 'parameters' in row ? row.parameters.stored : row.stored;
}

/** The mean score of a row, negated if lower is better. */
export function orientedScore({ lowerIsBetter, score }: Pick<SummaryRow, 'lowerIsBetter' | 'score'>): number {
  return lowerIsBetter ? -score.mean : score.mean;
}

/** One arm at one budget over all tasks of a model, with equal weight for each. */
export interface OverallRow extends Pick<SummaryRow, 'model' | 'lowerIsBetter' | 'label'> {
  /** The tasks. */
  readonly tasks: readonly string[];
  /** The primary metrics of the tasks, each once. */
  readonly metrics: readonly string[];
  /** The budget; `met` if it was met on every task. */
  readonly budget: SummaryRow['budget'];
  /** Whether it is the frozen baseline on every task. */
  readonly baseline: boolean;
  /** The mean of the tasks' means; its interval covers other seeds and, where known, other rows of these tasks. */
  readonly score: Estimate;
  /**
   * The difference to the reference at the same budget, Holm-adjusted over all pairs of this budget; null if there is
   * none.
   */
  readonly difference: Difference | null;
  /** The rank among the rows of the same budget that it is paired with; null if the arm is unranked on some task. */
  readonly rank: number | null;
  /** Stored parameters, averaged over tasks. */
  readonly stored: number;
}

/** The settings of `averageOverTasks`. */
interface AverageOverTasksOptions {
  /** All comparisons. */
  readonly comparisons: readonly Comparison[];
  /** Returns the reference of a row; undefined if there is none. */
  readonly reference: (row: SummaryRow) => Named | undefined;
  /** Returns the scores behind a row. */
  readonly scores: (row: SummaryRow) => Sample;
}

/** A row before ranking. */
type UnrankedRow = OverallRow & { readonly isRanked: boolean };

/** Averages over tasks the arms that were trained on all of them, in the order of budgets, best first. */
export function averageOverTasks(rows: readonly SummaryRow[], options: AverageOverTasksOptions): OverallRow[] {
  return grouped(rows, ({ model }) => model).flatMap((ofModel) => {
    const tasks = new Set(ofModel.map(({ task }) => task)).size;
    const directions = new Set(ofModel.map(({ lowerIsBetter }) => lowerIsBetter)).size;
    if (tasks < 2 || directions > 1) return [];
    const unrankedRows = grouped(ofModel, ({ label, budget }) => [label, budget.spec])
      .filter((byTask) => byTask.length === tasks)
      .map((byTask) => overallRow(byTask, ofModel, options));
    return unrankedRows.map((row) => withRank(row, unrankedRows, options.comparisons)).sort(inReadingOrder);
  });
}

function overallRow(
  byTask: readonly [SummaryRow, ...SummaryRow[]],
  rows: readonly SummaryRow[],
  { comparisons, reference, scores }: AverageOverTasksOptions,
): UnrankedRow {
  const [{ model, lowerIsBetter, label, budget }] = byTask;
  const to = reference(byTask[0]);
  return {
    ...{ model, lowerIsBetter, label },
    tasks: byTask.map(({ task }) => task),
    metrics: [...new Set(byTask.map(({ metric }) => metric))],
    budget: { ...budget, met: byTask.every((row) => row.budget.met) },
    baseline: byTask.every(({ baseline }) => baseline),
    score: estimateOf(byTask.map(scores)),
    difference: to ? differenceTo(to, byTask[0], null, { arms: rows, comparisons }) : null,
    rank: null,
    isRanked: byTask.every(({ rank }) => rank !== null),
    stored: mean(byTask.map(({ parameters }) => parameters.stored)),
  };
}

/**
 * A row's difference to a reference, on its task or over the tasks (null). Two arms without a budget are compared at
 * every budget; the largest adjusted p counts.
 * @param reference an arm at the row's budget, or without one
 * @param compared all comparisons, and all arms, which decide how these name the two
 */
export function differenceTo(
  reference: Named,
  row: Named,
  task: string | null,
  { arms, comparisons }: { readonly arms: readonly Named[]; readonly comparisons: readonly Comparison[] },
): Difference | null {
  const [found] = comparisons
    .filter((each) => each.task === task && each.model === row.model)
    .filter((each) => row.budget.requested === null || each.budget === row.budget.spec)
    .sort((a, b) => b.pHolm - a.pHolm)
    .flatMap(
      (each) => comparisonOf([each], nameAt(each.budget, row, arms), nameAt(each.budget, reference, arms)) ?? [],
    );
  if (!found) return null;
  const { b: to, mean: difference, sd, interval, pairs, p, pHolm } = found;
  return { to, pairs, mean: difference, sd, interval, p, pHolm };
}

/** The first comparison of two arms, as `a` minus `b`; undefined if there is none. */
export function comparisonOf(pairs: readonly Comparison[], a: string, b: string): Comparison | undefined {
  const found = pairs.find((pair) => (pair.a === a && pair.b === b) || (pair.a === b && pair.b === a));
  return found && found.a !== a ? reversed(found) : found;
}

/** The same comparison with its sides swapped. */
function reversed(comparison: Comparison): Comparison {
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

function withRank(
  { isRanked, ...row }: UnrankedRow,
  all: readonly UnrankedRow[],
  comparisons: readonly Comparison[],
): OverallRow {
  const pairs = comparisons.filter(
    ({ model, task, budget }) => model === row.model && task === null && budget === row.budget.spec,
  );
  const rivals = all
    .filter((other) => other.isRanked && other.budget.spec === row.budget.spec)
    .filter(({ label }) => comparisonOf(pairs, row.label, label));
  return isRanked ? { ...row, rank: rankAmong(row, rivals) } : row;
}

/** The rank of a row among rivals: 1 for the best mean. */
export function rankAmong<Row extends Parameters<typeof orientedScore>[0]>(row: Row, rivals: readonly Row[]): number {
  return 1 + rivals.filter((other) => orientedScore(other) > orientedScore(row)).length;
}

const inReadingOrder = by<OverallRow>(
  ({ budget }) => budget.requested ?? -1,
  ({ rank }) => Number(rank === null),
  (row) => -orientedScore(row),
  ({ label }) => label,
);

/** The metric of a mean over tasks; `score` if the tasks have different ones. */
export function meanMetric({ metrics }: Pick<OverallRow, 'metrics'>): string {
  const [metric, ...others] = metrics;
  return metric === undefined || others.length > 0 ? 'score' : metric;
}
