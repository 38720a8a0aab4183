import { mean } from 'simple-statistics';
import { canonical } from '../canonical.js';
import { primaryMetric, type TrialResult } from '../results/schema.js';
import { armsOf, comparable, grouped, type Arm } from './arms.js';
import { compareArms, differencesBySeed, pairedDifference, type Comparison } from './comparisons.js';
import { holm } from './holm.js';
import { notesOn } from './notes.js';
import { overTasks, type OverallRow } from './over-tasks.js';
import { estimate } from './samples.js';
import type { RunComparison } from './two-runs.js';
import { meritOf, type Difference, type Failure, type SummaryRow } from './summary-row.js';

/** What DIR/summary.json holds. */
export interface Summary {
  readonly reference: string;
  /** By model, task and budget; best first. */
  readonly rows: readonly SummaryRow[];
  /** The same over all tasks, each counting alike; none of a single task. */
  readonly overall: readonly OverallRow[];
  /** Every pair of arms at each budget, on each task and over them. */
  readonly comparisons: readonly Comparison[];
  readonly failed: readonly Failure[];
  /** What a reader must bear in mind. */
  readonly notes: readonly string[];
  /** Another run beside this one, where one is asked for. */
  readonly against?: RunComparison;
}

type Unplaced = Omit<SummaryRow, 'rank' | 'unranked'>;

/** Statistics per arm, budget and task; `reference` is the arm that the others are compared with. */
export function summarise(results: readonly TrialResult[], { reference }: { reference: string }): Summary {
  const arms = armsOf(results);
  const unplaced = withHolm(arms.map((arm) => rowOf(arm, referenceOf(arm, arms, reference))));
  const rows = unplaced.map((row) => placed(row, unplaced)).sort(inReadingOrder);
  const comparisons = compareArms(arms);
  const overall = overTasks(rows, comparisons, reference);
  const failed = results.flatMap((result): Failure[] =>
    result.status === 'done' ? [] : [{ ...pick(result), budget: result.budget.spec, message: result.error.message }],
  );
  return {
    reference,
    rows,
    overall,
    comparisons,
    failed,
    notes: notesOn({ reference, rows, overall, comparisons, failed }),
  };
}

function rowOf(arm: Arm, reference: Arm | undefined): Unplaced {
  const [first] = arm.trials;
  const values = arm.trials.map(primaryMetric);
  return {
    model: first.model,
    task: first.task,
    metric: first.selection.metric,
    lowerIsBetter: first.selection.lowerIsBetter ?? false,
    arm: first.arm,
    method: first.method,
    variant: arm.variant,
    label: arm.label,
    budget: {
      requested: first.budget.requested,
      spec: first.budget.spec,
      matchedOn: first.budget.matchedOn,
      met: arm.trials.every(({ budget }) => budget.met),
    },
    baseline: arm.trials.every(({ parameters, stages }) => parameters.stored === 0 && !stages),
    trials: arm.trials.map(({ id }) => id),
    seeds: arm.trials.map(({ seed }) => seed),
    values,
    score: estimate(values),
    difference: reference ? differenceOf(arm, reference) : null,
    parameters: meansOf(arm.trials.map(({ parameters }) => parameters)),
    learningRate: first.learningRate,
    time: meansOf(arm.trials.map(({ time }) => time)),
    peakRssBytes: Math.max(...arm.trials.map(({ memory }) => memory.peakRssBytes)),
  };
}

/** The reference arm at the same budget, or without one; of several the one trained under the same protocol. */
function referenceOf(arm: Arm, arms: readonly Arm[], reference: string): Arm | undefined {
  const [trial] = arm.trials;
  if (trial.arm === reference) return undefined;
  const candidates = arms.filter(
    ({ trials: [other] }) =>
      other.arm === reference &&
      (other.budget.spec === trial.budget.spec || other.budget.requested === null) &&
      comparable(other, trial),
  );
  const protocol = canonical(trial.protocol);
  return candidates.find(({ trials }) => canonical(trials[0].protocol) === protocol) ?? candidates[0];
}

function differenceOf(arm: Arm, reference: Arm): Difference | null {
  const differences = differencesBySeed(arm, reference);
  if (differences.length === 0) return null;
  const paired = pairedDifference(differences);
  return { to: reference.label, ...paired, pHolm: paired.p };
}

/** Holm over the tasks, for each arm, budget and reference. */
function withHolm(rows: readonly Unplaced[]): Unplaced[] {
  const families = grouped(rows, ({ model, label, budget, difference }) => [
    model,
    label,
    budget.spec,
    difference?.to ?? null,
  ]);
  return families.flatMap((members) => {
    const ps = holm(members.flatMap(({ difference }) => difference?.p ?? []));
    return members.map((row, index) =>
      row.difference ? { ...row, difference: { ...row.difference, pHolm: ps[index] as number } } : row,
    );
  });
}

function placed(row: Unplaced, rows: readonly Unplaced[]): SummaryRow {
  const rivals = rows.filter((other) => sameContest(other, row));
  const unranked = reasonAgainst(row, rivals);
  if (unranked !== null) return { ...row, rank: null, unranked };
  const better = rivals.filter((other) => reasonAgainst(other, rivals) === null && meritOf(other) > meritOf(row));
  return { ...row, rank: better.length + 1, unranked: null };
}

function reasonAgainst(row: Unplaced, rivals: readonly Unplaced[]): string | null {
  if (row.budget.requested === null) return 'no budget';
  if (!row.budget.met) return 'budget missed';
  const seeds = Math.max(...rivals.map(({ seeds }) => seeds.length));
  return row.seeds.length < seeds ? `${row.seeds.length} of ${seeds} seeds` : null;
}

function sameContest(a: Unplaced, b: Unplaced): boolean {
  return a.model === b.model && a.task === b.task && a.metric === b.metric && sameBudget(a.budget, b.budget);
}

function sameBudget(a: SummaryRow['budget'], b: SummaryRow['budget']): boolean {
  return a.spec === b.spec && a.matchedOn === b.matchedOn;
}

function inReadingOrder(a: SummaryRow, b: SummaryRow): number {
  return (
    a.model.localeCompare(b.model, 'en') ||
    a.task.localeCompare(b.task, 'en') ||
    (a.budget.requested ?? -1) - (b.budget.requested ?? -1) ||
    (a.rank ?? Infinity) - (b.rank ?? Infinity) ||
    meritOf(b) - meritOf(a) ||
    a.label.localeCompare(b.label, 'en')
  );
}

function meansOf<const Names extends string>(
  records: readonly Readonly<Record<Names, number>>[],
): Record<Names, number> {
  const names = Object.keys(records[0] ?? {}) as Names[];
  return Object.fromEntries(names.map((name) => [name, mean(records.map((record) => record[name]))])) as Record<
    Names,
    number
  >;
}

function pick({ id, arm, method, task, seed }: TrialResult): Pick<Failure, 'id' | 'arm' | 'method' | 'task' | 'seed'> {
  return { id, arm, method, task, seed };
}
