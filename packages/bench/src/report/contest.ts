import { atBudgets, grouped, withSpecs, type Comparison } from './statistics/comparisons.js';
import { LEVEL } from './statistics/equivalence.js';
import type { Interval } from './statistics/estimates.js';
import { comparisonOf, meanMetric, orientedScore, type OverallRow, type SummaryRow } from './statistics/rows.js';

/** Sizes within this factor count as equal, as for budgets. */
const SAME_SIZE = 1.02;

/** An arm in a contest. */
export interface Contender extends Pick<SummaryRow, 'method' | 'baseline' | 'score'> {
  /** The arm's label, unique in the contest. */
  readonly label: string;
  /** The requested number of parameters; null for an arm without a budget, which takes part at every budget. */
  readonly requested: number | null;
  /** The stored parameters. */
  readonly stored: number;
  /** The mean score, negated if lower is better. */
  readonly orientedScore: number;
  /** Why it is not ranked: it missed its budget, or lacks seeds of its rivals. Null if it is, and for the baseline. */
  readonly unranked: string | null;
}

/** An arm that lacks a result on some task, and so has no mean over the tasks. */
interface Absent {
  /** The arm's label. */
  readonly label: string;
  /** What it lacks. */
  readonly reason: string;
}

/** All arms that can be compared at one budget, on one task or over all tasks. */
export interface Contest extends Pick<SummaryRow, 'model' | 'lowerIsBetter' | 'budget'> {
  /** The task; null for the mean over all tasks. */
  readonly task: string | null;
  /** The names of the tasks. */
  readonly tasks: readonly string[];
  /** The primary metric; `score` for a mean over tasks with different ones. */
  readonly metric: string;
  /** Every arm of this budget, and those without one; best mean first. */
  readonly arms: readonly Contender[];
  /** The arms that have results on some of its tasks only. */
  readonly absent: readonly Absent[];
  /** The paired comparisons of these arms. */
  readonly pairs: readonly Comparison[];
}

/** The comparison of one arm with another, oriented so that higher is better. */
export interface Advantage {
  /** The mean gain over the other arm. */
  readonly gain: number;
  /** The 95 % interval of the gain; null for one seed. */
  readonly interval: Interval | null;
  /** The p-value of the difference, Holm-adjusted. */
  readonly pHolm: number;
  /** Whether the arm is reliably better. */
  readonly isBetter: boolean;
  /** Whether the arm is reliably worse. */
  readonly isWorse: boolean;
  /** Whether the two are equivalent within the margin. */
  readonly isEquivalent: boolean;
  /** Whether the arm is shown not to be worse by the margin or more. */
  readonly isNoWorse: boolean;
}

/** The scores and comparisons of a summary. */
export interface Compared {
  /** Rows by task. */
  readonly rows: readonly SummaryRow[];
  /** Rows over all tasks. */
  readonly overall: readonly OverallRow[];
  /** Paired comparisons. */
  readonly comparisons: readonly Comparison[];
}

/** The scope of a contest: a task or all tasks of a model, at a budget. */
type Scope = Pick<Contest, 'model' | 'task' | 'tasks' | 'metric' | 'lowerIsBetter' | 'budget'>;

/** An arm with its contest: a row of a task or over all tasks. */
interface ContestEntry extends Contender, Scope {
  /** The number of its seeds on each task, in the order of `tasks`. */
  readonly seeds: readonly number[];
}

/** An arm without a mean over the tasks, with the contest that it is absent from. */
interface AbsentEntry extends Absent {
  readonly budget: SummaryRow['budget'];
}

/**
 * Returns every contest: first over the tasks, then by task; each by budget. If no arm has a budget, all meet in one
 * contest.
 */
export function contestsOf({ rows, overall, comparisons }: Compared): Contest[] {
  const entries = [...overall.map((row) => overallEntry(row, rows)), ...rows.map(taskEntry)];
  return grouped(entries, ({ model, task }) => [model, task]).flatMap((ofScope) => {
    const absent = absentFrom(ofScope, rows);
    return atBudgets([...ofScope, ...absent], ({ budget }) => budget).map(({ budget, items }): Contest => {
      const { model, task, tasks, metric, lowerIsBetter } = ofScope[0];
      const open = budget.requested === null;
      const field = withSpecs(
        ofScope.filter((arm) => items.includes(arm)),
        (arm) => arm.budget,
      );
      return {
        ...{ model, task, tasks, metric, lowerIsBetter, budget },
        arms: withSeedReasons(field).sort((a, b) => b.orientedScore - a.orientedScore),
        absent: absent.filter((arm) => items.includes(arm)),
        pairs: comparisons.filter(
          (pair) => pair.model === model && pair.task === task && (open || pair.budget === budget.spec),
        ),
      };
    });
  });
}

/** The arms that have rows on some tasks of a contest over all tasks, but not on all; empty for a single task. */
function absentFrom(
  [{ model, task, tasks }]: readonly [ContestEntry, ...ContestEntry[]],
  rows: readonly SummaryRow[],
): AbsentEntry[] {
  if (task !== null) return [];
  const own = rows.filter((row) => row.model === model && !row.baseline);
  return grouped(own, ({ label, budget }) => [label, budget.spec]).flatMap((byTask) => {
    const missing = tasks.filter((each) => byTask.every((row) => row.task !== each));
    const [{ label, budget }] = byTask;
    return missing.length === 0 ? [] : [{ label, budget, reason: `no result on ${missing.join(', ')}` }];
  });
}

/** Says of arms that lack seeds of their rivals, those with a budget or, if there are none, all but the baseline. */
function withSeedReasons(field: readonly ContestEntry[]): ContestEntry[] {
  const budgeted = field.filter(({ requested }) => requested !== null);
  const rivals = budgeted.length > 0 ? budgeted : field.filter(({ baseline }) => !baseline);
  return field.map((arm) => {
    if (arm.baseline || arm.unranked !== null) return arm;
    const lacks = arm.seeds.flatMap((count, index) => {
      const most = Math.max(...rivals.map(({ seeds }) => seeds[index] ?? 0));
      return count < most
        ? [`${count} of ${most} seeds${arm.task === null ? ` on ${arm.tasks[index] ?? ''}` : ''}`]
        : [];
    });
    return { ...arm, unranked: lacks[0] ?? null };
  });
}

function taskEntry(row: SummaryRow): ContestEntry {
  const { model, task, metric, lowerIsBetter, label, method, budget, baseline, score, parameters, unranked } = row;
  return {
    ...{ model, task, tasks: [task], metric, lowerIsBetter, label, method, budget, baseline, score },
    ...{ requested: budget.requested, stored: parameters.stored, orientedScore: orientedScore(row) },
    unranked: budget.requested === null ? null : unranked,
    seeds: [row.seeds.length],
  };
}

function overallEntry(row: OverallRow, rows: readonly SummaryRow[]): ContestEntry {
  const { model, tasks, lowerIsBetter, label, budget, baseline, score, stored } = row;
  const own = rows.filter((each) => each.model === model && each.label === label && each.budget.spec === budget.spec);
  const reasons = own.flatMap(({ task, unranked }) => (unranked === null ? [] : [`${unranked} on ${task}`]));
  return {
    ...{ model, task: null, tasks, metric: meanMetric(row), lowerIsBetter, label, budget, baseline, score, stored },
    ...{ method: own[0]?.method ?? label, requested: budget.requested, orientedScore: orientedScore(row) },
    unranked: budget.requested === null || row.rank !== null ? null : (reasons[0] ?? 'not ranked'),
    seeds: tasks.map((task) => own.find((each) => each.task === task)?.seeds.length ?? 0),
  };
}

/** The arms to choose from at a budget, best mean first: those trained at it, and those that store no more. */
export function candidatesOf({ arms, budget: { requested } }: Contest): Contender[] {
  return arms.filter(
    (arm) =>
      !arm.baseline &&
      arm.unranked === null &&
      (requested === null || arm.requested !== null || arm.stored <= requested * SAME_SIZE),
  );
}

/** Whether one arm stores less than another, by more than the tolerance of budgets. */
export function isSmaller(a: Contender, b: Contender): boolean {
  return a.stored * SAME_SIZE < b.stored;
}

/** Compares `a` with `b`; undefined if they were not trained with the same seeds under the same conditions. */
export function advantage({ pairs, lowerIsBetter }: Contest, a: Contender, b: Contender): Advantage | undefined {
  const found = comparisonOf(pairs, a.label, b.label);
  if (!found) return undefined;
  const { mean, interval, pHolm, equivalence } = found;
  const gain = lowerIsBetter ? 0 - mean : mean;
  const oriented = interval && lowerIsBetter ? { low: 0 - interval.high, high: 0 - interval.low } : interval;
  return {
    ...{ gain, interval: oriented, pHolm },
    isBetter: pHolm < LEVEL && gain > 0,
    isWorse: pHolm < LEVEL && gain < 0,
    isEquivalent: equivalence !== null && equivalence.pHolm <= LEVEL,
    isNoWorse: equivalence !== null && equivalence.aNoWorse.pHolm <= LEVEL,
  };
}

/**
 * Groups arms such that every pair within a group is equivalent. Each group has at least two arms, no arm is in two
 * groups, and the group of the best mean comes first.
 */
export function equivalentGroups(contest: Contest, arms: readonly Contender[]): [Contender, ...Contender[]][] {
  const groups: [Contender, ...Contender[]][] = [];
  for (const arm of arms) {
    const joined = groups.find((group) => group.every((other) => advantage(contest, arm, other)?.isEquivalent));
    if (joined) joined.push(arm);
    else groups.push([arm]);
  }
  return groups.filter(({ length }) => length > 1);
}
