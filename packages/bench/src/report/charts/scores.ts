import { candidatesOf, type Contender, type Contest } from '../contest.js';
import type { Series } from '../contents.js';
import { formatMetric, metricTitle } from '@peftjs/cli/format';
import { SAME_SIZE } from '@peftjs/cli/results';
import { drawnAs, NEUTRAL } from '../palette.js';
import type { Estimate } from '../statistics/estimates.js';
import { orientedScore, storedOf, type ScoredRow } from '../statistics/rows.js';
import type { Verdict } from '../verdict.js';
import { layered, layerFrom, plain, quantity, spread, textWidth, type Chart, type Size } from './draw.js';

/** The height of a row of the chart of arms, in px. */
const ROW = 22;
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
const FAINT = 0.4;

/** Returns the look of an arm. */
type SeriesOf = (label: string) => Series;

/** A range that holds the means and intervals of some scores, and other values. */
export function rangeOf(scores: readonly Estimate[], values: readonly number[] = []): [number, number] {
  const ends = scores.flatMap(({ mean, interval }) => [mean, interval?.low ?? mean, interval?.high ?? mean]);
  const all = [...values, ...ends];
  const [least, most] = [Math.min(...all), Math.max(...all)];
  const margin = Math.max(0.06 * (most - least), 1e-3);
  return [least - margin, most + margin];
}

/** A score to draw: its place on the other axis, by field, and its look. */
interface Mark {
  readonly place: Readonly<Record<string, string | number>>;
  readonly score: Estimate;
  readonly series: Series;
  readonly isFaint: boolean;
}

/** Points, and the intervals of their scores along an axis. */
function scoreLayers(axis: 'x' | 'y', marks: readonly Mark[]): object[] {
  const values = marks.map(({ place, score: { mean, interval }, series, isFaint }) => ({
    ...place,
    ...{ value: mean, low: interval?.low ?? mean, high: interval?.high ?? mean },
    ...{ color: drawnAs(series.look).color, outline: drawnAs(series.look).outline, opacity: isFaint ? FAINT : 1 },
  }));
  const paint = { color: plain('color'), opacity: plain('opacity', 'quantitative') };
  const range = { [axis]: quantity('low'), [`${axis}2`]: { field: 'high' } };
  return [
    layerFrom(values, { type: 'rule', strokeWidth: 2 }, { ...paint, ...range }),
    layerFrom(values, { type: 'point', filled: true, size: 90 }, { ...paint, shape: plain('outline') }),
  ];
}

/** A frozen baseline: a line across the chart at its score on an axis, with a band for its interval, and a text. */
function baselineLayers(axis: 'x' | 'y', { mean, interval }: Estimate, text: string, mark: object): object[] {
  const { color, dash } = drawnAs(NEUTRAL);
  const values = [{ value: mean, low: interval?.low ?? mean, high: interval?.high ?? mean, text }];
  const [other, end] = axis === 'x' ? ['y', 'height'] : ['x', 'width'];
  const across = { [other]: { value: 0 }, [`${other}2`]: { value: end } };
  const range = { [axis]: quantity('low'), [`${axis}2`]: { field: 'high' } };
  return [
    layerFrom(values, { type: 'rect', color, opacity: 0.13 }, { ...across, ...range }),
    layerFrom(values, { type: 'rule', color, strokeDash: dash, strokeWidth: 1.5 }, across),
    layerFrom(
      values,
      { type: 'text', color: 'var(--soft)', ...mark },
      { [other]: { value: 0 }, text: { field: 'text' } },
    ),
  ];
}

/** Arms as rows, best mean first, with means and intervals. Equivalent arms share one band. */
export function forestChart(
  contest: Contest,
  { equivalent, worse }: Verdict,
  drawn: { readonly seriesOf: SeriesOf; readonly domain: readonly [number, number]; readonly width: number },
): Chart {
  const { seriesOf, domain, width } = drawn;
  const { task, metric, lowerIsBetter, budget, model } = contest;
  const arms = inGroups(contest, equivalent);
  const labels = arms.map(({ label }) => label);
  const baselines = contest.arms.filter((arm) => arm.baseline);
  const title = metricTitle({ metric: task === null ? `mean ${metric}` : metric, lowerIsBetter });
  const shown = arms.map(({ label, score }) => `${label} ${formatMetric(score.mean)}`);
  const marks = arms.map(({ label, score }) => ({
    ...{ place: { label }, score, series: seriesOf(label), isFaint: worse.includes(label) },
  }));
  return {
    description: `Scores at ${budget.spec} on ${task ?? 'the mean over tasks'} with ${model}: ${shown.join(', ')}`,
    spec: layered(
      { width, height: ROW * arms.length },
      {
        x: quantity('value', { title, scale: { domain, nice: false }, axis: { grid: true, tickCount: 4 } }),
        y: {
          ...{ field: 'label', type: 'nominal', title: null, sort: labels, scale: { domain: labels, padding: 0 } },
          axis: { labelColor: 'var(--ink)', ticks: false, domain: false },
        },
      },
      [
        ...bandLayers(arms, equivalent),
        ...baselines.flatMap(({ score, label }) => baselineLayers('x', score, label, { baseline: 'bottom', dy: -3 })),
        ...scoreLayers('x', marks),
      ],
      { type: 'fit-x' },
    ),
  };
}

/**
 * Sorts arms so that equivalent ones are adjacent, at the position of their best one; arms over the budget come last.
 */
function inGroups(contest: Contest, equivalent: Verdict['equivalent']): Contender[] {
  const candidates = candidatesOf(contest);
  const grouped = candidates.flatMap((arm) => {
    const group = equivalent.find((labels) => labels.includes(arm.label));
    if (!group) return [arm];
    return group[0] === arm.label ? candidates.filter(({ label }) => group.includes(label)) : [];
  });
  return [...grouped, ...contest.arms.filter((arm) => !arm.baseline && !candidates.includes(arm))];
}

/** A band across the rows of each equivalence group, marked at its right. */
function bandLayers(arms: readonly Contender[], equivalent: Verdict['equivalent']): object[] {
  return equivalent.flatMap((labels) => {
    const rows = arms.flatMap(({ label }, index) => (labels.includes(label) ? [index] : []));
    if (rows.length < 2) return [];
    const [top, bottom] = [ROW * Math.min(...rows), ROW * (Math.max(...rows) + 1)];
    return [
      layerFrom(
        [{}],
        { type: 'rect', color: 'var(--band)', cornerRadius: 4 },
        { x: { value: 0 }, x2: { value: 'width' }, y: { value: top + 1 }, y2: { value: bottom - 1 } },
      ),
      layerFrom(
        [{ text: '≈' }],
        { type: 'text', align: 'left', baseline: 'middle', dx: 4, color: 'var(--soft)', fontSize: 16 },
        { x: { value: 'width' }, y: { value: (top + bottom) / 2 }, text: { field: 'text' } },
      ),
    ];
  });
}

/** What a chart of scores by size is about. */
interface SizeChart {
  /** The scores in words. */
  readonly subject: string;
  /** The metric of the axis. */
  readonly metric: Parameters<typeof metricTitle>[0];
  readonly seriesOf: SeriesOf;
  readonly verdicts: readonly Verdict[];
}

/**
 * The metric of rows of one task, or over the tasks, against stored parameters: means with intervals, the front of the
 * best means, and each frozen baseline as a line.
 */
export function scoreChart(rows: readonly ScoredRow[], about: SizeChart, size: Size): Chart {
  const { subject, metric, seriesOf, verdicts } = about;
  const baselines = rows.filter((row) => row.baseline);
  const points = rows.filter((row) => !row.baseline);
  const seeds = showsSeeds(rows) ? rows.flatMap(seedsOf) : [];
  const scores = rows.map(({ score }) => score);
  const [low, high] = rangeOf(scores, seeds);
  const axis = sizeAxis(points);
  const names = Math.max(0, ...points.map(({ label }) => textWidth(label, LABEL_SIZE)));
  const width = size.width - Y_AXIS - LABEL_DISTANCE - Math.min(names, size.width / 3);
  const placed = placedPoints(points, verdicts, { width, axis });
  const marks = placed.map(({ row, at, isFaint }) => ({
    ...{ place: { at }, score: row.score, series: seriesOf(row.label), isFaint },
  }));
  return {
    description: `${subject} against the number of stored parameters, one point per arm and budget`,
    spec: layered(
      size, // the labels at the edge count as content
      {
        x: quantity('at', { title: 'stored parameters', ...axis.encoding }),
        y: quantity('value', { title: metricTitle(metric), scale: { domain: [low, high], nice: false } }),
      },
      [
        ...baselines.flatMap(({ label, score }) =>
          baselineLayers('y', score, `${label} (frozen) ${formatMetric(score.mean)}`, FROZEN),
        ),
        ...frontLayers(points, axis),
        ...labelLayers(placed, seriesOf, { low, high, height: size.height }),
        ...(showsSeeds(rows) ? [seedLayer(placed, seriesOf)] : []),
        ...scoreLayers('y', marks),
      ],
    ),
  };
}

const FROZEN = { align: 'left', baseline: 'top', dx: 4, dy: 5 };

/** Whether single seeds are drawn. */
export function showsSeeds(rows: readonly ScoredRow[]): boolean {
  return rows.length <= MAX_POINTS_WITH_SEEDS;
}

function seedsOf(row: ScoredRow): readonly number[] {
  return 'values' in row ? row.values : [];
}

/** A row with its position. */
interface Placed {
  readonly row: ScoredRow;
  /** The position on the size axis, in parameters: the row's size, or next to it. */
  readonly at: number;
  /** Whether the arm is drawn faint. */
  readonly isFaint: boolean;
}

/**
 * Places the points. Arms at one budget store almost the same number of parameters, so they are drawn next to each
 * other, the best mean first.
 */
function placedPoints(
  points: readonly ScoredRow[],
  verdicts: readonly Verdict[],
  { width, axis }: { readonly width: number; readonly axis: SizeAxis },
): Placed[] {
  const requested = [...new Set(points.flatMap(({ budget }) => budget.requested ?? []))];
  const budgets = requested.map((size) => axis.place(size) * width).sort((a, b) => a - b);
  const gaps = budgets.slice(1).map((position, index) => position - (budgets[index] as number));
  const room = CLUSTER * Math.min(width, ...gaps);
  return points.map((row): Placed => {
    const { spec, requested: most } = row.budget;
    const worse = verdicts.find(({ budget }) => budget === spec)?.worse ?? [];
    const rivals = most === null ? [row] : points.filter(({ budget }) => budget.spec === spec);
    const ranked = [...rivals].sort((a, b) => orientedScore(b) - orientedScore(a));
    const distance = Math.min(MAX_DISTANCE, room / rivals.length);
    const offset = (ranked.indexOf(row) - (rivals.length - 1) / 2) * distance;
    const at = axis.sizeAt(axis.place(storedOf(row)) + offset / width);
    return { row, at, isFaint: most !== null && worse.includes(row.label) };
  });
}

/** A step line of the best mean up to each size. An adapter that has kept nothing is at the start of the axis. */
function frontLayers(points: readonly ScoredRow[], axis: SizeAxis): object[] {
  if (new Set(points.map(({ budget }) => budget.spec)).size < 2) return [];
  const isBeaten = (row: ScoredRow): boolean =>
    points.some((other) => orientedScore(other) > orientedScore(row) && storedOf(other) <= storedOf(row) * SAME_SIZE);
  const front = points
    .filter((row) => !isBeaten(row))
    .sort((a, b) => storedOf(a) - storedOf(b))
    .map((row) => ({ at: Math.max(storedOf(row), axis.sizeAt(0)), value: row.score.mean }));
  const most = Math.max(...points.map(storedOf)) * FRONT_EXTENSION;
  const last = front.slice(-1).map(({ value }) => ({ at: most, value }));
  const mark = { type: 'line', color: 'var(--ink)', opacity: 0.4, strokeWidth: 1.5, interpolate: 'step-after' };
  return [{ data: { values: [...front, ...last] }, mark }];
}

/** The name of each arm at the right edge, joined to its largest point; no two names overlap. */
function labelLayers(
  points: readonly Placed[],
  seriesOf: SeriesOf,
  { low, high, height }: { readonly low: number; readonly high: number; readonly height: number },
): object[] {
  const bySize = [...points].sort((a, b) => storedOf(a.row) - storedOf(b.row));
  const largest = [...new Map(bySize.map((point) => [point.row.label, point])).values()];
  const gap = ((high - low) * 1.2 * LABEL_SIZE) / (height - AXIS);
  const means = largest.map(({ row }) => row.score.mean);
  const heights = spread(means, { gap, low, high });
  const labels = largest.map(({ row: { label, score }, at }, index) => ({
    ...{ at, value: score.mean, labelAt: heights[index] as number },
    ...{ text: label, color: drawnAs(seriesOf(label).look).color },
  }));
  const edge = { value: 'width' };
  return [
    layerFrom(
      labels,
      { type: 'rule', opacity: 0.5, strokeWidth: 1, x2Offset: 8 },
      { x2: edge, y2: { field: 'labelAt' }, color: plain('color') },
    ),
    layerFrom(
      labels,
      { type: 'text', align: 'left', baseline: 'middle', dx: LABEL_DISTANCE - 2, fontSize: LABEL_SIZE },
      { x: edge, y: quantity('labelAt'), text: { field: 'text' } },
    ),
  ];
}

/** The scores of single seeds. */
function seedLayer(points: readonly Placed[], seriesOf: SeriesOf): object {
  const seeds = points.flatMap(({ row, at }) =>
    seedsOf(row).map((value) => ({ at, value, color: drawnAs(seriesOf(row.label).look).color })),
  );
  const mark = { type: 'point', shape: 'circle', filled: true, size: 18, opacity: 0.45 };
  return layerFrom(seeds, mark, { color: plain('color') });
}

/** The axis of stored parameters. */
interface SizeAxis {
  /** The vega-lite encoding. */
  readonly encoding: object;
  /** Maps a size to its position, from 0 to 1. */
  readonly place: (stored: number) => number;
  /** Maps a position to its size. */
  readonly sizeAt: (place: number) => number;
}

/** A logarithmic axis with a tick at each budget. */
function sizeAxis(points: readonly ScoredRow[]): SizeAxis {
  const stored = points.map(storedOf).filter((count) => count > 0);
  const [least, most] = stored.length > 0 ? [Math.min(...stored), Math.max(...stored)] : [1, 1];
  const ticks = [...new Set(points.map((row) => row.budget.requested ?? Math.round(storedOf(row))))];
  const margin = (most / least) ** 0.08 * 1.2;
  const [from, to] = [least / margin, most * margin];
  return {
    encoding: {
      scale: { type: 'log', domain: [from, to], nice: false },
      axis: { format: '.3~s', labelOverlap: 'greedy', values: ticks },
    },
    place: (size) => Math.log(Math.max(size, from) / from) / Math.log(to / from),
    sizeAt: (place) => from * (to / from) ** place,
  };
}
