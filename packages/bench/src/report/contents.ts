import type { DoneTrial, TrialResult } from '@peftjs/cli/results';
import { looksOf, NEUTRAL, type Look } from './palette.js';
import { grouped } from './statistics/comparisons.js';
import type { SummaryRow } from './statistics/rows.js';
import type { Summary } from './statistics/summary.js';
import { counted, formatCount, formatMebibytes, formatSmall, formatValue } from '@peftjs/cli/format';

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

/** A term and its value. */
export interface Fact {
  /** The term. */
  readonly term: string;
  /** The value, formatted. */
  readonly value: string;
}

/** The scope of a run: models, tasks, methods, budgets, seeds and trials. */
export function scopeOf(results: readonly TrialResult[]): Fact[] {
  const done = results.filter(({ status }) => status === 'done').length;
  const values: Readonly<Record<string, (result: TrialResult) => string | null>> = {
    model: ({ model }) => model,
    task: ({ task }) => task,
    method: ({ arm }) => arm,
    budget: ({ budget }) => (budget.requested === null ? null : budget.spec),
    seed: ({ seed }) => String(seed),
  };
  const scope = Object.entries(values).map(([noun, pick]) =>
    valuesOf(
      noun,
      results.flatMap((result) => pick(result) ?? []),
    ),
  );
  const trials = done === results.length ? `${done}, all finished` : `${done} of ${results.length} finished`;
  return [...scope, { term: 'trials', value: trials }].filter(({ value }) => value !== '');
}

/** The settings behind all numbers. Where trials differ, the value says which trials have it. */
export function protocolOf(done: readonly DoneTrial[]): Fact[] {
  const protocolKeys = distinct(done.flatMap(({ protocol }) => Object.keys(protocol))).filter(
    (key) => key !== 'data' && key !== 'learningRate' && key !== 'stages',
  );
  return [
    fact('selected by', done, ({ selection }) => `${selection.metric} on the ${selection.split} split`),
    ...protocolKeys.map((key) => fact(words(key), done, ({ protocol }) => formatValue(protocol[key] ?? '–'))),
    ...(done.some(({ protocol }) => protocol.stages) ? [fact('stages', done, stagesOf)] : []),
    fact('learning rate', done, ({ learningRate }) => formatSmall(learningRate)),
    fact('budget', done, ({ budget }) =>
      budget.requested === null
        ? 'none'
        : `${budget.spec}: ${formatCount(budget.requested)} ${budget.matchedOn} parameters ± ${formatValue(100 * budget.tolerance)} %`,
    ),
    { term: 'seeds', value: distinct(done.map(({ seed }) => String(seed))).join(', ') },
    fact(
      'engine',
      done,
      ({ engine }) => `${engine.executor} on ${engine.backend}, ${engine.dtype}, ${counted(engine.threads, 'thread')}`,
    ),
    { term: 'peak memory', value: formatMebibytes(Math.max(0, ...done.map(({ memory }) => memory.peakRssBytes))) },
    { term: 'run', value: period(done) },
  ];
}

function stagesOf({ protocol: { stages } }: DoneTrial): string {
  if (!stages) return 'one';
  const { levels, stageEpochs, memorizationRows } = stages;
  const shown = levels.map(formatSmall).join(', ');
  return `${levels.length} at levels ${shown}; ${stageEpochs} epochs in each after the first; memorization on ${formatCount(memorizationRows)} training rows at most`;
}

/** The configuration of every arm. */
export function configurationsOf(done: readonly DoneTrial[]): Fact[] {
  return grouped(done, ({ arm }) => arm).map(([first, ...rest]) =>
    fact(first.arm, [first, ...rest], ({ methodConfig }) => inline(methodConfig)),
  );
}

/** Versions of everything that affects the numbers. */
export function versionsOf(done: readonly DoneTrial[]): Fact[] {
  return distinct(done.flatMap(({ versions }) => Object.keys(versions))).map((key) =>
    fact(key, done, ({ versions }) => String(versions[key] ?? '–')),
  );
}

/** Sources and licences of the data, by task. */
export function sourcesOf(done: readonly DoneTrial[]): Fact[] {
  const sources = done.map(({ task, protocol: { data, maxTokens } }): Fact => {
    const lost = lostRows(data, maxTokens);
    const value = `${data.source}; licence: ${data.licence}; rows: ${countsOf(data.rows)}${lost && `; ${lost}`}`;
    return { term: task, value };
  });
  return grouped(sources, (source) => source).map(([source]) => source);
}

function countsOf(rows: Readonly<Record<string, number>>): string {
  return Object.entries(rows)
    .map(([split, count]) => `${formatCount(count)} ${split}`)
    .join(', ');
}

function lostRows({ truncated = {}, leftOut = {} }: DoneTrial['protocol']['data'], maxTokens: unknown): string {
  const some = (rows: Readonly<Record<string, number>>): Record<string, number> =>
    Object.fromEntries(Object.entries(rows).filter(([, count]) => count > 0));
  const [cut, out] = [countsOf(some(truncated)), countsOf(some(leftOut))];
  return [
    ...(cut === '' ? [] : [`rows longer than ${formatValue(maxTokens)} tokens were cut: ${cut}`]),
    ...(out === '' ? [] : [`rows left out, with nothing to learn in ${formatValue(maxTokens)} tokens: ${out}`]),
  ].join('; ');
}

/** One value for all trials, or each value with its trials, which are named as briefly as possible. */
function fact(term: string, trials: readonly DoneTrial[], pick: (trial: DoneTrial) => string): Fact {
  const groups = grouped(trials, pick);
  const [first] = groups;
  if (!first || groups.length === 1) return { term, value: first ? pick(first[0]) : '–' };
  const namings: ((trial: DoneTrial) => string)[] = [
    ({ arm }) => arm,
    ({ task }) => task,
    ({ budget }) => budget.spec,
    ({ arm, budget }) => `${arm} at ${budget.spec}`,
    ({ arm, task, budget }) => `${arm} at ${budget.spec} on ${task}`,
  ];
  const separates = (naming: (trial: DoneTrial) => string): boolean =>
    groups.flatMap((group) => distinct(group.map(naming))).length === distinct(trials.map(naming)).length;
  const naming = namings.find(separates) ?? (({ id }: DoneTrial) => id);
  return {
    term,
    value: groups.map((group) => `${pick(group[0])} (${distinct(group.map(naming)).join(', ')})`).join('; '),
  };
}

function inline(config: DoneTrial['methodConfig']): string {
  const fields = Object.entries(config).map(([key, value]) => `${key} ${formatValue(value)}`);
  return fields.length === 0 ? 'nothing to set' : fields.join(', ');
}

function period(done: readonly DoneTrial[]): string {
  const dates = done.flatMap(({ startedAt, finishedAt }) => [startedAt, finishedAt]).sort();
  return `${minute(dates[0])} to ${minute(dates.at(-1))}`;
}

function minute(date: string | undefined): string {
  return date === undefined ? '–' : `${date.slice(0, 16).replace('T', ' ')} UTC`;
}

/** Splits a key into words: `selectedOn` becomes `selected on`. */
function words(key: string): string {
  return key.replace(/([a-z])([A-Z])/g, (_, before: string, after: string) => `${before} ${after.toLowerCase()}`);
}

/** The values, or their number if there are many. */
function valuesOf(noun: string, all: readonly string[]): Fact {
  const values = distinct(all);
  const term = values.length === 1 ? noun : `${noun}s`;
  return { term, value: values.length <= 5 ? values.join(', ') : String(values.length) };
}

function distinct(values: readonly string[]): string[] {
  return [...new Set(values)];
}
