import Papa from 'papaparse';
import { diskStorage, type Storage } from '@peftjs/core';
import stringWidth from 'string-width';
import wrapAnsi from 'wrap-ansi';
import { writeJson, type TrialResult } from '@peftjs/cli/results';
import { renderReport } from './page.js';
import type { Estimate } from './statistics/estimates.js';
import type { Difference } from './statistics/rows.js';
import type { StabilityRow } from './statistics/stability.js';
import type { Summary } from './statistics/summary.js';
import {
  facts,
  findings,
  inText,
  type Cell,
  type Table,
  type TextBlock,
  heading,
  paragraph,
  type Block,
} from './blocks.js';
import { scopeOf, panelsOf } from './contents.js';
import { printable, fitted, textTable } from '@peftjs/cli/format';
import { reportBlocks } from './sections.js';
import { verdictParagraphs } from './findings.js';
import { overallTable, resultsTable } from './results.js';
import { grouped } from './statistics/comparisons.js';
import { twoRunsBlocks } from './two-runs.js';

/**
 * Writes DIR/summary.json, report.html, report.md, results.csv and summary.csv, each atomically.
 * @throws CheckpointError if the folder cannot be written.
 */
export async function writeReport(
  dir: string,
  results: readonly TrialResult[],
  summary: Summary,
  storage: Storage = diskStorage(),
): Promise<void> {
  await writeJson(`${dir}/summary.json`, summary, storage);
  const files = {
    'report.html': await renderReport(results, summary),
    'report.md': renderMarkdown(results, summary),
    'results.csv': renderCsv(results),
    'summary.csv': renderSummaryCsv(summary),
  };
  for (const [file, text] of Object.entries(files))
    await storage.write(`${dir}/${file}`, new TextEncoder().encode(text));
}

type Value = string | number | boolean | null;

/** Renders one line per trial, for a spreadsheet or a data frame. */
export function renderCsv(results: readonly TrialResult[]): string {
  const metrics = [
    ...new Set(results.flatMap((result) => (result.status === 'done' ? Object.keys(result.metrics) : []))),
  ].sort();
  const lines = results.map((result) => ({ ...identityOf(result), ...measuresOf(result, metrics) }));
  return csvTable(lines);
}

/**
 * Renders one line per arm, budget and task, and one per arm and budget over the tasks: the report's tables, unrounded.
 * The stability of rank choices is in the lines over the tasks, or in those of the task if there are none.
 */
export function renderSummaryCsv({ rows, overall, stability }: Summary): string {
  type Choice = Pick<StabilityRow, 'model' | 'label' | 'budget'>;
  const isOf =
    ({ model, label, budget }: Choice) =>
    (row: Choice): boolean =>
      row.model === model && row.label === label && row.budget.spec === budget.spec;
  const onTasks = rows.map((row) => {
    const { model, task, label, method, budget, metric, score, difference, rank, seeds } = row;
    return {
      ...{ model, task, arm: label, method, budget: budget.spec, requested: budget.requested, met: budget.met },
      ...{ metric, seeds: seeds.length, rank, ...estimateOf(score), ...differenceOf(difference) },
      ...{
        learningRate: row.learningRate,
        scale: row.scale ?? null,
        ...row.parameters,
        ...row.time,
        peakRssBytes: row.peakRssBytes,
      },
      ...stabilityOf(overall.some(isOf(row)) ? undefined : stability.find(isOf(row))),
    };
  });
  const overTasks = overall.map((row) => {
    const { model, label, budget, metrics, score, difference, rank, stored } = row;
    return {
      ...{ model, task: null, arm: label, budget: budget.spec, requested: budget.requested, met: budget.met },
      ...{ metric: metrics.join(' '), rank, ...estimateOf(score), ...differenceOf(difference), stored },
      ...stabilityOf(stability.find(isOf(row))),
    };
  });
  return csvTable([...onTasks, ...overTasks]);
}

function estimateOf({ mean, sd, interval }: Estimate): Record<string, Value> {
  return { mean, sd, low: interval?.low ?? null, high: interval?.high ?? null };
}

function differenceOf(difference: Difference | null): Record<string, Value> {
  return {
    reference: difference?.to ?? null,
    difference: difference?.mean ?? null,
    differenceLow: difference?.interval?.low ?? null,
    differenceHigh: difference?.interval?.high ?? null,
    p: difference?.p ?? null,
    pHolm: difference?.pHolm ?? null,
  };
}

function stabilityOf(row: StabilityRow | undefined): Record<string, Value> {
  return {
    ranksOfSeedsCorrelation: row?.betweenSeeds.correlation ?? null,
    ranksOfSeedsJaccard: row?.betweenSeeds.jaccard ?? null,
    ranksOfTasksCorrelation: row?.betweenTasks.correlation ?? null,
    ranksOfTasksJaccard: row?.betweenTasks.jaccard ?? null,
    ranksVerdict: row?.verdict ?? null,
  };
}

/** Renders lines as CSV, with all their columns in order of first appearance. */
function csvTable(lines: readonly Readonly<Record<string, Value>>[]): string {
  const columns = [...new Set(lines.flatMap((line) => Object.keys(line)))];
  const data = lines.map((line) => columns.map((column) => withoutFormula(line[column] ?? null)));
  return `${Papa.unparse({ fields: columns, data }, { newline: '\r\n' })}\r\n`;
}

/** Matches text that a spreadsheet would treat as a formula, but not a scoped package name. */
const FORMULA = /^(?:[=+\-\t\r]|@(?![\w-]+\/[\w.-]+$))/;

/** Puts an apostrophe before text that looks like a formula. */
function withoutFormula(value: Value): Value {
  return typeof value === 'string' && FORMULA.test(value) ? `'${value}` : value;
}

function identityOf(result: TrialResult): Record<string, Value> {
  const { id, status, arm, method, model, task, seed, budget, learningRate, engine } = result;
  return {
    ...{ id, status, arm, method, model, task, seed, budget: budget.spec, requested: budget.requested },
    ...{ matchedOn: budget.matchedOn, met: budget.met, learningRate },
    ...{ executor: engine.executor, backend: engine.backend, threads: engine.threads, dtype: engine.dtype },
    error: result.status === 'failed' ? result.error.message : null,
  };
}

function measuresOf(result: TrialResult, metrics: readonly string[]): Record<string, Value> {
  if (result.status === 'failed') return {};
  return {
    scale: result.scale ?? null,
    selectedStep: result.selection.step,
    selectionMetric: result.selection.metric,
    ...result.parameters,
    ...result.time,
    ...result.memory,
    ...Object.fromEntries(metrics.map((metric) => [`metric.${metric}`, result.metrics[metric] ?? null])),
  };
}

/** Renders the report as Markdown: everything but its charts. */
export function renderMarkdown(results: readonly TrialResult[], summary: Summary): string {
  const verdict = findings(verdictParagraphs(summary));
  const blocks = [facts(scopeOf(results)), verdict, ...reportBlocks(results, summary)];
  return `# Which method at this budget?\n\n${inText(blocks).map(markdownOf).join('\n\n')}\n`;
}

/** The verdicts of a run as paragraphs of Markdown. */
export function verdictMarkdown(summary: Parameters<typeof verdictParagraphs>[0]): string {
  return markdownOf({ kind: 'findings', paragraphs: verdictParagraphs(summary) });
}

function markdownOf(block: TextBlock): string {
  switch (block.kind) {
    case 'heading':
      return `${'#'.repeat(block.level)} ${escaped(block.text)}`;
    case 'paragraph':
      return escaped(block.text);
    case 'findings':
      return block.paragraphs
        .map(([first = '', ...others]) => `**${escaped(first)}** ${escaped(others.join(' '))}`.trim())
        .join('\n\n');
    case 'facts':
      return block.facts.map(({ term, value }) => `- ${escaped(term)}: ${escaped(value)}`).join('\n');
    case 'list':
      return block.items.map((item) => `- ${escaped(item)}`).join('\n');
    case 'table':
      return markdownTable(block);
  }
}

function markdownTable({ columns, groups }: Table): string {
  const heads = [columns.map(({ title }) => escaped(title)), columns.map(() => '---')];
  const rows = groups.flatMap((group) => group.rows.map((cells) => cells.map((cell) => escaped(markdownCell(cell)))));
  return [...heads, ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

function markdownCell({ main, details }: Cell): string {
  return details.length === 0 ? main : `${main} (${details.join(', ')})`;
}

/** Escapes outside text, so that it cannot be markup, a link, a table cell or a new line. */
function escaped(text: string): string {
  return printable(text).replace(/[\\`*_[\]<>|#~&]/g, (character) =>
    character === '<' ? '&lt;' : character === '&' ? '&amp;' : `\\${character}`,
  );
}

/**
 * Renders the verdict, the results as a table for the terminal, and how to read it. No line is wider than `columns`.
 */
export function renderTable(summary: Summary, { columns = 120 }: { columns?: number } = {}): string {
  const { reference, against } = summary;
  const tables = grouped(summary.rows, ({ model }) => model).flatMap(([{ model }]): Block[] => {
    const overall = summary.overall.filter((row) => row.model === model);
    if (overall[0]) {
      const title = `mean over ${overall[0].tasks.length} tasks (${model})`;
      return [heading(title), overallTable(overall, [])];
    }
    const panels = panelsOf([], summary).filter((panel) => panel.model === model);
    return panels.flatMap((panel) => [heading(`${panel.task} (${model})`), resultsTable(panel, reference, [])]);
  });
  const blocks = [
    findings(verdictParagraphs(summary)),
    ...tables,
    ...(against ? twoRunsBlocks(against) : []),
    paragraph(readingOf(summary)),
  ];
  return inText(blocks)
    .flatMap((block) => lines(block, columns))
    .join('\n')
    .trimEnd();
}

/** Explains the table in one line. */
function readingOf({ reference, rows }: Summary): string {
  if (rows.length === 0) return 'No trial has finished.';
  return `Mean over seeds; against ${reference}: paired difference and its p. Every pair, charts and caveats are in the report.`;
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

/** The rows with full cells or, if these are too wide, brief ones and as many columns from the left as fit. */
function tableLines(table: Table, columns: number): string[] {
  const fits = (texts: readonly string[]): boolean => texts.every((text) => stringWidth(text) <= columns);
  let texts = aligned(table, table.columns.length, false);
  for (let kept = table.columns.length; kept > 1 && !fits(texts); kept--) texts = aligned(table, kept, true);
  return texts.map((text) => fitted(text, columns));
}

function aligned({ columns, groups }: Table, kept: number, isBrief: boolean): string[] {
  const header = columns.slice(0, kept).map(({ title }) => printable(title));
  const rows = groups.flatMap((group) => group.rows.map((row) => row.slice(0, kept)));
  const cells = rows.map((row) => row.map((cell) => lineCell(cell, isBrief)));
  return textTable(header, cells, []).trimEnd().split('\n');
}

function lineCell({ main, brief, details }: Cell, isBrief: boolean): string {
  // A cell with a brief form is important enough to show it on a line.
  const small = isBrief ? brief : details.join(', ');
  return printable(brief !== undefined && small !== undefined && small !== '' ? `${main} ${small}` : main);
}
