import type { DoneTrial, TrialResult } from '../results/schema.js';
import {
  formatAdjustedP,
  formatBytes,
  formatCount,
  formatDuration,
  formatInterval,
  formatMetric,
  formatMilliseconds,
  formatP,
  formatShare,
  formatSigned,
  formatSmall,
  metricTitle,
} from './format.js';
import { looksOf, NEUTRAL, type Look } from './palette.js';
import { grouped } from './statistics/comparisons.js';
import type { Difference, SummaryRow } from './statistics/rows.js';
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
export interface Panel {
  /** The task, with the model if there are several. */
  readonly title: string;
  /** The model. */
  readonly model: string;
  /** The task. */
  readonly task: string;
  /** The primary metric. */
  readonly metric: string;
  /** Whether lower values of the metric are better. */
  readonly lowerIsBetter: boolean;
  /** The rows: first those without a budget, then by budget, best first. */
  readonly entries: readonly Entry[];
  /** The frozen baseline, if there is one. */
  readonly baseline: Entry | undefined;
  /** The entries by budget. */
  readonly budgets: readonly BudgetGroup[];
}

/** The entries of one budget. */
export interface BudgetGroup {
  /** The budget as typed. */
  readonly spec: string;
  /** The requested number of parameters; null without a budget. */
  readonly requested: number | null;
  /** The parameters that the budget counts. */
  readonly matchedOn: SummaryRow['budget']['matchedOn'];
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

/** The text of a cell: the main value, and details in smaller type. */
export interface Cell {
  /** The main value. */
  readonly main: string;
  /** Details in smaller type. */
  readonly detail?: string;
  /** The most important part of the details. */
  readonly brief?: string;
}

/** A column of the results table, the same in HTML, in Markdown and in the terminal. */
export interface Column {
  /** The key of the column. */
  readonly key: 'method' | 'score' | 'difference' | 'stored' | 'trained' | 'rate' | 'time' | 'seeds' | 'budget';
  /** The heading. */
  readonly title: string;
  /** Returns the cell of a row. */
  cell(row: SummaryRow): Cell;
}

const NONE: Cell = { main: '–' };

/** The columns for rows of one metric, compared with one reference. */
export function columnsFor(metric: Parameters<typeof metricTitle>[0], reference: string): Column[] {
  return [
    { key: 'method', title: 'method', cell: (row) => withDetail(row.label, methodNote(row)) },
    { key: 'score', title: metricTitle(metric), cell: scoreCell },
    {
      key: 'difference',
      title: `against ${reference}`,
      cell: (row) =>
        row.arm === reference ? { main: 'reference' } : row.difference ? differenceCell(row.difference) : NONE,
    },
    { key: 'stored', title: 'stored', cell: storedCell },
    { key: 'trained', title: 'trained at the start', cell: trainedCell },
    { key: 'rate', title: 'learning rate', cell: (row) => ({ main: formatSmall(row.learningRate) }) },
    {
      key: 'time',
      title: 'time per trial',
      cell: ({ time }) => ({
        main: formatDuration(time.totalSeconds),
        detail: `${formatMilliseconds(time.stepMedianMs)} per step`,
      }),
    },
    { key: 'seeds', title: 'seeds', cell: ({ seeds }) => ({ main: String(seeds.length) }) },
    { key: 'budget', title: 'budget', cell: budgetCell },
  ];
}

function scoreCell({ score }: SummaryRow): Cell {
  if (score.sd === null || score.interval === null) return { main: formatMetric(score.mean), detail: 'one seed' };
  const brief = `± ${formatMetric(score.sd)}`;
  return { main: formatMetric(score.mean), detail: `${brief} ${formatInterval(score.interval)}`, brief };
}

/** A paired difference with its interval and p, and the adjusted p if it differs. */
export function differenceCell(difference: Omit<Difference, 'to'>): Cell {
  const brief = formatP(difference.p);
  const interval = difference.interval ? `${formatInterval(difference.interval, formatSigned)}, ` : '';
  const adjusted = difference.pHolm === difference.p ? '' : `, ${formatAdjustedP(difference.pHolm)}`;
  return { main: formatSigned(difference.mean), detail: `${interval}${brief}${adjusted}`, brief };
}

function storedCell({ parameters: { stored, storedMean, base } }: SummaryRow): Cell {
  const [end, mean] = [formatCount(stored), formatCount(storedMean)];
  const details = [
    ...(stored > 0 && base > 0 ? [`${formatShare(stored / base)} of the base`] : []),
    ...(mean === end ? [] : [`${mean} on average`]),
  ];
  return withDetail(end, details.length > 0 ? details.join('; ') : undefined);
}

function trainedCell({ parameters: { trainableAtStart, optimizerBytes } }: SummaryRow): Cell {
  return { main: formatCount(trainableAtStart), detail: `${formatBytes(optimizerBytes)} of moments` };
}

function budgetCell({ budget }: SummaryRow): Cell {
  if (budget.requested === null) return NONE;
  return { main: budget.met ? 'met' : 'missed', detail: `of\u00a0${formatCount(budget.requested)}` };
}

function methodNote({ baseline, unranked, budget }: SummaryRow): string | undefined {
  if (baseline) return 'frozen baseline';
  return unranked !== null && budget.requested !== null ? `not ranked: ${unranked}` : undefined;
}

function withDetail(main: string, detail: string | undefined): Cell {
  return detail === undefined ? { main } : { main, detail };
}
