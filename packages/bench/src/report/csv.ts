import type { TrialResult } from '../results/schema.js';

type Value = string | number | boolean | null;

/** One line per trial: what a spreadsheet or a data frame needs. */
export function renderCsv(results: readonly TrialResult[]): string {
  const metrics = [
    ...new Set(results.flatMap((result) => (result.status === 'done' ? Object.keys(result.metrics) : []))),
  ].sort();
  const lines = results.map((result) => ({ ...identityOf(result), ...measuresOf(result, metrics) }));
  const columns = [...new Set(lines.flatMap((line) => Object.keys(line)))];
  const table = [
    columns,
    ...lines.map((line: Readonly<Record<string, Value>>) => columns.map((column) => line[column] ?? null)),
  ];
  return table.map((row) => `${row.map(csvField).join(',')}\r\n`).join('');
}

function identityOf(result: TrialResult): Record<string, Value> {
  const { id, status, arm, method, model, task, seed, budget, learningRate, engine } = result;
  return {
    ...{
      id,
      status,
      arm,
      method,
      model,
      task,
      seed,
      budget: budget.spec,
      requested: budget.requested,
      met: budget.met,
      learningRate,
    },
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

/** What a spreadsheet would take for a formula; a scoped package name is none. */
const FORMULA = /^(?:[=+\-\t\r]|@(?![\w-]+\/[\w.-]+$))/;

/** A field by RFC 4180; text that looks like a formula gets an apostrophe. */
function csvField(value: Value): string {
  if (typeof value !== 'string') return value === null ? '' : String(value);
  const text = FORMULA.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
