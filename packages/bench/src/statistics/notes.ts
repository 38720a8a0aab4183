import { PAIRS_FOR_SIGNIFICANCE } from './permutation.js';
import { RESAMPLES } from './samples.js';
import type { Failure, SummaryRow } from './summary-row.js';

/** What a reader must bear in mind about these rows, one sentence each. */
export function notesOn(rows: readonly SummaryRow[], failed: readonly Failure[], reference: string): string[] {
  return [...seedNotes(rows), ...comparisonNotes(rows, reference), ...budgetNotes(rows), ...failureNotes(failed)];
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

function comparisonNotes(rows: readonly SummaryRow[], reference: string): string[] {
  const differences = rows.flatMap(({ difference }) => (difference ? [difference] : []));
  const isRival = ({ arm, baseline }: SummaryRow): boolean => !baseline && arm !== reference;
  if (differences.length === 0) {
    return rows.some(isRival) ? [`No row can be compared with '${reference}' seed by seed.`] : [];
  }
  const pairs = Math.min(...differences.map((difference) => difference.pairs));
  const notes = [
    `Differences are paired by seed; p is the two-sided sign-flip permutation p, not corrected for the ${count(differences.length, 'comparison')} made here.`,
  ];
  if (pairs < PAIRS_FOR_SIGNIFICANCE) {
    notes.push(
      `With ${count(pairs, 'paired seed')} the smallest possible p is ${2 / 2 ** pairs}: p < 0.05 cannot be reached with fewer than ${PAIRS_FOR_SIGNIFICANCE} seeds.`,
    );
  }
  return notes;
}

function budgetNotes(rows: readonly SummaryRow[]): string[] {
  const missed = rows.filter(({ budget }) => budget.requested !== null && !budget.met);
  if (missed.length === 0) return [];
  const names = missed.map(({ label, task, budget }) => `${label} on ${task} at ${budget.spec}`);
  return [`Not ranked, because the budget was missed: ${names.join('; ')}.`];
}

function failureNotes(failed: readonly Failure[]): string[] {
  return failed.length === 0
    ? []
    : [`${count(failed.length, 'trial')} failed and ${failed.length === 1 ? 'is' : 'are'} in no number.`];
}

function count(amount: number, noun: string): string {
  return `${amount} ${noun}${amount === 1 ? '' : 's'}`;
}
