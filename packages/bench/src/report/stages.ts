import { mean } from 'simple-statistics';
import { sizingTable, type DoneTrial, type SparsityStage, type TrialSizing } from '@peftjs/cli/results';
import { cell, figure, paragraph, table, type Block, type Cell, type Column, type Table } from './blocks.js';
import { colorBy, dashBy, HEIGHT, layered, layerFrom, quantity, WIDTH, type Chart } from './charts/draw.js';
import { bySeries, type Panel, type Series } from './contents.js';
import { formatCount, formatInterval, formatMetric, formatShare, formatSmall } from '@peftjs/cli/format';
import { drawnAs } from './palette.js';
import { estimate, type Estimate } from './statistics/estimates.js';

/** The results of one stage of the sparsifying schedule, over the seeds of an arm. */
export interface StageSummary {
  /** The stage, from 0. */
  readonly stage: number;
  /** The level of the method's sparsity. */
  readonly level: number;
  /** The number of seeds. */
  readonly seeds: number;
  /** The share of gates that is zero or removed, averaged over seeds. */
  readonly sparsity: number;
  /** Stored parameters, averaged over seeds. */
  readonly stored: number;
  /** The primary metric on a sample of the training rows, averaged over seeds. */
  readonly trainMetric: number;
  /** The primary metric on the reported rows, averaged over seeds. */
  readonly devMetric: number;
  /** The training metric in percent of the first stage's, over seeds with a finite value; null if none has one. */
  readonly memorization: Estimate | null;
  /** The reported metric in percent of the first stage's, over seeds with a finite value; null if none has one. */
  readonly generalization: Estimate | null;
}

/** Summarises the stages of trials that differ only in their seed; empty for trials without stages. */
export function stageSummaries(trials: readonly DoneTrial[]): StageSummary[] {
  const schedules = trials.flatMap(({ stages }) => (stages ? [stages] : []));
  const count = Math.min(...schedules.map(({ length }) => length));
  if (schedules.length === 0) return [];
  return Array.from({ length: count }, (_, stage) =>
    summaryOf(schedules.map((stages) => stages[stage]).filter((record) => record !== undefined)),
  );
}

function summaryOf(records: readonly SparsityStage[]): StageSummary {
  const { stage = 0, level = 0 } = records[0] ?? {};
  const meanOf = (pick: (record: SparsityStage) => number): number => {
    const values = records.map(pick);
    return values.includes(Infinity) ? Infinity : mean(values); // simple-statistics' compensated sum would turn Infinity into NaN
  };
  return {
    stage,
    level,
    seeds: records.length,
    sparsity: meanOf(({ sparsity }) => sparsity),
    stored: meanOf(({ storedParameters }) => storedParameters),
    trainMetric: meanOf(({ trainMetric }) => trainMetric),
    devMetric: meanOf(({ devMetric }) => devMetric),
    memorization: estimateOf(records, 'memorization'),
    generalization: estimateOf(records, 'generalization'),
  };
}

function estimateOf(records: readonly SparsityStage[], quantity: 'memorization' | 'generalization'): Estimate | null {
  const values = records.flatMap((record) => record[quantity] ?? []).filter(Number.isFinite);
  return values.length === 0 ? null : estimate(values);
}

/** A table of stages, with one row per stage; `metric` is the primary one. */
function stageTable(stages: readonly StageSummary[], metric: string): Table {
  const columns: readonly Column<StageSummary>[] = [
    { title: 'stage', cell: ({ stage }) => cell(String(stage)) },
    { title: 'level', cell: ({ level }) => cell(formatSmall(level)) },
    { title: 'sparsity', cell: ({ sparsity }) => cell(formatShare(sparsity)) },
    { title: 'stored', cell: ({ stored }) => cell(formatCount(stored)) },
    { title: 'memorization, %', cell: ({ memorization }) => percentCell(memorization) },
    { title: 'generalization, %', cell: ({ generalization }) => percentCell(generalization) },
    { title: `${metric}, training rows`, cell: ({ trainMetric }) => cell(formatMetric(trainMetric)) },
    { title: `${metric}, reported rows`, cell: ({ devMetric }) => cell(formatMetric(devMetric)) },
  ];
  return table(columns, stages, 'stages');
}

/** What remains after the last stage, in a sentence. */
function lastStageSentence(stages: readonly StageSummary[]): string {
  const [first, last] = [stages[0], stages.at(-1)];
  if (!first || !last) return '';
  const kept = [
    ...(last.memorization ? [`${formatPercent(last.memorization.mean)} % of the memorization`] : []),
    ...(last.generalization ? [`${formatPercent(last.generalization.mean)} % of the generalization`] : []),
  ];
  const left = `The last stage leaves ${formatCount(last.stored)} of ${formatCount(first.stored)} stored parameters`;
  return kept.length === 0 ? `${left}.` : `${left}, ${kept.join(' and ')}.`;
}

function percentCell(value: Estimate | null): Cell {
  if (!value) return cell('–');
  const { mean, interval } = value;
  const isSpread = interval !== null && interval.low < interval.high;
  return cell(formatPercent(mean), ...(isSpread ? [formatInterval(interval, formatPercent)] : []));
}

function formatPercent(value: number): string {
  return value.toFixed(1);
}

/** Figures of every arm in stages: memorization and generalization as its ranks are pruned. */
export function stageFigures({ title, metric, entries }: Panel): Block[] {
  return bySeries(entries).flatMap(({ row, trials }) => {
    const stages = stageSummaries(trials);
    if (stages.length === 0) return [];
    const chart = (): Chart => stageChart(`${row.label} on ${title}`, stages);
    return figure(`Memorization and generalization: ${row.label}`, captionOf(stages), chart, {
      series: STAGE_SERIES,
      blocks: [{ ...paragraph(lastStageSentence(stages)), only: 'text' }, stageTable(stages, metric)],
    });
  });
}

function captionOf(stages: readonly StageSummary[]): string {
  const seeds = Math.max(...stages.map((stage) => stage.seeds));
  const spread = seeds > 1 ? `, mean over ${seeds} seeds with its 95 % interval` : ', one seed';
  return `What it still knows of training rows and of the reported ones, in percent of the first stage${spread}. ${lastStageSentence(stages)}`;
}

/** The stages of a trial that chose its size, from large to small, with the chosen one marked. */
function sizingBlock(sizing: TrialSizing): Table {
  const { titles, rows } = sizingTable(sizing);
  const columns = titles.map((title, at): Column<readonly string[]> => ({ title, cell: (row) => cell(row[at] ?? '') }));
  return table(columns, rows, 'stages');
}

/** Figures of every arm that chose its size: memorization and generalization as it shrank, and its choice. */
export function sizingFigures({ title, entries }: Panel): Block[] {
  return bySeries(entries).flatMap(({ row: { label }, trials }) => {
    const sized = trials.flatMap(({ seed, sizing }) => (sizing ? [{ seed, sizing }] : []));
    if (sized.length === 0) return [];
    const blocks = sized.flatMap(({ seed, sizing }): Block[] => [
      paragraph(`Seed ${seed}: ${sizing.reason}`),
      { ...sizingBlock(sizing), only: 'text' },
    ]);
    const caption =
      'What it still knows of training rows and of the selection rows as it shrinks, in percent of the dense adapter, a line for each seed. The chosen stage is ringed.';
    const chart = (): Chart => sizingChart(`${label} on ${title}`, sized);
    return figure(`The size that ${label} chose`, caption, chart, { series: STAGE_SERIES, blocks });
  });
}

const MEMORIZATION: Series = { label: 'memorization', look: { hue: 1, shape: 0 } };
const GENERALIZATION: Series = { label: 'generalization', look: { hue: 2, shape: 1 } };

/** The curves of both charts. */
const STAGE_SERIES: readonly Series[] = [MEMORIZATION, GENERALIZATION];

/** What an adapter of one size still knows. */
interface Kept<Value> {
  readonly stored: number;
  readonly memorization: Value | null;
  readonly generalization: Value | null;
}

/**
 * Memorization and generalization, in percent of the first stage, against stored parameters, which decrease from left
 * to right.
 */
function stageChart(title: string, stages: readonly Kept<Estimate>[]): Chart {
  const points = pointsOf(stages).map(({ series, stored, value: { mean, interval } }) => ({
    ...{ series, stored, mean, low: interval?.low ?? mean, high: interval?.high ?? mean },
  }));
  const x = { domain: [0, 1.03 * Math.max(1, ...stages.map(({ stored }) => stored))] };
  // A range that holds all curves, and is wide enough that noise does not look like a drop.
  const low = Math.min(90, ...points.map((point) => point.low));
  const high = Math.max(102, ...points.map((point) => point.high));
  const room = 0.04 * (high - low);
  const y = { domain: [low - room, high + room], nice: false };
  const color = colorBy(STAGE_SERIES);
  return chartOf(`: ${title}`, { of: 'the first stage', x, y: { scale: y } }, points, [
    layerFrom(
      [{ mean: 100 }],
      { type: 'rule', color: 'var(--soft)', strokeDash: [3, 3] },
      { y: quantity('mean'), x: { value: 0 }, x2: { value: 'width' } },
    ),
    { mark: { type: 'area', opacity: 0.16 }, encoding: { y: quantity('low'), y2: { field: 'high' }, color } },
    {
      mark: { type: 'line', strokeWidth: 2, strokeJoin: 'round' },
      encoding: { y: quantity('mean'), color, strokeDash: dashBy(STAGE_SERIES) },
    },
    ...STAGE_SERIES.map((series) => ({ ...pointLayer(series, 46), encoding: { y: quantity('mean') } })),
  ]);
}

/** The same in percent of the dense adapter, with a line for each trial that chose its size, and a ring at its choice. */
function sizingChart(title: string, trials: readonly { readonly seed: number; readonly sizing: TrialSizing }[]): Chart {
  const points = trials.flatMap(({ seed, sizing: { stages, chosen } }) =>
    stages.flatMap((stage) =>
      pointsOf([{ ...stage, stored: stage.storedParameters }])
        .filter(({ stored, value }) => stored > 0 && Number.isFinite(value))
        .map((point) => ({ ...point, seed: `${point.series} ${seed}`, chosen: stage.stage === chosen })),
    ),
  );
  const sizes = points.map(({ stored }) => stored);
  const x = { type: 'log', domain: [0.9 * Math.min(...sizes), 1.1 * Math.max(...sizes)] };
  const layers = STAGE_SERIES.flatMap((series) => {
    const own = { filter: { field: 'series', equal: series.label } };
    const { color } = drawnAs(series.look);
    const ring = { type: 'point', filled: false, opacity: 1, size: 190, strokeWidth: 2, color, shape: 'circle' };
    return [
      { transform: [own], mark: { type: 'line', color, strokeWidth: 1.6 }, encoding: { detail: { field: 'seed' } } },
      pointLayer(series, 40),
      { transform: [own, { filter: { field: 'chosen', equal: true } }], mark: ring },
    ];
  });
  const y = { field: 'value', scale: { zero: false } };
  return chartOf(`, and the chosen size: ${title}`, { of: 'the dense adapter', x, y }, points, layers);
}

/** A point of each curve for every size with a value. */
function pointsOf<Value>(sizes: readonly Kept<Value>[]): { series: string; stored: number; value: Value }[] {
  return sizes.flatMap(({ stored, memorization, generalization }) => [
    ...(memorization === null ? [] : [{ series: MEMORIZATION.label, stored, value: memorization }]),
    ...(generalization === null ? [] : [{ series: GENERALIZATION.label, stored, value: generalization }]),
  ]);
}

function pointLayer({ label, look }: Series, size: number): object {
  const { color, outline } = drawnAs(look);
  return {
    transform: [{ filter: { field: 'series', equal: label } }],
    mark: { type: 'point', filled: true, opacity: 1, size, color, shape: outline },
  };
}

function chartOf(
  end: string,
  { of, x, y }: { readonly of: string; readonly x: object; readonly y: object },
  values: readonly object[],
  layers: readonly object[],
): Chart {
  const encoding = {
    x: quantity('stored', {
      title: 'stored parameters',
      scale: { ...x, reverse: true, nice: false },
      axis: { format: '.3~s', tickCount: 6 },
    }),
    y: { type: 'quantitative', title: `% of ${of}`, ...y },
  };
  return {
    description: `Memorization and generalization in percent of ${of} against stored parameters${end}`,
    spec: layered({ width: WIDTH, height: HEIGHT }, encoding, layers, { values }),
  };
}
