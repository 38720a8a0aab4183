import type { Difference, SummaryRow } from '../statistics/summary-row.js';
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

/** What a cell says: the figure, and what belongs to it in smaller type. */
export interface Cell {
  readonly main: string;
  readonly detail?: string;
  /** The most needed part of the detail. */
  readonly brief?: string;
}

/** A column of the results table, the same in the page, in Markdown and in the terminal. */
export interface Column {
  readonly key: 'method' | 'score' | 'difference' | 'stored' | 'trained' | 'rate' | 'time' | 'seeds' | 'budget';
  readonly title: string;
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
    { key: 'trained', title: 'trained', cell: trainedCell },
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

/** A paired difference with its interval and its p, adjusted where that changes it. */
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
    ...(mean === end ? [] : [`${mean} on average while training`]),
  ];
  return withDetail(end, details.length > 0 ? details.join('; ') : undefined);
}

function trainedCell({ parameters: { trainableAtStart, optimizerBytes } }: SummaryRow): Cell {
  return { main: formatCount(trainableAtStart), detail: `at the start; ${formatBytes(optimizerBytes)} of moments` };
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
