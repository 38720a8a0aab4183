import { SAME_SIZE } from '@peftjs/cli/results';
import { atBudgets, grouped, missingSeeds, nameAt, type Comparison } from './statistics/comparisons.js';
import { LEVEL } from './statistics/equivalence.js';
import type { Interval } from './statistics/estimates.js';
import {
  comparisonOf,
  meanMetric,
  orientedScore,
  storedOf,
  type OverallRow,
  type ScoredRow,
  type SummaryRow,
} from './statistics/rows.js';

/** An arm in a contest; one without a budget takes part at every budget. */
export interface Contender extends Pick<SummaryRow, 'arm' | 'label' | 'baseline' | 'score' | 'budget'> {
  /** The stored parameters. */
  readonly stored: number;
  /** The fewest evaluated rows of a task; null if the result files lack them. */
  readonly judgedOn: number | null;
  /** Why it is not ranked: it missed its budget, or lacks seeds of its rivals. Null if it is. */
  readonly unranked: string | null;
}

/** An arm that lacks a result on some task, and so has no mean over the tasks. */
interface Absent extends Pick<Contender, 'label' | 'budget'> {
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
  /** Rows by model, task and budget; best first. */
  readonly rows: readonly SummaryRow[];
  /** Rows over all tasks with equal weight; empty for a single task. */
  readonly overall: readonly OverallRow[];
  /** Every pair of arms at each budget, on each task and over the tasks. */
  readonly comparisons: readonly Comparison[];
}

/** An arm with what ranks it. */
interface Entry extends Contender {
  /** The row that it stands for. */
  readonly row: ScoredRow;
  /** Its seeds on each task of the contest. */
  readonly seeds: readonly (readonly number[])[];
}

/**
 * Returns every contest: first over the tasks, then by task; each by budget. If no arm has a budget, all meet in one
 * contest.
 */
export function contestsOf({ rows, overall, comparisons }: Compared): Contest[] {
  return grouped<ScoredRow>([...overall, ...rows], (row) => [row.model, taskOf(row)]).flatMap((field) => {
    const [first] = field;
    const { model, lowerIsBetter } = first;
    const [task, tasks] = [taskOf(first), 'tasks' in first ? first.tasks : [first.task]];
    const metric = 'metrics' in first ? meanMetric(first) : first.metric;
    const all = [...field.map((row) => entryOf(row, rows)), ...(task === null ? absentFrom(model, tasks, rows) : [])];
    return atBudgets(all, ({ budget }) => budget).map(({ budget, items }): Contest => {
      const entries = items.filter((item) => 'row' in item);
      const arms = entries.map((entry) => ({ ...entry, label: nameAt(budget.spec, entry.row, rows) }));
      const pairs = comparisons.filter(
        (pair) =>
          pair.model === model && pair.task === task && (budget.requested === null || pair.budget === budget.spec),
      );
      return {
        ...{ model, task, tasks, metric, lowerIsBetter, budget, pairs },
        arms: withSeedReasons(arms, pairs, task === null ? tasks : []).sort(bestFirst),
        absent: items.filter((item) => 'reason' in item),
      };
    });
  });
}

/** The task of a row; null for one over all tasks. */
function taskOf(row: ScoredRow): string | null {
  return 'task' in row ? row.task : null;
}

function bestFirst(a: Entry, b: Entry): number {
  return orientedScore(b.row) - orientedScore(a.row);
}

/** A row as an arm of its contest; `rows` are those of single tasks. */
function entryOf(row: ScoredRow, rows: readonly SummaryRow[]): Entry {
  const { model, label, budget, baseline, score } = row;
  const isOwn = (each: SummaryRow): boolean =>
    each.model === model && each.label === label && each.budget.spec === budget.spec;
  const onTasks = 'task' in row ? [row] : rows.filter(isOwn);
  const reasons = onTasks.flatMap(({ task, unranked }) =>
    unranked === null ? [] : ['task' in row ? unranked : `${unranked} on ${task}`],
  );
  const unranked = budget.requested === null ? null : (reasons[0] ?? null);
  const known = onTasks.map(({ resampledRows }) => resampledRows).filter((count) => count > 0);
  return {
    ...{ row, label, budget, baseline, score },
    arm: onTasks[0]?.arm ?? label,
    stored: storedOf(row),
    judgedOn: known.length > 0 ? Math.min(...known) : null,
    unranked,
    seeds: onTasks.map((each) => each.seeds),
  };
}

/** The arms of a model that have rows on some of its tasks, but not on all. */
function absentFrom(model: string, tasks: readonly string[], rows: readonly SummaryRow[]): Absent[] {
  const own = rows.filter((row) => row.model === model && !row.baseline);
  return grouped(own, ({ label, budget }) => [label, budget.spec]).flatMap((byTask) => {
    const missing = tasks.filter((each) => byTask.every((row) => row.task !== each));
    const [{ label, budget }] = byTask;
    return missing.length === 0 ? [] : [{ label, budget, reason: `no result on ${missing.join(', ')}` }];
  });
}

/**
 * Marks arms as unranked that lack seeds of their rivals: of the arms with a budget or, if there are none, of all but
 * the baseline. Only arms that it is paired with are rivals of an arm: those trained under other conditions say nothing
 * about its seeds. `tasks` names the tasks, if there are several.
 */
function withSeedReasons(field: readonly Entry[], pairs: Contest['pairs'], tasks: readonly string[]): Entry[] {
  const budgeted = field.filter(({ budget }) => budget.requested !== null);
  const rivals = budgeted.length > 0 ? budgeted : field.filter(({ baseline }) => !baseline);
  return field.map((arm) => {
    if (arm.unranked !== null) return arm;
    const paired = rivals.filter(({ label }) => comparisonOf(pairs, arm.label, label));
    const lacks = arm.seeds.flatMap((own, index) => {
      const on = tasks[index] === undefined ? '' : ` on ${tasks[index]}`;
      const missing = missingSeeds(own, ...paired.map(({ seeds }) => seeds[index] ?? []));
      return missing === null ? [] : [missing + on];
    });
    return { ...arm, unranked: lacks[0] ?? null };
  });
}

/** The arms to choose from at a budget, best mean first: those trained at it, and those that store no more. */
export function candidatesOf({ arms, budget: { requested } }: Contest): Contender[] {
  return arms.filter(
    (arm) =>
      !arm.baseline &&
      arm.unranked === null &&
      (requested === null || arm.budget.requested !== null || arm.stored <= requested * SAME_SIZE),
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
