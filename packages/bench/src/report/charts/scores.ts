import type { Entry, Panel, Series } from '../contents.js';
import { formatMetric, metricTitle } from '@peftjs/cli/format';
import { drawnAs } from '../palette.js';
import { meanMetric, orientedScore, type OverallRow, type SummaryRow } from '../statistics/rows.js';
import type { Verdict } from '../verdict.js';
import {
  layered,
  layerFrom,
  plain,
  quantity,
  spread,
  textWidth,
  uncrossedPositions,
  type Chart,
  type Size,
} from './draw.js';

/** The height of the x axis, in px. */
const AXIS = 46;
/** The width of the y axis, in px. */
const Y_AXIS = 62;
const LABEL_SIZE = 13;
const LABEL_DISTANCE = 14;
/** The most distance between neighbouring arms of one budget, in px. */
const MAX_DISTANCE = 16;
/** The share of the distance between budgets that the arms of one budget occupy. */
const CLUSTER = 0.7;
/** How far past the largest size the front extends, as a factor, so that it passes under all points. */
const FRONT_EXTENSION = 1.15;
/** With more points than this, single seeds are not drawn, since they would hide the points. */
const MAX_POINTS_WITH_SEEDS = 16;
/** The opacity of an arm that is reliably worse than the best one at its budget. */
const FAINT = 0.35;

/** The score of one arm at its stored size. */
interface Point {
  /** The arm's name and look. */
  readonly series: Series;
  /** The budget as typed. */
  readonly spec: string;
  /** The requested number of parameters; null without a budget. */
  readonly requested: number | null;
  /** The stored parameters. */
  readonly stored: number;
  /** The mean score. */
  readonly value: number;
  /** The mean score, negated if lower is better. */
  readonly orientedScore: number;
  /** The 95 % interval of the mean. */
  readonly interval: SummaryRow['score']['interval'];
  /** The scores of single seeds. */
  readonly values: readonly number[];
}

/** A point with its position. */
interface Placed extends Point {
  /** The position on the size axis, in parameters: the point's size, or next to it. */
  readonly at: number;
  /** Whether the arm is drawn faint. */
  readonly isFaint: boolean;
}

/**
 * The metric against stored parameters: means with intervals, the front of the best means, and the frozen baseline as a
 * line.
 */
export function scoreChart(panel: Panel, verdicts: readonly Verdict[], size: Size): Chart {
  const pointOfEntry = ({ row, series }: Entry): Point => pointOf(row, series);
  const points = panel.entries.filter((entry) => entry !== panel.baseline).map(pointOfEntry);
  const baseline = panel.baseline && pointOfEntry(panel.baseline);
  return {
    description: `${panel.metric} on ${panel.title} against the number of stored parameters, one point per arm and budget`,
    spec: chartSpec(points, baseline, verdicts, { size, yTitle: metricTitle(panel) }),
  };
}

/** The same chart for means over tasks; `seriesOf` gives the look of an arm. */
export function overallChart(
  rows: readonly OverallRow[],
  seriesOf: (label: string) => Series,
  verdicts: readonly Verdict[],
  size: Size,
): Chart {
  const baseline = rows.find((row) => row.baseline);
  const points = rows.filter((row) => row !== baseline).map((row) => pointOf(row, seriesOf(row.label)));
  const [first = { model: '', metrics: [], lowerIsBetter: false }] = rows;
  const yTitle = metricTitle({ metric: `mean ${meanMetric(first)}`, lowerIsBetter: first.lowerIsBetter });
  return {
    description: `Mean over the tasks with ${first.model} against the number of stored parameters, one point per arm and budget`,
    spec: chartSpec(points, baseline && pointOf(baseline, seriesOf(baseline.label)), verdicts, { size, yTitle }),
  };
}

/** Whether single seeds are drawn. */
export function showsSeeds({ entries }: Panel): boolean {
  return entries.length <= MAX_POINTS_WITH_SEEDS;
}

function pointOf(row: SummaryRow | OverallRow, series: Series): Point {
  const { budget, score } = row;
  const [stored, values] = 'parameters' in row ? [row.parameters.stored, row.values] : [row.stored, []];
  return {
    ...{ series, spec: budget.spec, requested: budget.requested, stored, values },
    ...{ value: score.mean, interval: score.interval, orientedScore: orientedScore(row) },
  };
}

function chartSpec(
  points: readonly Point[],
  baseline: Point | undefined,
  verdicts: readonly Verdict[],
  { size, yTitle }: { readonly size: Size; readonly yTitle: string },
): Chart['spec'] {
  const [low, high] = valueRange(baseline ? [...points, baseline] : points);
  const axis = parameterAxis(points);
  const width = plotWidth(points, size);
  const placed = placedPoints(points, verdicts, { width, axis });
  const groups = verdicts.flatMap(({ budget, equivalent }) =>
    equivalent.map((labels) => placed.filter(({ spec, series }) => spec === budget && labels.includes(series.label))),
  );
  return layered(
    size, // the labels at the edge count as content
    {
      x: quantity('at', { title: 'stored parameters', ...axis.encoding }),
      y: quantity('value', { title: yTitle, scale: { domain: [low, high], nice: false } }),
    },
    [
      ...(baseline ? baselineLayers(baseline) : []),
      bandLayer(groups, (px) => px / width, axis),
      ...frontLayers(points),
      ...labelLayers(placed, { low, high, width, size, axis }),
      ...pointLayers(placed, points.length <= MAX_POINTS_WITH_SEEDS),
    ],
  );
}

/** The width of the plot without the axis and the labels, in px. */
function plotWidth(points: readonly Point[], size: Size): number {
  const names = Math.max(0, ...points.map(({ series }) => textWidth(series.label, LABEL_SIZE)));
  return size.width - Y_AXIS - LABEL_DISTANCE - Math.min(names, size.width / 3);
}

/**
 * Places the points. Arms at one budget store almost the same number of parameters, so they are drawn next to each
 * other: equivalent arms together, otherwise by their means.
 */
function placedPoints(
  points: readonly Point[],
  verdicts: readonly Verdict[],
  { width, axis }: { readonly width: number; readonly axis: ParameterAxis },
): Placed[] {
  const requested = [...new Set(points.flatMap((point) => point.requested ?? []))];
  const budgets = requested.map((size) => axis.place(size) * width).sort((a, b) => a - b);
  const gaps = budgets.slice(1).map((position, index) => position - (budgets[index] as number));
  const room = CLUSTER * Math.min(width, ...gaps);
  return points.map((point): Placed => {
    if (point.requested === null) return { ...point, at: point.stored, isFaint: false };
    const { equivalent = [], worse = [] } = verdicts.find(({ budget }) => budget === point.spec) ?? {};
    const group = ({ series }: Point): number => {
      const found = equivalent.findIndex((labels) => labels.includes(series.label));
      return found < 0 ? equivalent.length : found;
    };
    const rivals = points
      .filter(({ spec }) => spec === point.spec)
      .sort((a, b) => group(a) - group(b) || b.orientedScore - a.orientedScore);
    const distance = Math.min(MAX_DISTANCE, room / rivals.length);
    const offset = (rivals.indexOf(point) - (rivals.length - 1) / 2) * distance;
    const at = axis.sizeAt(axis.place(point.stored) + offset / width);
    return { ...point, at, isFaint: worse.includes(point.series.label) };
  });
}

function baselineLayers({ series, value, interval }: Point): object[] {
  const { color, dash } = drawnAs(series.look);
  const line = [{ value, low: interval?.low ?? value, high: interval?.high ?? value }];
  const wide = { x: { value: 0 }, x2: { value: 'width' } };
  return [
    layerFrom(line, { type: 'rect', color, opacity: 0.12 }, { ...wide, y: { field: 'low' }, y2: { field: 'high' } }),
    layerFrom(line, { type: 'rule', color, strokeDash: dash, strokeWidth: 1.5 }, wide),
    layerFrom(
      [{ ...line[0], text: `${series.label} (frozen) ${formatMetric(value)}` }],
      { type: 'text', color: 'var(--soft)', align: 'left', baseline: 'top', dx: 4, dy: 5 },
      { x: { value: 0 }, text: { field: 'text' } },
    ),
  ];
}

/** Bands behind the intervals of equivalent arms. */
function bandLayer(
  groups: readonly (readonly Placed[])[],
  shareOf: (px: number) => number,
  { place, sizeAt }: ParameterAxis,
): object {
  const margin = shareOf(7);
  const bands = groups
    .filter(({ length }) => length > 1)
    .map((group) => {
      const ends = group.flatMap(({ value, interval }) => [interval?.low ?? value, interval?.high ?? value]);
      const positions = group.map(({ at }) => place(at));
      const [at, to] = [Math.min(...positions) - margin, Math.max(...positions) + margin].map(sizeAt);
      return { at, to, value: Math.min(...ends), high: Math.max(...ends) };
    });
  return layerFrom(
    bands,
    { type: 'rect', color: 'var(--band)', cornerRadius: 4 },
    { x2: { field: 'to' }, y2: { field: 'high' } },
  );
}

/** A step line of the best mean up to each size. */
function frontLayers(points: readonly Point[]): object[] {
  if (new Set(points.map(({ spec }) => spec)).size < 2) return [];
  const isBeaten = ({ stored, orientedScore }: Point): boolean =>
    points.some((other) => other.orientedScore > orientedScore && other.stored <= stored * 1.02);
  const front = points
    .filter((point) => !isBeaten(point))
    .sort((a, b) => a.stored - b.stored)
    .map(({ stored, value }) => ({ at: stored, value }));
  const most = Math.max(...points.map(({ stored }) => stored)) * FRONT_EXTENSION;
  const last = front.slice(-1).map(({ value }) => ({ at: most, value }));
  const mark = { type: 'line', color: 'var(--ink)', opacity: 0.4, strokeWidth: 1.5, interpolate: 'step-after' };
  return [{ data: { values: [...front, ...last] }, mark }];
}

/** The plot: the range of the metric, the width without axis and labels, and the whole size. */
interface Plot {
  readonly low: number;
  readonly high: number;
  readonly width: number;
  readonly size: Size;
  readonly axis: ParameterAxis;
}

/** The labels of all series at the right edge, placed so that no two overlap and no two leader lines cross. */
function labelLayers(points: readonly Placed[], { low, high, width, size, axis }: Plot): object[] {
  const labelled = lastOfEachSeries(points);
  const pxHeight = size.height - AXIS;
  const y = (value: number): number => ((high - value) / (high - low)) * pxHeight;
  const heights = spread(
    labelled.map(({ value }) => value),
    { gap: ((high - low) * 1.2 * LABEL_SIZE) / pxHeight, low, high },
  );
  const anchors = labelled.map(({ at, value }) => ({ x: axis.place(at) * width, y: y(value) }));
  const assigned = uncrossedPositions(anchors, heights.map(y), width);
  const labels = labelled.map(({ series, at, value }, index) => ({
    ...{ at, value, labelAt: heights[assigned[index] as number] as number },
    ...{ text: series.label, color: drawnAs(series.look).color },
  }));
  const edge = { value: 'width' };
  return [
    layerFrom(
      labels.map(({ at, value, labelAt, color }) => ({ at, value, labelAt, color })),
      { type: 'rule', opacity: 0.5, strokeWidth: 1, x2Offset: 8 },
      { x2: edge, y2: { field: 'labelAt' }, color: plain('color') },
    ),
    layerFrom(
      labels.map(({ labelAt, text }) => ({ value: labelAt, text })),
      { type: 'text', align: 'left', baseline: 'middle', dx: LABEL_DISTANCE - 2, fontSize: LABEL_SIZE },
      { x: edge, text: { field: 'text' } },
    ),
  ];
}

function pointLayers(points: readonly Placed[], isSeeds: boolean): object[] {
  const drawn = points.map(({ series, at, value, values, interval, isFaint }) => {
    const { color, outline } = drawnAs(series.look);
    return { at, value, values, interval, color, outline, opacity: isFaint ? FAINT : 1 };
  });
  const seeds = isSeeds ? drawn.flatMap(({ values, ...each }) => values.map((value) => ({ ...each, value }))) : [];
  const ranges = drawn.flatMap(({ at, interval, color, opacity }) =>
    interval ? [{ at, value: interval.low, high: interval.high, color, opacity }] : [],
  );
  const opacity = plain('opacity', 'quantitative');
  return [
    layerFrom(
      seeds.map(({ at, value, color }) => ({ at, value, color })),
      { type: 'point', shape: 'circle', filled: true, size: 18, opacity: 0.45 },
      { color: plain('color') },
    ),
    layerFrom(ranges, { type: 'rule', strokeWidth: 2 }, { y2: { field: 'high' }, color: plain('color'), opacity }),
    layerFrom(
      drawn.map(({ values: _, interval: __, ...point }) => point),
      { type: 'point', filled: true, size: 90 },
      { color: plain('color'), shape: plain('outline'), opacity },
    ),
  ];
}

/** The largest point of each series, which gets the label. */
function lastOfEachSeries(points: readonly Placed[]): Placed[] {
  const largest = new Map([...points].sort((a, b) => a.stored - b.stored).map((point) => [point.series.label, point]));
  return [...largest.values()];
}

/** The axis of stored parameters. */
interface ParameterAxis {
  /** The vega-lite encoding. */
  readonly encoding: object;
  /** Maps a size to its position, from 0 to 1. */
  readonly place: (stored: number) => number;
  /** Maps a position to its size. */
  readonly sizeAt: (place: number) => number;
}

function parameterAxis(points: readonly Point[]): ParameterAxis {
  const stored = points.map((point) => point.stored).filter((count) => count > 0);
  const [least, most] = stored.length > 0 ? [Math.min(...stored), Math.max(...stored)] : [1, 1];
  const ticks = [...new Set(points.map((point) => point.requested ?? Math.round(point.stored)))];
  const axis = { format: '.3~s', labelOverlap: 'greedy' };
  if (most / least < 3) {
    const end = most * 1.4;
    const scale = { domain: [0, end], nice: false };
    return {
      encoding: { scale, axis: { ...axis, values: [0, ...ticks] } },
      place: (size) => size / end,
      sizeAt: (place) => place * end,
    };
  }
  const margin = (most / least) ** 0.08 * 1.1;
  const [from, to] = [least / margin, most * margin];
  return {
    encoding: { scale: { type: 'log', domain: [from, to], nice: false }, axis: { ...axis, values: ticks } },
    place: (size) => Math.log(Math.max(size, from) / from) / Math.log(to / from),
    sizeAt: (place) => from * (to / from) ** place,
  };
}

function valueRange(points: readonly Point[]): [number, number] {
  const values = points.flatMap(({ value, values: seeds, interval }) => [
    value,
    ...(points.length > MAX_POINTS_WITH_SEEDS ? [] : seeds),
    ...(interval ? [interval.low, interval.high] : []),
  ]);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const margin = Math.max((most - least) * 0.08, 1e-3);
  return [least - margin, most + margin];
}
