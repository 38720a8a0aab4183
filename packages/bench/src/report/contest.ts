import { grouped, type Comparison } from './statistics/comparisons.js';
import type { Interval } from './statistics/estimates.js';
import { meritOf, reversed, type OverallRow, type SummaryRow } from './statistics/rows.js';

/** What p must be below for a pair to be called different, equivalent or no worse. */
export const LEVEL = 0.05;
/** Sizes this close count as one, as they do for a budget. */
const SAME_SIZE = 1.02;

/** An arm that takes part in a contest. */
export interface Contender {
  readonly label: string;
  readonly method: string;
  readonly baseline: boolean;
  /** Null: an arm that has no budget, and takes part at each. */
  readonly requested: number | null;
  readonly stored: number;
  readonly score: SummaryRow['score'];
  /** More is better, whatever the metric. */
  readonly merit: number;
  /** Why it has no rank though it has a budget; null where it has one. */
  readonly unranked: string | null;
}

/** Who can be compared at one budget, on one task or over all of them. */
export interface Contest {
  readonly model: string;
  /** Null: over all tasks. */
  readonly task: string | null;
  readonly tasks: readonly string[];
  readonly metric: string;
  readonly lowerIsBetter: boolean;
  readonly budget: SummaryRow['budget'];
  /** Every arm of this budget, and those without one; best mean first. */
  readonly arms: readonly Contender[];
  readonly pairs: readonly Comparison[];
}

/** One arm against another, so that more is better whatever the metric. */
export interface Standing {
  readonly gain: number;
  /** 95 % interval of the gain; null of one seed. */
  readonly interval: Interval | null;
  readonly p: number;
  readonly pHolm: number;
  readonly isBetter: boolean;
  readonly isWorse: boolean;
  readonly isEquivalent: boolean;
  /** Shown not to be worse by the margin or more. */
  readonly isNoWorse: boolean;
}

/** What is in a summary of scores and pairs. */
export interface Compared {
  readonly rows: readonly SummaryRow[];
  readonly overall: readonly OverallRow[];
  readonly comparisons: readonly Comparison[];
}

/** A row of a task or over the tasks. */
interface Place extends Contender {
  readonly model: string;
  readonly task: string | null;
  readonly tasks: readonly string[];
  readonly metric: string;
  readonly lowerIsBetter: boolean;
  readonly budget: SummaryRow['budget'];
}

/** Every contest: over the tasks first, then task by task; by budget. Without any budget the arms meet in one contest. */
export function contestsOf({ rows, overall, comparisons }: Compared): Contest[] {
  const places = [...overall.map((row) => overallPlace(row, rows)), ...rows.map(taskPlace)];
  return grouped(places, ({ model, task }) => [model, task]).flatMap((ofScope) => {
    const free = ofScope.filter(({ requested }) => requested === null);
    const budgeted = grouped(
      ofScope.filter(({ requested }) => requested !== null),
      ({ budget }) => budget.spec,
    );
    const fields =
      budgeted.length === 0 ? [ofScope] : budgeted.map((ofBudget) => [...freeBeside(free, ofBudget), ...ofBudget]);
    return fields.map((field): Contest => {
      const { model, task, tasks, metric, lowerIsBetter, budget } = field.at(-1) as Place;
      const pairs = comparisons.filter(
        (pair) => pair.model === model && pair.task === task && (budgeted.length === 0 || pair.budget === budget.spec),
      );
      return {
        ...{ model, task, tasks, metric, lowerIsBetter, budget, pairs },
        arms: [...field].sort((a, b) => b.merit - a.merit),
      };
    });
  });
}

/** Arms without a budget; one of a name that has one, too, says so, as in the comparisons. */
function freeBeside(free: readonly Place[], budgeted: readonly Place[]): Place[] {
  const labels = new Set(budgeted.map(({ label }) => label));
  return free.map((arm) => (labels.has(arm.label) ? { ...arm, label: `${arm.label} (${arm.budget.spec})` } : arm));
}

function taskPlace(row: SummaryRow): Place {
  const { model, task, metric, lowerIsBetter, label, method, budget, baseline, score, parameters, unranked } = row;
  return {
    ...{ model, task, tasks: [task], metric, lowerIsBetter, label, method, budget, baseline, score },
    ...{ requested: budget.requested, stored: parameters.stored, merit: meritOf(row) },
    unranked: budget.requested === null ? null : unranked,
  };
}

function overallPlace(row: OverallRow, rows: readonly SummaryRow[]): Place {
  const { model, tasks, metrics, lowerIsBetter, label, budget, baseline, score, stored } = row;
  const own = rows.filter((each) => each.model === model && each.label === label && each.budget.spec === budget.spec);
  const reasons = own.flatMap(({ task, unranked }) => (unranked === null ? [] : [`${unranked} on ${task}`]));
  return {
    ...{ model, task: null, tasks, metric: metrics.join(', '), lowerIsBetter, label, budget, baseline, score, stored },
    ...{ method: own[0]?.method ?? label, requested: budget.requested, merit: meritOf(row) },
    unranked: budget.requested === null || row.rank !== null ? null : (reasons[0] ?? 'not ranked'),
  };
}

/** The arms that a budget leaves to choose from, best mean first: those trained at it, and those that store no more. */
export function candidatesOf({ arms, budget: { requested } }: Contest): Contender[] {
  return arms.filter(
    (arm) =>
      !arm.baseline &&
      arm.unranked === null &&
      (requested === null || arm.requested !== null || arm.stored <= requested * SAME_SIZE),
  );
}

/** Whether one arm stores less than another, by more than budgets differ. */
export function isSmaller(a: Contender, b: Contender): boolean {
  return a.stored * SAME_SIZE < b.stored;
}

/** How `a` stands to `b`; undefined where they were not trained on the same seeds under the same circumstances. */
export function standing({ pairs, lowerIsBetter }: Contest, a: Contender, b: Contender): Standing | undefined {
  const found = pairs.find(
    (pair) => (pair.a === a.label && pair.b === b.label) || (pair.a === b.label && pair.b === a.label),
  );
  if (!found) return undefined;
  const { mean, interval, p, pHolm, equivalence } = found.a === a.label ? found : reversed(found);
  const gain = lowerIsBetter ? 0 - mean : mean;
  const turned = interval && lowerIsBetter ? { low: 0 - interval.high, high: 0 - interval.low } : interval;
  return {
    ...{ gain, interval: turned, p, pHolm },
    isBetter: pHolm < LEVEL && gain > 0,
    isWorse: pHolm < LEVEL && gain < 0,
    isEquivalent: equivalence !== null && equivalence.pHolm <= LEVEL,
    isNoWorse: equivalence !== null && equivalence.aNoWorse.pHolm <= LEVEL,
  };
}

/** Groups of arms of which every pair is equivalent, at least two each and no arm in two: the best mean's group first. */
export function equivalentGroups(contest: Contest, arms: readonly Contender[]): [Contender, ...Contender[]][] {
  const groups: [Contender, ...Contender[]][] = [];
  for (const arm of arms) {
    const joined = groups.find((group) => group.every((other) => standing(contest, arm, other)?.isEquivalent));
    if (joined) joined.push(arm);
    else groups.push([arm]);
  }
  return groups.filter(({ length }) => length > 1);
}
