import stringWidth from 'string-width';
import wrapAnsi from 'wrap-ansi';
import { columnsFor, type Column } from './contents.js';
import { fitted, printable, textTable } from './format.js';
import { grouped } from './statistics/comparisons.js';
import type { SummaryRow } from './statistics/rows.js';
import type { Summary } from './statistics/summary.js';
import type { RunComparison } from './statistics/two-runs.js';
import { changedFacts, RUN_COLUMNS, unpairedNames } from './two-runs.js';

/** What is left out first where the terminal is narrow. */
const LEAST_NEEDED: readonly Column['key'][] = ['trained', 'seeds', 'rate', 'time', 'budget', 'difference', 'stored'];

/** The results as a table for the terminal, no line wider than `columns`; then the notes. */
export function renderTable(summary: Summary, { columns = 120 }: { columns?: number } = {}): string {
  const tables = grouped(summary.rows, ({ model, task, metric }) => [model, task, metric]).flatMap((rows) => [
    fitted(`${printable(rows[0].task)} (${printable(rows[0].model)})`, columns),
    ...tableLines(rows, columnsFor(rows[0], summary.reference), columns),
    '',
  ]);
  const compared = summary.against ? runLines(summary.against, columns) : [];
  return [...tables, ...compared, ...summary.notes.flatMap((note) => wrapped(printable(note), columns))].join('\n');
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

function tableLines(rows: readonly SummaryRow[], all: readonly Column[], columns: number): string[] {
  const fits = (lines: readonly string[]): boolean => lines.every((text) => stringWidth(text) <= columns);
  let kept = all;
  let lines = aligned(rows, kept, 'detail');
  for (const key of [undefined, ...LEAST_NEEDED]) {
    if (fits(lines)) break;
    kept = kept.filter((column) => column.key !== key);
    lines = aligned(rows, kept, 'brief');
  }
  return lines.map((text) => fitted(text, columns));
}

function aligned(rows: readonly SummaryRow[], columns: readonly Column[], part: 'detail' | 'brief'): string[] {
  const header = columns.map(({ title }) => printable(title));
  const cells = rows.map((row) => columns.map((column) => cellText(row, column, part)));
  return textTable(header, cells, []).trimEnd().split('\n');
}

function cellText(row: SummaryRow, column: Column, part: 'detail' | 'brief'): string {
  const { main, brief, [part]: small } = column.cell(row);
  if (column.key === 'method' && row.budget.requested !== null) return printable(`${main} ${row.budget.spec}`);
  // What has a brief form matters enough for a line of text.
  return printable(brief !== undefined && small !== undefined ? `${main} ${small}` : main);
}

function wrapped(text: string, columns: number): string[] {
  const lines = wrapAnsi(text, columns).split('\n');
  return lines.map((line) => fitted(line, columns));
}
