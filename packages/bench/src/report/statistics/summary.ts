import { mean } from 'simple-statistics';
import { canonical } from '../../results/json.js';
import { primaryMetric, type TrialResult } from '../../results/schema.js';
import {
  armsOf,
  comparable,
  compareArms,
  differencesBySeed,
  grouped,
  pairedDifference,
  type Arm,
  type Comparison,
} from './comparisons.js';
import { estimate, holm, PAIRS_FOR_SIGNIFICANCE, RESAMPLES } from './estimates.js';
import { meritOf, overTasks, type Difference, type Failure, type OverallRow, type SummaryRow } from './rows.js';
import { stabilityOf, type StabilityRow } from './stability.js';
import type { RunComparison } from './two-runs.js';

/** What DIR/summary.json holds. */
export interface Summary {
  readonly reference: string;
  /** By model, task and budget; best first. */
  readonly rows: readonly SummaryRow[];
  /** The same over all tasks, each counting alike; none of a single task. */
  readonly overall: readonly OverallRow[];
  /** Every pair of arms at each budget, on each task and over them. */
  readonly comparisons: readonly Comparison[];
  /** Of every arm and budget whose modules end with different ranks: whether the task or the seed decides which. */
  readonly stability: readonly StabilityRow[];
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
    stability: stabilityOf(arms),
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

/** What notes are about. */
type Noted = Omit<Summary, 'notes' | 'stability'>;

/** What a reader must bear in mind about a summary, one sentence each. */
function notesOn(summary: Noted): string[] {
  const { rows, failed } = summary;
  return [
    ...seedNotes(rows),
    ...comparisonNotes(summary),
    ...overallNotes(summary),
    ...budgetNotes(rows),
    ...failureNotes(failed),
  ];
}

function seedNotes(rows: readonly SummaryRow[]): string[] {
  const fewest = Math.min(...rows.map(({ seeds }) => seeds.length));
  if (rows.length === 0) return ['No trial has finished.'];
  if (fewest === 1) return ['Some rows rest on one seed: they have no spread and no interval.'];
  if (fewest > 3)
    return [`Intervals are 95 % percentile bootstrap intervals of the mean over seeds (${RESAMPLES} resamples).`];
  return [
    `Intervals are 95 % percentile bootstrap intervals of the mean over seeds (${RESAMPLES} resamples); with ${fewest} seeds they are little more than the range seen.`,
  ];
}

function comparisonNotes({ rows, comparisons, reference }: Noted): string[] {
  const isRival = ({ arm, baseline }: SummaryRow): boolean => !baseline && arm !== reference;
  const isAlone = rows.some(isRival) && rows.every(({ difference }) => difference === null);
  const alone = isAlone ? [`No row can be compared with '${reference}' seed by seed.`] : [];
  const onTasks = [
    ...rows.flatMap(({ difference }) => difference ?? []),
    ...comparisons.filter(({ task }) => task !== null),
  ];
  if (onTasks.length === 0) return alone;
  const tasks = new Set(rows.map(({ task }) => task)).size;
  return [
    ...alone,
    `Differences are paired by seed; p is the exact two-sided sign-flip permutation p. ${familyNote(tasks)}`,
    ...reachNotes(Math.min(...onTasks.map(({ pairs }) => pairs)), tasks),
  ];
}

function familyNote(tasks: number): string {
  const open = 'the numbers of arms and of budgets are not corrected for';
  return tasks > 1
    ? `The adjusted p is Holm's over the ${tasks} tasks, for each pair of arms at a budget; ${open}.`
    : `There is one task, so Holm's correction over tasks changes nothing; ${open}.`;
}

/** What the number of seeds cannot show. */
function reachNotes(pairs: number, tasks: number): string[] {
  const least = 2 / 2 ** pairs;
  if (pairs < PAIRS_FOR_SIGNIFICANCE) {
    return [
      `With ${count(pairs, 'paired seed')} the smallest possible p is ${least}: p < 0.05 cannot be reached with fewer than ${PAIRS_FOR_SIGNIFICANCE} seeds.`,
    ];
  }
  const adjusted = tasks * least;
  if (adjusted < 0.05) return [];
  const needed = Math.ceil(Math.log2((2 * tasks) / 0.05));
  return [
    `With ${pairs} paired seeds and ${tasks} tasks the smallest possible p on a task is ${least}, and ${adjusted} where Holm's correction counts in full: it takes ${needed} seeds for that to be below 0.05.`,
  ];
}

function overallNotes({ rows, overall, comparisons }: Noted): string[] {
  if (new Set(rows.map(({ lowerIsBetter }) => lowerIsBetter)).size > 1)
    return ['There is no mean over tasks: of some metrics more is better, of others less.'];
  const metrics = [...new Set(overall.flatMap((row) => row.metrics))];
  if (overall.length === 0) return [];
  const mixed = metrics.length > 1 ? `, though they are of ${metrics.join(', ')}` : '';
  const pairs = comparisons.some(({ task }) => task === null)
    ? " p is of all signs of all seeds and tasks, its adjusted form Holm's over the pairs of arms at a budget."
    : '';
  return [
    `Over the tasks, each counts alike${mixed}; the interval says what other seeds would give on these tasks, not what other tasks would.${pairs}`,
  ];
}

function budgetNotes(rows: readonly SummaryRow[]): string[] {
  const missed = rows.filter(({ budget }) => budget.requested !== null && !budget.met);
  if (missed.length === 0) return [];
  const names = missed.map(({ label, task, budget }) => `${label} on ${task} at ${budget.spec}`);
  return [`Not ranked, because the budget was missed: ${names.join('; ')}.`];
}

function failureNotes(failed: Summary['failed']): string[] {
  return failed.length === 0
    ? []
    : [`${count(failed.length, 'trial')} failed and ${failed.length === 1 ? 'is' : 'are'} in no number.`];
}

function count(amount: number, noun: string): string {
  return `${amount} ${noun}${amount === 1 ? '' : 's'}`;
}
