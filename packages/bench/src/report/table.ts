import stringWidth from 'string-width';
import wrapAnsi from 'wrap-ansi';
import { columnsFor, type Cell, type Column } from './contents.js';
import {
  fitted,
  formatAdjustedP,
  formatCount,
  formatDuration,
  formatInterval,
  formatMetric,
  formatSigned,
  printable,
  textTable,
} from './format.js';
import { grouped } from './statistics/comparisons.js';
import type { OverallRow, SummaryRow } from './statistics/rows.js';
import type { Summary } from './statistics/summary.js';
import type { RunComparison } from './statistics/two-runs.js';
import { changedFacts, RUN_COLUMNS, unpairedNames } from './two-runs.js';
import { verdictParagraphs } from './verdict.js';

/** A column of the table. */
interface TextColumn<Row> {
  /**
   * The importance of the column: on a narrow terminal the columns of least weight are dropped first, those of Infinity
   * never.
   */
  readonly weight: number;
  /** The heading. */
  readonly title: string;
  /** Returns the cell of a row. */
  cell(row: Row): Cell;
}

/**
 * Renders the verdict, the results as a table for the terminal, and how to read it. No line is wider than `columns`.
 */
export function renderTable(summary: Summary, { columns = 120 }: { columns?: number } = {}): string {
  const models = grouped(summary.rows, ({ model }) => model);
  const tables = models.flatMap(([{ model }]) => {
    const overall = summary.overall.filter((row) => row.model === model);
    const rows = summary.rows.filter((row) => row.model === model);
    return overall.length > 0
      ? overallLines(overall, rows, summary.reference, columns)
      : taskLines(rows, summary.reference, columns);
  });
  const verdict = verdictParagraphs(summary).flatMap((sentences) => [
    ...wrapped(printable(sentences.join(' ')), columns),
    '',
  ]);
  const compared = summary.against ? runLines(summary.against, columns) : [];
  return [...verdict, ...tables, ...compared, ...wrapped(readingOf(summary), columns)].join('\n');
}

/** Explains the table in one line. */
function readingOf({ overall, reference, rows }: Summary): string {
  if (rows.length === 0) return 'No trial has finished.';
  const interval = overall.length > 0 ? ' [95 % interval]' : ' ± standard deviation';
  return `Mean over seeds${interval}; against ${printable(reference)}: paired difference and its p${overall.length > 0 ? ', adjusted over the pairs of the budget' : ''}. Every pair, charts and caveats are in the report.`;
}

const WEIGHTS: Readonly<Partial<Record<Column['key'], number>>> = {
  ...{ method: Infinity, score: Infinity, stored: 7, difference: 6, budget: 5, time: 4, rate: 3, seeds: 2, trained: 1 },
};

/** One table for each task. */
function taskLines(rows: readonly SummaryRow[], reference: string, columns: number): string[] {
  return grouped(rows, ({ task, metric }) => [task, metric]).flatMap((ofTask) => {
    const [first] = ofTask;
    const all = columnsFor(first, reference).map(({ key, title, cell }): TextColumn<SummaryRow> => ({
      ...{ weight: WEIGHTS[key] ?? 0, title },
      cell: (row) => (key === 'method' ? withBudget(cell(row), row.budget) : cell(row)),
    }));
    return [
      fitted(`${printable(first.task)} (${printable(first.model)})`, columns),
      ...tableLines(ofTask, all, columns),
      '',
    ];
  });
}

/** One table of the mean over the tasks and the mean on each task. */
function overallLines(
  overall: readonly OverallRow[],
  rows: readonly SummaryRow[],
  reference: string,
  columns: number,
): string[] {
  const [{ model, tasks } = { model: '', tasks: [] }] = overall;
  const onTask = (row: OverallRow, task: string): SummaryRow | undefined =>
    rows.find((each) => each.task === task && each.label === row.label && each.budget.spec === row.budget.spec);
  const all: TextColumn<OverallRow>[] = [
    { weight: Infinity, title: 'method', cell: ({ label, budget }) => withBudget({ main: label }, budget) },
    { weight: Infinity, title: 'mean', cell: ({ score }) => scoreCell(score) },
    { weight: 9, title: `against ${reference}`, cell: (row) => overallDifference(row, reference) },
    ...tasks.map((task, index): TextColumn<OverallRow> => ({
      ...{ weight: 6 - index / tasks.length, title: task },
      cell: (row) => ({ main: formatMetric(onTask(row, task)?.score.mean ?? null) }),
    })),
    { weight: 8, title: 'stored', cell: ({ stored }) => ({ main: formatCount(stored) }) },
    {
      ...{ weight: 4, title: 'time per trial' },
      cell: (row) => ({
        main: formatDuration(meanOf(tasks.flatMap((task) => onTask(row, task)?.time.totalSeconds ?? []))),
      }),
    },
    {
      weight: 5,
      title: 'budget',
      cell: ({ budget }) => ({ main: budget.requested === null ? '–' : budget.met ? 'met' : 'missed' }),
    },
  ];
  return [
    fitted(`mean over ${tasks.length} tasks (${printable(model)})`, columns),
    ...tableLines(overall, all, columns),
    '',
  ];
}

function scoreCell({ mean, interval }: OverallRow['score']): Cell {
  const main = formatMetric(mean);
  return interval ? { main, brief: formatInterval(interval), detail: formatInterval(interval) } : { main };
}

function overallDifference({ label, difference }: OverallRow, reference: string): Cell {
  if (label === reference) return { main: 'reference' };
  if (!difference) return { main: '–' };
  const brief = formatAdjustedP(difference.pHolm);
  return { main: formatSigned(difference.mean), brief, detail: brief };
}

function withBudget(cell: Cell, { spec }: SummaryRow['budget']): Cell {
  return spec === 'none' ? cell : { main: `${cell.main} ${spec}` };
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function runLines({ against, rows, changed, unpaired }: RunComparison, columns: number): string[] {
  const header = RUN_COLUMNS.map(({ title }) => title);
  const cells = rows.map((row) =>
    RUN_COLUMNS.map((column) => {
      const { main, brief, detail } = column.cell(row);
      const small = column.title === 'arm' ? detail : brief;
      return printable(small === undefined ? main : `${main} ${small}`);
    }),
  );
  const facts = changedFacts(changed).map(({ term, value }) => `${term}: ${value}`);
  return [
    `compared with ${printable(against)}`,
    ...textTable(header, cells, [])
      .trimEnd()
      .split('\n')
      .map((line) => fitted(line, columns)),
    ...[...facts, ...unpairedNames(unpaired)].flatMap((line) => wrapped(printable(line), columns)),
    '',
  ];
}

/** The rows with as many columns as fit, with full or brief cells. */
function tableLines<Row>(rows: readonly Row[], all: readonly TextColumn<Row>[], columns: number): string[] {
  const fits = (lines: readonly string[]): boolean => lines.every((text) => stringWidth(text) <= columns);
  const dispensable = [...all].filter(({ weight }) => weight < Infinity).sort((a, b) => a.weight - b.weight);
  let kept = all;
  let lines = aligned(rows, kept, 'detail');
  for (const dropped of [undefined, ...dispensable]) {
    if (fits(lines)) break;
    kept = kept.filter((column) => column !== dropped);
    lines = aligned(rows, kept, 'brief');
  }
  return lines.map((text) => fitted(text, columns));
}

function aligned<Row>(rows: readonly Row[], columns: readonly TextColumn<Row>[], part: 'detail' | 'brief'): string[] {
  const header = columns.map(({ title }) => printable(title));
  const cells = rows.map((row) => columns.map(({ cell }) => cellText(cell(row), part)));
  return textTable(header, cells, []).trimEnd().split('\n');
}

function cellText(cell: Cell, part: 'detail' | 'brief'): string {
  const { main, brief, [part]: small } = cell;
  // A cell with a brief form is important enough to show it on a line.
  return printable(brief !== undefined && small !== undefined ? `${main} ${small}` : main);
}

function wrapped(text: string, columns: number): string[] {
  const lines = wrapAnsi(text, columns).split('\n');
  return lines.map((line) => fitted(line, columns));
}
