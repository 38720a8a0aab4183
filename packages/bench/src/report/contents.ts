import type { DoneTrial, TrialResult } from '@peftjs/cli/results';
import { looksOf, NEUTRAL, type Look } from './palette.js';
import { grouped } from './statistics/comparisons.js';
import type { SummaryRow } from './statistics/rows.js';
import type { Summary } from './statistics/summary.js';

/** The name and look of an arm, the same in every chart. */
export interface Series {
  /** The name of the arm. */
  readonly label: string;
  /** The look of the arm. */
  readonly look: Look;
}

/** A row of the summary with its trials. */
export interface Entry {
  /** The row. */
  readonly row: SummaryRow;
  /** The name and look of the arm. */
  readonly series: Series;
  /** The trials behind the row. */
  readonly trials: readonly DoneTrial[];
}

/** Everything in the report about one task. */
export interface Panel extends Pick<SummaryRow, 'model' | 'task' | 'metric' | 'lowerIsBetter'> {
  /** The task, with the model if there are several. */
  readonly title: string;
  /** The rows: first those without a budget, then by budget, best first. */
  readonly entries: readonly Entry[];
  /** The frozen baseline, if there is one. */
  readonly baseline: Entry | undefined;
  /** The entries by budget. */
  readonly budgets: readonly BudgetGroup[];
}

/** The entries of one budget. */
export interface BudgetGroup extends Omit<SummaryRow['budget'], 'met'> {
  /** The entries, best first. */
  readonly entries: readonly [Entry, ...Entry[]];
}

/** The panels of the report: one per task, or per model and task if there are several models. */
export function panelsOf(results: readonly TrialResult[], summary: Summary): Panel[] {
  const trials = new Map(results.flatMap((result) => (result.status === 'done' ? [[result.id, result]] : [])));
  const seriesOf = seriesByLabel(summary.rows);
  const entries = summary.rows.map((row): Entry => ({
    row,
    series: seriesOf(row.label),
    trials: row.trials.flatMap((id) => trials.get(id) ?? []),
  }));
  const severalModels = new Set(summary.rows.map(({ model }) => model)).size > 1;
  return grouped(entries, ({ row }) => [row.model, row.task, row.metric]).map((ofTask) => {
    const { model, task, metric, lowerIsBetter } = ofTask[0].row;
    const title = severalModels ? `${task} · ${model}` : task;
    const byBudget = grouped(ofTask, ({ row }) => row.budget.spec);
    return {
      ...{ title, model, task, metric, lowerIsBetter, entries: ofTask },
      baseline: ofTask.find(({ row }) => row.baseline),
      budgets: byBudget.map((entries): BudgetGroup => ({ ...entries[0].row.budget, entries })),
    };
  });
}

/** Sorts items in the order of the palette. */
export function bySeries<Item extends { readonly series: Series }>(items: readonly Item[]): Item[] {
  const position = ({ series: { look } }: Item): number => look.hue * 100 + look.shape;
  return [...items].sort((a, b) => position(a) - position(b));
}

/** Each series once, in the order of the palette. */
export function seriesOfEntries(entries: readonly Entry[]): Series[] {
  return [...new Map(bySeries(entries).map(({ series }) => [series.label, series])).values()];
}

/**
 * Returns the look of arms by label. The baseline is neutral; other arms look the same everywhere, whatever budget
 * their label names.
 */
export function seriesByLabel(rows: readonly SummaryRow[]): (label: string) => Series {
  const baselines = new Set(rows.filter(({ baseline }) => baseline).map(({ label }) => label));
  const looks = looksOf(rows.filter(({ label }) => !baselines.has(label)));
  const lookOf = (label: string): Look | undefined => looks.get(label) ?? looks.get(label.replace(/ \([^()]*\)$/, ''));
  return (label) => ({ label, look: lookOf(label) ?? NEUTRAL });
}
