import type { DoneTrial, TrialResult } from '@peftjs/cli/results';
import { counted, formatCount, formatMebibytes, formatSmall, formatValue } from '@peftjs/cli/format';
import { grouped } from './statistics/comparisons.js';

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
