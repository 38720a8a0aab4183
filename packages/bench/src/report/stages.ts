import { mean } from 'simple-statistics';
import { sizingTable, type SparsityStage, type TrialSizing } from '@peftjs/cli/results';
import { cell, figure, paragraph, table, type Block, type Cell, type Column, type Table } from './blocks.js';
import { colorBy, dashBy, HEIGHT, layered, layerFrom, quantity, WIDTH, type Chart } from './charts/draw.js';
import { bySeries, type Panel, type Series } from './contents.js';
import { formatCount, formatInterval, formatMetric, formatShare, formatSmall } from '@peftjs/cli/format';
import { drawnAs } from './palette.js';
import { estimateOf, ofValues } from './statistics/resampling.js';

const QUANTITIES = ['memorization', 'generalization'] as const;

/** The curves of the charts. */
const STAGE_SERIES: readonly Series[] = QUANTITIES.map((label, at) => ({ label, look: { hue: at + 1, shape: at } }));

/** The stages of a trial that followed a schedule, or that chose its size. */
interface StagedTrial {
  readonly seed: number;
  readonly stages: readonly Pick<SparsityStage, 'stage' | 'storedParameters' | (typeof QUANTITIES)[number]>[];
  /** The stage that the trial chose. */
  readonly chosen?: number;
}

/** Figures of every arm in stages, scheduled or chosen: memorization and generalization as it shrinks. */
export function stageFigures({ title, metric, entries }: Panel): Block[] {
  return bySeries(entries).flatMap(({ row: { label }, trials }) => {
    const scheduled = trials.flatMap(({ seed, stages }) => (stages ? [{ seed, stages }] : []));
    const sized = trials.flatMap(({ seed, sizing }) => (sizing ? [{ seed, ...sizing }] : []));
    const on = `${label} on ${title}`;
    const choices = sized.flatMap((sizing): Block[] => [
      paragraph(`Seed ${sizing.seed}: ${sizing.reason}`),
      { ...choiceTable(sizing), only: 'text' },
    ]);
    return [
      ...stageFigure(`Memorization and generalization: ${label}`, scheduled, {
        ...{ on, judged: 'the reported ones', whole: 'the first stage' },
        blocks: [scheduleTable(scheduled, metric)],
      }),
      ...stageFigure(`The size that ${label} chose`, sized, {
        ...{ on, judged: 'the selection rows', whole: 'the dense adapter' },
        blocks: choices,
      }),
    ];
  });
}

/** A figure with a line for each seed; none without trials. */
function stageFigure(
  title: string,
  trials: readonly StagedTrial[],
  about: { readonly on: string; readonly judged: string; readonly whole: string; readonly blocks: readonly Block[] },
): Block[] {
  const { on, judged, whole, blocks } = about;
  if (trials.length === 0) return [];
  const ringed = trials.some(({ chosen }) => chosen !== undefined) ? ' The chosen stage is ringed.' : '';
  const caption = `What it still knows of training rows and of ${judged} as it shrinks, in percent of ${whole}, a line for each seed.${ringed}`;
  return [figure(title, caption, () => stageChart(on, whole, trials), { series: STAGE_SERIES, blocks })];
}

/** The means over the seeds of an arm with a sparsifying schedule, stage by stage; `metric` is the primary one. */
function scheduleTable(trials: readonly { readonly stages: readonly SparsityStage[] }[], metric: string): Table {
  const column = (
    title: string,
    pick: (stage: SparsityStage) => number,
    format: (value: number) => string,
  ): Column<readonly SparsityStage[]> => ({ title, cell: (ofSeeds) => cell(format(meanOf(ofSeeds.map(pick)))) });
  const columns = [
    column('stage', ({ stage }) => stage, String),
    column('level', ({ level }) => level, formatSmall),
    column('sparsity', ({ sparsity }) => sparsity, formatShare),
    column('stored', ({ storedParameters }) => storedParameters, formatCount),
    ...QUANTITIES.map((name): Column<readonly SparsityStage[]> => ({
      title: `${name}, %`,
      cell: (ofSeeds) => percentCell(ofSeeds.flatMap((stage) => stage[name] ?? []).filter(Number.isFinite)),
    })),
    column(`${metric}, training rows`, ({ trainMetric }) => trainMetric, formatMetric),
    column(`${metric}, reported rows`, ({ devMetric }) => devMetric, formatMetric),
  ];
  const shared = Math.min(...trials.map(({ stages }) => stages.length));
  const rows = (trials[0]?.stages ?? []).slice(0, shared);
  const ofSeeds = rows.map((_, at) => trials.flatMap(({ stages }) => stages[at] ?? []));
  return table(columns, ofSeeds, 'stages');
}

function meanOf(values: readonly number[]): number {
  return values.includes(Infinity) ? Infinity : mean([...values]); // simple-statistics' compensated sum would turn Infinity into NaN
}

/** The mean of percentages with its interval. */
function percentCell(values: readonly number[]): Cell {
  if (values.length === 0) return cell('–');
  const { mean: center, interval } = estimateOf([ofValues(values)]);
  const isSpread = interval !== null && interval.low < interval.high;
  const format = (value: number): string => value.toFixed(1);
  return cell(format(center), ...(isSpread ? [formatInterval(interval, format)] : []));
}

/** The stages of a trial that chose its size, from large to small, with the chosen one marked. */
function choiceTable(sizing: TrialSizing): Table {
  const { titles, rows } = sizingTable(sizing);
  const columns = titles.map((title, at): Column<readonly string[]> => ({ title, cell: (row) => cell(row[at] ?? '') }));
  return table(columns, rows, 'stages');
}

/**
 * Memorization and generalization, in percent of `whole`, against stored parameters, which decrease from left to right.
 */
function stageChart(on: string, whole: string, trials: readonly StagedTrial[]): Chart {
  const values = trials.flatMap(({ seed, stages, chosen }) =>
    stages.flatMap((stage) =>
      QUANTITIES.map((series) => ({
        ...{ series, curve: `${series} ${seed}`, stored: stage.storedParameters },
        ...{ value: stage[series] ?? NaN, chosen: stage.stage === chosen },
      })).filter(({ value }) => Number.isFinite(value)),
    ),
  );
  const sizes = values.map(({ stored }) => stored);
  const [least, most] = [Math.min(...sizes), Math.max(1, ...sizes)];
  const domain = least > 0 ? { type: 'log', domain: [0.9 * least, 1.1 * most] } : { domain: [0, 1.03 * most] };
  // A range that holds all curves, and is wide enough that noise does not look like a drop.
  const low = Math.min(90, ...values.map(({ value }) => value));
  const high = Math.max(102, ...values.map(({ value }) => value));
  const room = 0.04 * (high - low);
  const x = quantity('stored', {
    title: 'stored parameters',
    scale: { ...domain, reverse: true, nice: false },
    axis: { format: '.3~s', tickCount: 6 },
  });
  const y = quantity('value', { title: `% of ${whole}`, scale: { domain: [low - room, high + room], nice: false } });
  const hundred = layerFrom(
    [{ value: 100 }],
    { type: 'rule', color: 'var(--soft)', strokeDash: [3, 3] },
    { x: { value: 0 }, x2: { value: 'width' } },
  );
  const lines = { color: colorBy(STAGE_SERIES), strokeDash: dashBy(STAGE_SERIES), detail: { field: 'curve' } };
  return {
    description: `Memorization and generalization in percent of ${whole} against stored parameters: ${on}`,
    spec: layered(
      { width: WIDTH, height: HEIGHT },
      { x, y },
      [
        hundred,
        { mark: { type: 'line', strokeWidth: 1.5, strokeJoin: 'round' }, encoding: lines },
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
