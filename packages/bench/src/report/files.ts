import Papa from 'papaparse';
import { diskStorage, type Storage } from '@peftjs/core';
import { writeJson, type TrialResult } from '@peftjs/cli/results';
import { renderMarkdown } from './markdown.js';
import { renderReport } from './page.js';
import type { Estimate } from './statistics/estimates.js';
import type { Difference, SummaryRow } from './statistics/rows.js';
import type { StabilityRow } from './statistics/stability.js';
import type { Summary } from './statistics/summary.js';

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
 * The stability of rank choices is in the lines over the tasks, or in those of the task if there is only one.
 */
export function renderSummaryCsv({ rows, overall, stability }: Summary): string {
  type Choice = Pick<SummaryRow, 'model' | 'label' | 'budget'>;
  const choiceOf = ({ model, label, budget }: Choice): StabilityRow | undefined =>
    stability.find((row) => row.model === model && row.label === label && row.budget.spec === budget.spec);
  const severalTasks = new Set(rows.map(({ task }) => task)).size > 1;
  const onTasks = rows.map((row) => {
    const { model, task, label, method, budget, metric, score, difference, rank, seeds } = row;
    return {
      ...{ model, task, arm: label, method, budget: budget.spec, requested: budget.requested, met: budget.met },
      ...{ metric, seeds: seeds.length, rank, ...estimateOf(score), ...differenceOf(difference) },
      ...{ learningRate: row.learningRate, ...row.parameters, ...row.time, peakRssBytes: row.peakRssBytes },
      ...stabilityOf(severalTasks ? undefined : choiceOf(row)),
    };
  });
  const overTasks = overall.map((row) => {
    const { model, label, budget, metrics, score, difference, rank, stored } = row;
    return {
      ...{ model, task: null, arm: label, budget: budget.spec, requested: budget.requested, met: budget.met },
      ...{ metric: metrics.join(' '), rank, ...estimateOf(score), ...differenceOf(difference), stored },
      ...stabilityOf(choiceOf(row)),
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
    selectedStep: result.selection.step,
    selectionMetric: result.selection.metric,
    ...result.parameters,
    ...result.time,
    ...result.memory,
    ...Object.fromEntries(metrics.map((metric) => [`metric.${metric}`, result.metrics[metric] ?? null])),
  };
}
