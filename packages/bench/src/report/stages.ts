import { mean } from 'simple-statistics';
import { sizingTable, type DoneTrial, type SparsityStage, type TrialSizing } from '@peftjs/cli/results';
import { cell, figure, paragraph, table, type Block, type Cell, type Column, type Table } from './blocks.js';
import { colorBy, dashBy, HEIGHT, layered, layerFrom, quantity, WIDTH, type Chart } from './charts/draw.js';
import { bySeries, type Panel, type Series } from './contents.js';
import { formatCount, formatInterval, formatMetric, formatShare, formatSmall } from '@peftjs/cli/format';
import { drawnAs } from './palette.js';
import type { Estimate } from './statistics/estimates.js';
import { estimateOf, ofValues } from './statistics/resampling.js';

/** The results of one stage of the sparsifying schedule: means over the seeds of an arm. */
export interface StageSummary extends Pick<
  SparsityStage,
  'stage' | 'level' | 'sparsity' | 'storedParameters' | 'trainMetric' | 'devMetric'
> {
  /** The number of seeds. */
  readonly seeds: number;
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
    storedParameters: meanOf(({ storedParameters }) => storedParameters),
    trainMetric: meanOf(({ trainMetric }) => trainMetric),
    devMetric: meanOf(({ devMetric }) => devMetric),
    memorization: percentOf(records, 'memorization'),
    generalization: percentOf(records, 'generalization'),
  };
}

function percentOf(records: readonly SparsityStage[], quantity: 'memorization' | 'generalization'): Estimate | null {
  const values = records.flatMap((record) => record[quantity] ?? []).filter(Number.isFinite);
  return values.length === 0 ? null : estimateOf([ofValues(values)]);
}

/** Figures of every arm in stages, scheduled or chosen: memorization and generalization as it shrinks. */
export function stageFigures({ title, metric, entries }: Panel): Block[] {
  return bySeries(entries).flatMap(({ row: { label }, trials }) => {
    const subject = `${label} on ${title}`;
    const stages = stageSummaries(trials);
    const sized = trials.flatMap(({ seed, sizing }) => (sizing ? [{ seed, sizing }] : []));
    return [
      ...(stages.length > 0 ? [scheduleFigure(label, subject, stages, metric)] : []),
      ...(sized.length > 0 ? [sizingFigure(label, subject, sized)] : []),
    ];
  });
}

/** The means over the seeds of an arm with a sparsifying schedule. */
function scheduleFigure(label: string, subject: string, stages: readonly StageSummary[], metric: string): Block {
  const seeds = Math.max(...stages.map((stage) => stage.seeds));
  const spread = seeds > 1 ? `, mean over ${seeds} seeds with its 95 % interval` : ', one seed';
  const last = lastStageSentence(stages);
  const caption = `What it still knows of training rows and of the reported ones, in percent of the first stage${spread}. ${last}`;
  const points = stages.flatMap((stage) =>
    pointsOf(stage).map(({ series, value: { mean: value, interval } }) => ({
      ...{ series, curve: series, stored: stage.storedParameters, value, chosen: false },
      ...{ low: interval?.low ?? value, high: interval?.high ?? value },
    })),
  );
  const chart = (): Chart => stageChart(`: ${subject}`, 'the first stage', points);
  return figure(`Memorization and generalization: ${label}`, caption, chart, {
    series: STAGE_SERIES,
    blocks: [{ ...paragraph(last), only: 'text' }, stageTable(stages, metric)],
  });
}

/** A table of stages, with one row per stage; `metric` is the primary one. */
function stageTable(stages: readonly StageSummary[], metric: string): Table {
  const columns: readonly Column<StageSummary>[] = [
    { title: 'stage', cell: ({ stage }) => cell(String(stage)) },
    { title: 'level', cell: ({ level }) => cell(formatSmall(level)) },
    { title: 'sparsity', cell: ({ sparsity }) => cell(formatShare(sparsity)) },
    { title: 'stored', cell: ({ storedParameters }) => cell(formatCount(storedParameters)) },
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
  const kept = pointsOf(last).map(({ series, value }) => `${formatPercent(value.mean)} % of the ${series}`);
  const [most, least] = [first, last].map(({ storedParameters }) => formatCount(storedParameters));
  const left = `The last stage leaves ${least} of ${most} stored parameters`;
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

/** The trials of an arm that chose its size: one curve each. */
function sizingFigure(
  label: string,
  subject: string,
  sized: readonly { readonly seed: number; readonly sizing: TrialSizing }[],
): Block {
  const caption =
    'What it still knows of training rows and of the selection rows as it shrinks, in percent of the dense adapter, a line for each seed. The chosen stage is ringed.';
  const points = sized.flatMap(({ seed, sizing: { stages, chosen } }) =>
    stages.flatMap((stage) =>
      pointsOf(stage).map(({ series, value }) => ({
        ...{ series, curve: `${series} ${seed}`, stored: stage.storedParameters, chosen: stage.stage === chosen },
        ...{ value, low: value, high: value },
      })),
    ),
  );
  const chart = (): Chart => stageChart(`, and the chosen size: ${subject}`, 'the dense adapter', points);
  const blocks = sized.flatMap(({ seed, sizing }): Block[] => [
    paragraph(`Seed ${seed}: ${sizing.reason}`),
    { ...sizingBlock(sizing), only: 'text' },
  ]);
  return figure(`The size that ${label} chose`, caption, chart, { series: STAGE_SERIES, blocks });
}

/** The stages of a trial that chose its size, from large to small, with the chosen one marked. */
function sizingBlock(sizing: TrialSizing): Table {
  const { titles, rows } = sizingTable(sizing);
  const columns = titles.map((title, at): Column<readonly string[]> => ({ title, cell: (row) => cell(row[at] ?? '') }));
  return table(columns, rows, 'stages');
}

/** The curves of the charts. */
const STAGE_SERIES: readonly Series[] = [
  { label: 'memorization', look: { hue: 1, shape: 0 } },
  { label: 'generalization', look: { hue: 2, shape: 1 } },
];

/** The values of a stage that has them, by curve. */
function pointsOf<Value>(stage: {
  readonly memorization: Value | null;
  readonly generalization: Value | null;
}): { series: string; value: Value }[] {
  return (['memorization', 'generalization'] as const).flatMap((series) => {
    const value = stage[series];
    return value === null ? [] : [{ series, value }];
  });
}

/** A point of a curve: a value in percent, with the interval that it is known to. */
interface StagePoint {
  readonly series: string;
  /** The line that joins it to others of its series. */
  readonly curve: string;
  readonly stored: number;
  readonly value: number;
  readonly low: number;
  readonly high: number;
  /** Whether it has a ring. */
  readonly chosen: boolean;
}

/**
 * Memorization and generalization, in percent of the largest size, against stored parameters, which decrease from left
 * to right.
 */
function stageChart(end: string, of: string, points: readonly StagePoint[]): Chart {
  const values = points.filter(({ value }) => Number.isFinite(value));
  const sizes = values.map(({ stored }) => stored);
  const [least, most] = [Math.min(...sizes), Math.max(1, ...sizes)];
  const domain = least > 0 ? { type: 'log', domain: [0.9 * least, 1.1 * most] } : { domain: [0, 1.03 * most] };
  // A range that holds all curves, and is wide enough that noise does not look like a drop.
  const low = Math.min(90, ...values.map((point) => point.low));
  const high = Math.max(102, ...values.map((point) => point.high));
  const room = 0.04 * (high - low);
  const x = quantity('stored', {
    title: 'stored parameters',
    scale: { ...domain, reverse: true, nice: false },
    axis: { format: '.3~s', tickCount: 6 },
  });
  const y = quantity('value', { title: `% of ${of}`, scale: { domain: [low - room, high + room], nice: false } });
  const color = colorBy(STAGE_SERIES);
  const whole = layerFrom(
    [{ value: 100 }],
    { type: 'rule', color: 'var(--soft)', strokeDash: [3, 3] },
    { x: { value: 0 }, x2: { value: 'width' } },
  );
  const band = { y: quantity('low'), y2: { field: 'high' }, color, detail: { field: 'curve' } };
  const lines = { color, strokeDash: dashBy(STAGE_SERIES), detail: { field: 'curve' } };
  return {
    description: `Memorization and generalization in percent of ${of} against stored parameters${end}`,
    spec: layered(
      { width: WIDTH, height: HEIGHT },
      { x, y },
      [
        whole,
        { mark: { type: 'area', opacity: 0.16 }, encoding: band },
        { mark: { type: 'line', strokeWidth: 2, strokeJoin: 'round' }, encoding: lines },
        ...STAGE_SERIES.flatMap(pointLayers),
      ],
      { values },
    ),
  };
}

/** The points of a series, and a ring around each chosen one. */
function pointLayers({ label, look }: Series): object[] {
  const { color, outline } = drawnAs(look);
  const own = { filter: { field: 'series', equal: label } };
  const point = { type: 'point', opacity: 1, color };
  return [
    { transform: [own], mark: { ...point, filled: true, size: 46, shape: outline } },
    {
      transform: [own, { filter: { field: 'chosen', equal: true } }],
      mark: { ...point, filled: false, size: 190, strokeWidth: 2, shape: 'circle' },
    },
  ];
}
