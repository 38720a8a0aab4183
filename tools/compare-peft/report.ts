import { existsSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { geometricMean, max, mean, min } from 'simple-statistics';
import { sides, tableTasks, taskSettings, type RunResult, type Settings, type Side } from './settings.js';
import { meanInterval } from './statistics.js';

/** The results of both sides for a task and seed. */
type Pair = Readonly<Record<Side, RunResult>>;

const NAMES: Readonly<Record<string, string>> = {
  cola: 'CoLA',
  mrpc: 'MRPC',
  rte: 'RTE',
  stsb: 'STS-B',
  sst2: 'SST-2',
  matthewsCorrelation: 'Matthews correlation',
  f1: 'F1',
  accuracy: 'accuracy',
  pearson: 'Pearson',
};

/** The files of a report: the folder of the results, and a page with marks for the table, which need not exist. */
interface ReportFiles {
  readonly results: string;
  readonly page: string;
}

/**
 * Writes the numbers of all finished pairs into summary.json, and their table into the page, or on stdout without one.
 */
export async function report(settings: Settings, { results, page }: ReportFiles): Promise<void> {
  const pairs = await readPairs(settings, results);
  if (pairs.length === 0) return;
  const table = `${tableOf(settings, pairs)}\n\n${stateOf(settings, pairs)}`;
  await writeFile(`${results}/summary.json`, `${JSON.stringify(summarise(settings, pairs), null, 2)}\n`);
  if (existsSync(page)) await writeFile(page, withTable(await readFile(page, 'utf8'), table, page));
  else process.stdout.write(`${table}\n`);
}

/** The tasks and seeds of the table. */
function plannedPairs(settings: Settings): string[] {
  return tableTasks(settings).flatMap((task) => settings.seeds.map((seed) => `${task}-${seed}`));
}

async function readPairs(settings: Settings, folder: string): Promise<Pair[]> {
  const files = new Set(await readdir(folder));
  const read = async (file: string) => JSON.parse(await readFile(`${folder}/${file}`, 'utf8')) as RunResult;
  const complete = plannedPairs(settings).filter((name) => sides.every((side) => files.has(`${name}-${side}.json`)));
  return Promise.all(
    complete.map(async (name) => ({
      peftjs: await read(`${name}-peftjs.json`),
      peft: await read(`${name}-peft.json`),
    })),
  );
}

function summarise(settings: Settings, all: readonly Pair[]) {
  const ratios = all.map(timeRatio);
  return {
    pairs: all.length,
    plannedPairs: plannedPairs(settings).length,
    difference: meanInterval(all.map(difference)),
    ...(settings.dropout === 0 && { firstLossesRelative: max(all.map(lossDistance)) }),
    // PEFT's wall time divided by that of peftjs
    timeRatio: { geometricMean: geometricMean(ratios), least: min(ratios), most: max(ratios) },
    peakRssBytes: Object.fromEntries(sides.map((side) => [side, max(all.map((pair) => pair[side].peakRssBytes))])),
  };
}

function tableOf(settings: Settings, all: readonly Pair[]): string {
  const head = [
    '| task | metric | seeds | peftjs | PEFT | difference | first losses, relative | wall time, s: peftjs / PEFT | ratio | peak memory, GB: peftjs / PEFT |',
    '| --- | --- | --: | --: | --: | --: | --: | --: | --: | --: |',
  ];
  const rows = tableTasks(settings)
    .map((task) => all.filter(({ peft }) => peft.task === task))
    .filter(({ length }) => length > 0);
  return [...head, ...rows.map((ofTask) => taskRow(settings, ofTask)), totalRow(settings, all)].join('\n');
}

/** A sentence on how much of the plan has run, and on which machine. */
function stateOf(settings: Settings, all: readonly Pair[]): string {
  const runs = all.flatMap(({ peftjs, peft }) => [peftjs, peft]);
  const loads = runs.flatMap(({ load }) => [load.before, load.after]);
  const load = [min(loads), max(loads)].map((value) => value.toFixed(1)).join(' to ');
  const machines = [...new Set(runs.map(({ cpu }) => cpu))].join(', ');
  const threads = [...new Set(runs.map((run) => run.threads))].join(', ');
  return `${all.length} of ${plannedPairs(settings).length} pairs have run. Processor: ${machines}; threads of a run: ${threads}; load of the machine: ${load}.`;
}

function taskRow(settings: Settings, ofTask: readonly Pair[]): string {
  const [first] = ofTask as readonly [Pair, ...Pair[]];
  const { task, primaryMetric } = first.peft;
  const metric = NAMES[primaryMetric] ?? primaryMetric;
  const scores = sides.map((side) => mean(ofTask.map((pair) => score(pair[side]))).toFixed(4));
  const { firstRows } = taskSettings(settings, task);
  const rows = firstRows === undefined ? '' : `, first ${firstRows.toLocaleString('en')} rows`;
  return row([
    ...[`${NAMES[task] ?? task}${rows}`, metric, String(ofTask.length)],
    ...scores,
    ...shared(settings, ofTask),
  ]);
}

function totalRow(settings: Settings, all: readonly Pair[]): string {
  const { low, high } = meanInterval(all.map(difference));
  const [centre, ...rest] = shared(settings, all);
  const interval = all.length < 2 ? '' : ` (95 %: ${signed(low)} to ${signed(high)})`;
  return row(['**all**', '', `${all.length} pairs`, '', '', `**${centre}${interval}**`, ...rest]);
}

/**
 * The difference, the distance of the first losses (none with dropout, whose masks differ), wall times, their ratio and
 * memory, over some pairs.
 */
function shared({ dropout }: Settings, some: readonly Pair[]): string[] {
  const times = sides.map((side) => mean(some.map((pair) => pair[side].seconds.total)).toFixed(0));
  const memory = sides.map((side) => (max(some.map((pair) => pair[side].peakRssBytes)) / 1e9).toFixed(2));
  return [
    signed(mean(some.map(difference))),
    dropout === 0 ? max(some.map(lossDistance)).toExponential(1) : '',
    times.join(' / '),
    geometricMean(some.map(timeRatio)).toFixed(2),
    memory.join(' / '),
  ];
}

function row(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`;
}

function score({ metrics, primaryMetric }: RunResult): number {
  return metrics[primaryMetric] ?? NaN;
}

function difference({ peftjs, peft }: Pair): number {
  return score(peftjs) - score(peft);
}

function timeRatio({ peftjs, peft }: Pair): number {
  return peft.seconds.total / peftjs.seconds.total;
}

/** The largest relative difference of the recorded losses. */
function lossDistance({ peftjs, peft }: Pair): number {
  return max(peft.losses.map((loss, step) => Math.abs((peftjs.losses[step] ?? NaN) - loss) / loss));
}

function signed(value: number): string {
  return `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(5)}`;
}

/**
 * Replaces the table between the page's marks, which oxfmt leaves unformatted.
 * @throws RangeError if the page has no marks.
 */
function withTable(text: string, table: string, page: string): string {
  const [start, end] = ['<!-- oxfmt-ignore-start -->', '<!-- oxfmt-ignore-end -->'];
  const [before, rest] = text.split(start);
  const after = rest?.split(end)[1];
  if (before === undefined || after === undefined) throw new RangeError(`${page} has no marks for the table`);
  return `${before}${start}\n\n${table}\n\n${end}${after}`;
}
