import type { DoneTrial, TrialResult } from '../results/schema.js';
import { grouped } from '../statistics/arms.js';
import type { SummaryRow } from '../statistics/summary-row.js';
import type { Summary } from '../statistics/summary.js';

/** How one method looks in every chart: an index into the palette, the shapes and the dashes; 0 is the frozen baseline's. */
export interface Series {
  readonly label: string;
  readonly look: number;
}

/** A row with what lies behind it. */
export interface Entry {
  readonly row: SummaryRow;
  readonly series: Series;
  readonly trials: readonly DoneTrial[];
}

/** Everything about one task. */
export interface Panel {
  readonly title: string;
  readonly model: string;
  readonly task: string;
  readonly metric: string;
  /** Whether less of the metric is better. */
  readonly lowerIsBetter: boolean;
  /** Without a budget first, then by budget; best first. */
  readonly entries: readonly Entry[];
  readonly baseline: Entry | undefined;
  readonly budgets: readonly BudgetGroup[];
}

/** What was trained at one budget. */
export interface BudgetGroup {
  readonly spec: string;
  readonly requested: number | null;
  /** Which parameters are as many. */
  readonly matchedOn: SummaryRow['budget']['matchedOn'];
  readonly entries: readonly [Entry, ...Entry[]];
}

/** The report's contents, one panel per task (and model, where there are several). */
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
    const [{ row }] = ofTask;
    return {
      title: severalModels ? `${row.task} · ${row.model}` : row.task,
      model: row.model,
      task: row.task,
      metric: row.metric,
      lowerIsBetter: row.lowerIsBetter,
      entries: ofTask,
      baseline: ofTask.find((entry) => entry.row.baseline),
      budgets: grouped(ofTask, (entry) => entry.row.budget.spec).map((group) => ({
        spec: group[0].row.budget.spec,
        requested: group[0].row.budget.requested,
        matchedOn: group[0].row.budget.matchedOn,
        entries: group,
      })),
    };
  });
}

/** The same items in the order of the palette. */
export function bySeries<Item extends { readonly series: Series }>(items: readonly Item[]): Item[] {
  return [...items].sort((a, b) => a.series.look - b.series.look);
}

/** Each series once, in the order of the palette. */
export function seriesOfEntries(entries: readonly Entry[]): Series[] {
  return [...new Map(bySeries(entries).map(({ series }) => [series.label, series])).values()];
}

/** The baseline is the neutral one; the others take colours in the order of their names, the same in every chart. */
export function seriesByLabel(rows: readonly SummaryRow[]): (label: string) => Series {
  const baselines = new Set(rows.filter(({ baseline }) => baseline).map(({ label }) => label));
  const others = [...new Set(rows.map(({ label }) => label))].filter((label) => !baselines.has(label)).sort();
  return (label) => ({ label, look: others.indexOf(label) + 1 });
}
