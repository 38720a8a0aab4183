import { PAIRS_FOR_SIGNIFICANCE } from './permutation.js';
import { RESAMPLES } from './samples.js';
import type { SummaryRow } from './summary-row.js';
import type { Summary } from './summary.js';

/** What a reader must bear in mind about a summary, one sentence each. */
export function notesOn(summary: Omit<Summary, 'notes'>): string[] {
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

function comparisonNotes({ rows, comparisons, reference }: Omit<Summary, 'notes'>): string[] {
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

function overallNotes({ rows, overall, comparisons }: Omit<Summary, 'notes'>): string[] {
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
