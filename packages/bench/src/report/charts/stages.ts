import type { StageSummary } from '../../statistics/stages.js';
import type { Series } from '../contents.js';
import type { Chart } from './svg.js';
import { colorScale, dashScale, HEIGHT, look, WIDTH } from './theme.js';

/** What is followed through the stages, and how it looks in every such chart. */
const MEMORIZATION: Series = { label: 'memorization', look: 1 };
const GENERALIZATION: Series = { label: 'generalization', look: 2 };

/** The curves of the chart. */
export const STAGE_SERIES: readonly Series[] = [MEMORIZATION, GENERALIZATION];

interface Point {
  readonly series: string;
  readonly stored: number;
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

/** Memorization and generalization, in percent of the first stage, against what the adapter stores: from much to little. */
export function stageChart(title: string, stages: readonly StageSummary[]): Chart {
  const points = stages.flatMap((stage) => [
    ...pointOf(MEMORIZATION, stage, stage.memorization),
    ...pointOf(GENERALIZATION, stage, stage.generalization),
  ]);
  const most = Math.max(1, ...stages.map(({ storedParameters }) => storedParameters));
  return {
    description: `Memorization and generalization in percent of the first stage against stored parameters: ${title}`,
    spec: {
      width: WIDTH,
      height: HEIGHT,
      autosize: { type: 'fit', contains: 'padding' },
      data: { values: points },
      encoding: {
        x: {
          field: 'stored',
          type: 'quantitative',
          title: 'stored parameters',
          scale: { domain: [0, 1.03 * most], reverse: true, nice: false },
          axis: { format: '.3~s' },
        },
        y: { type: 'quantitative', title: '% of the first stage', scale: { domain: rangeOf(points), nice: false } },
      },
      layer: [wholeLayer(), bandLayer(), lineLayer(), ...STAGE_SERIES.map(pointLayer)],
    } as Chart['spec'],
  };
}

function pointOf(
  { label }: Series,
  { storedParameters: stored }: StageSummary,
  value: StageSummary['memorization'],
): Point[] {
  if (!value) return [];
  const { mean, interval } = value;
  return [{ series: label, stored, mean, low: interval?.low ?? mean, high: interval?.high ?? mean }];
}

/** All of the curves, and never so little that noise looks like a fall. */
function rangeOf(points: readonly Point[]): [number, number] {
  const low = Math.min(90, ...points.map((point) => point.low));
  const high = Math.max(102, ...points.map((point) => point.high));
  const room = 0.04 * (high - low);
  return [low - room, high + room];
}

/** What the first stage has. */
function wholeLayer(): object {
  return {
    data: { values: [{ mean: 100 }] },
    mark: { type: 'rule', color: 'var(--soft)', strokeDash: [3, 3] },
    encoding: { y: { field: 'mean', type: 'quantitative' }, x: { value: 0 }, x2: { value: 'width' } },
  };
}

function bandLayer(): object {
  return {
    mark: { type: 'area', opacity: 0.16 },
    encoding: { y: { field: 'low', type: 'quantitative' }, y2: { field: 'high' }, color: colorOf() },
  };
}

function lineLayer(): object {
  return {
    mark: { type: 'line', strokeWidth: 2, strokeJoin: 'round' },
    encoding: {
      y: { field: 'mean', type: 'quantitative' },
      color: colorOf(),
      strokeDash: { field: 'series', type: 'nominal', scale: dashScale(STAGE_SERIES), legend: null },
    },
  };
}

function pointLayer(series: Series): object {
  const { color, shape } = look(series);
  return {
    transform: [{ filter: { field: 'series', equal: series.label } }],
    mark: { type: 'point', filled: true, opacity: 1, size: 46, color, shape },
    encoding: { y: { field: 'mean', type: 'quantitative' } },
  };
}

function colorOf(): object {
  return { field: 'series', type: 'nominal', scale: colorScale(STAGE_SERIES), legend: null };
}
