import stringWidth from 'string-width';
import wrapAnsi from 'wrap-ansi';
import { findings, heading, inText, paragraph, type Block, type Cell, type Table, type TextBlock } from './blocks.js';
import { panelsOf } from './contents.js';
import { fitted, printable, textTable } from '@peftjs/cli/format';
import { overallTables, resultsTable } from './results.js';
import { grouped } from './statistics/comparisons.js';
import type { Summary } from './statistics/summary.js';
import { twoRunsBlocks } from './two-runs.js';
import { verdictParagraphs } from './verdict.js';

/**
 * Renders the verdict, the results as a table for the terminal, and how to read it. No line is wider than `columns`.
 */
export function renderTable(summary: Summary, { columns = 120 }: { columns?: number } = {}): string {
  const { reference, against } = summary;
  const tables = grouped(summary.rows, ({ model }) => model).flatMap(([{ model }]): Block[] => {
    const overall = summary.overall.filter((row) => row.model === model);
    if (overall[0]) {
      const title = `mean over ${overall[0].tasks.length} tasks (${model})`;
      return [heading(title), ...overallTables(overall, summary.rows, reference, [])];
    }
    const panels = panelsOf([], summary).filter((panel) => panel.model === model);
    return panels.flatMap((panel) => [heading(`${panel.task} (${model})`), resultsTable(panel, reference, [])]);
  });
  return renderText(
    [
      findings(verdictParagraphs(summary)),
      ...tables,
      ...(against ? twoRunsBlocks(against) : []),
      paragraph(readingOf(summary)),
    ],
    columns,
  );
}

/** Explains the table in one line. */
function readingOf({ overall, reference, rows }: Summary): string {
  if (rows.length === 0) return 'No trial has finished.';
  const interval = overall.length > 0 ? ' [95 % interval]' : ' ± standard deviation';
  return `Mean over seeds${interval}; against ${reference}: paired difference and its p${overall.length > 0 ? ', adjusted over the pairs of the budget' : ''}. Every pair, charts and caveats are in the report.`;
}

/** Renders blocks as text, of which no line is wider than `columns`. */
function renderText(blocks: readonly Block[], columns: number): string {
  return inText(blocks)
    .flatMap((block) => lines(block, columns))
    .join('\n')
    .trimEnd();
}

function lines(block: TextBlock, columns: number): string[] {
  const wrapped = (text: string): string[] =>
    wrapAnsi(printable(text), columns)
      .split('\n')
      .map((line) => fitted(line, columns));
  switch (block.kind) {
    case 'heading':
      return [fitted(printable(block.text), columns)];
    case 'paragraph':
      return [...wrapped(block.text), ''];
    case 'findings':
      return block.paragraphs.flatMap((sentences) => [...wrapped(sentences.join(' ')), '']);
    case 'facts':
      return [...block.facts.flatMap(({ term, value }) => wrapped(`${term}: ${value}`)), ''];
    case 'list':
      return [...block.items.flatMap(wrapped), ''];
    case 'table':
      return [...tableLines(block, columns), ''];
  }
}

/** The rows with as many columns as fit, with full or brief cells. */
function tableLines(table: Table, columns: number): string[] {
  const fits = (texts: readonly string[]): boolean => texts.every((text) => stringWidth(text) <= columns);
  const weightOf = (column: number): number => table.columns[column]?.weight ?? Infinity;
  let kept = [...table.columns.keys()];
  const dispensable = kept.filter((column) => weightOf(column) < Infinity).sort((a, b) => weightOf(a) - weightOf(b));
  let texts = aligned(table, kept, false);
  for (const dropped of [undefined, ...dispensable]) {
    if (fits(texts)) break;
    kept = kept.filter((column) => column !== dropped);
    texts = aligned(table, kept, true);
  }
  return texts.map((text) => fitted(text, columns));
}

function aligned({ columns, groups }: Table, kept: readonly number[], isBrief: boolean): string[] {
  const header = kept.map((column) => printable(columns[column]?.title ?? ''));
  const rows = groups.flatMap((group) => group.rows);
  const cells = rows.map((row) => kept.map((column) => cellText(row[column] as Cell, isBrief)));
  return textTable(header, cells, []).trimEnd().split('\n');
}

function cellText({ main, brief, details }: Cell, isBrief: boolean): string {
  // A cell with a brief form is important enough to show it on a line.
  const small = isBrief ? brief : details.join(', ');
  return printable(brief !== undefined && small !== undefined && small !== '' ? `${main} ${small}` : main);
}
