/*
 * npx tsx --conditions @peftjs/source tools/compare-peft/report.ts [--results DIR] [--page docs/benchmarks/peft-parity.md]
 *
 * Writes the table of all finished pairs into the page, between its marks, and the same numbers into summary.json.
 */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { geometricMean, max, mean, min } from 'simple-statistics';
import { settings, sides, tableTasks, type RunResult, type Side } from './settings.js';
import { scoresChart, type ScorePoint } from './scores-chart.js';
import { meanInterval } from './statistics.js';

/** The results of both sides for a task and seed. */
type Pair = Readonly<Record<Side, RunResult>>;

const NAMES: Readonly<Record<string, string>> = {
  cola: 'CoLA',
  mrpc: 'MRPC',
  rte: 'RTE',
  stsb: 'STS-B',
  sst2: 'SST-2, first 10,000 rows',
  matthewsCorrelation: 'Matthews correlation',
  f1: 'F1',
  accuracy: 'accuracy',
  pearson: 'Pearson',
};

const { values: flags } = parseArgs({
  options: {
    results: { type: 'string', default: 'docs/benchmarks/results/peft-parity' },
    page: { type: 'string', default: 'docs/benchmarks/peft-parity.md' },
  },
});
const pairs = await readPairs(flags.results);
const summary = summarise(pairs);
await writeFile(`${flags.results}/summary.json`, `${JSON.stringify(summary, null, 2)}\n`);
const page = await readFile(flags.page, 'utf8');
await writeFile(flags.page, withTable(page, `${tableOf(pairs)}\n\n${stateOf(pairs)}`));
await writeFile(`${flags.results}/scores.svg`, scoresChart(pairs.map(pointOf)));

async function readPairs(folder: string): Promise<Pair[]> {
  const files = new Set(await readdir(folder));
  const read = async (file: string) => JSON.parse(await readFile(`${folder}/${file}`, 'utf8')) as RunResult;
  const named = tableTasks.flatMap((task) => settings.seeds.map((seed) => `${task}-${seed}`));
  const complete = named.filter((name) => sides.every((side) => files.has(`${name}-${side}.json`)));
  return Promise.all(
    complete.map(async (name) => ({
      peftjs: await read(`${name}-peftjs.json`),
      peft: await read(`${name}-peft.json`),
    })),
  );
}

function summarise(all: readonly Pair[]) {
  const ratios = all.map(timeRatio);
  return {
    pairs: all.length,
    plannedPairs: tableTasks.length * settings.seeds.length,
    difference: meanInterval(all.map(difference)),
    firstLossesRelative: max(all.map(lossDistance)),
    // PEFT's wall time divided by that of peftjs
    timeRatio: { geometricMean: geometricMean(ratios), least: min(ratios), most: max(ratios) },
    peakRssBytes: Object.fromEntries(sides.map((side) => [side, max(all.map((pair) => pair[side].peakRssBytes))])),
  };
}

function tableOf(all: readonly Pair[]): string {
  const head = [
    '| task | metric | seeds | peftjs | PEFT | difference | first losses, relative | wall time, s: peftjs / PEFT | ratio | peak memory, GB: peftjs / PEFT |',
    '| --- | --- | --: | --: | --: | --: | --: | --: | --: | --: |',
  ];
  const rows = tableTasks
    .map((task) => all.filter(({ peft }) => peft.task === task))
    .filter(({ length }) => length > 0);
  return [...head, ...rows.map(taskRow), totalRow(all)].join('\n');
}

/** A sentence on how much of the plan has run, and on which machine. */
function stateOf(all: readonly Pair[]): string {
  const runs = all.flatMap(({ peftjs, peft }) => [peftjs, peft]);
  const loads = runs.flatMap(({ load }) => [load.before, load.after]);
  const load = [min(loads), max(loads)].map((value) => value.toFixed(1)).join(' to ');
  const machines = [...new Set(runs.map(({ cpu }) => cpu))].join(', ');
  const threads = [...new Set(runs.map((run) => run.threads))].join(', ');
  const planned = tableTasks.length * settings.seeds.length;
  return `${all.length} of ${planned} pairs have run. Processor: ${machines}; threads of a run: ${threads}; load of the machine: ${load}.`;
}

function pointOf({ peftjs, peft }: Pair): ScorePoint {
  return { task: NAMES[peft.task] ?? peft.task, peftjs: score(peftjs), peft: score(peft) };
}

function taskRow(ofTask: readonly Pair[]): string {
  const [first] = ofTask as readonly [Pair, ...Pair[]];
  const { task, primaryMetric } = first.peft;
  const metric = NAMES[primaryMetric] ?? primaryMetric;
  const scores = sides.map((side) => mean(ofTask.map((pair) => score(pair[side]))).toFixed(4));
  return row([NAMES[task] ?? task, metric, String(ofTask.length), ...scores, ...shared(ofTask)]);
}

function totalRow(all: readonly Pair[]): string {
  const { low, high } = meanInterval(all.map(difference));
  const [centre, ...rest] = shared(all);
  const interval = all.length < 2 ? '' : ` (95 %: ${signed(low)} to ${signed(high)})`;
  return row(['**all**', '', `${all.length} pairs`, '', '', `**${centre}${interval}**`, ...rest]);
}

/** The difference, the distance of the first losses, wall times, their ratio and memory, over some pairs. */
function shared(some: readonly Pair[]): string[] {
  const times = sides.map((side) => mean(some.map((pair) => pair[side].seconds.total)).toFixed(0));
  const memory = sides.map((side) => (max(some.map((pair) => pair[side].peakRssBytes)) / 1e9).toFixed(2));
  return [
    signed(mean(some.map(difference))),
    max(some.map(lossDistance)).toExponential(1),
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
 * Replaces the table between the page's marks, which Prettier leaves unformatted.
 * @throws RangeError if the page has no marks.
 */
function withTable(text: string, table: string): string {
  const [start, end] = ['<!-- prettier-ignore-start -->', '<!-- prettier-ignore-end -->'];
  const [before, rest] = text.split(start);
  const after = rest?.split(end)[1];
  if (before === undefined || after === undefined) throw new RangeError(`${flags.page} has no marks for the table`);
  return `${before}${start}\n\n${table}\n\n${end}${after}`;
}
