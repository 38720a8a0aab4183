import { bySeries, type Entry, type Panel, type Series } from '../contents.js';
import { formatMetric, metricTitle } from '../format.js';
import { meritOf, type OverallRow, type SummaryRow } from '../statistics/rows.js';
import { look, spread, WIDTH, type Chart } from './draw.js';

const HEIGHT = 340;
/** Height of the axis below the plot, in px. */
const AXIS = 46;
const LABEL_SIZE = 13;
/** Room for a name at the right edge, in px. */
const MOST_LABEL = WIDTH / 3;
const LABEL_DISTANCE = 14;
/** Sizes this close count as one, as they do for a budget. */
const SAME_SIZE = 1.02;
/** How far past the largest size the front is drawn, so that it passes under points that stand side by side. */
const PAST_LAST = 1.15;
/** With more points than this, single seeds would hide them. */
const MOST_POINTS_WITH_SEEDS = 16;

/** What one arm gets for what it stores. */
interface Point {
  readonly series: Series;
  readonly spec: string;
  readonly requested: number | null;
  readonly stored: number;
  readonly value: number;
  readonly merit: number;
  readonly interval: SummaryRow['score']['interval'];
  /** Of single seeds. */
  readonly values: readonly number[];
}

/** The metric against what is stored: the mean with its interval, the front of the best ones, the frozen baseline as a line. */
export function scoreChart(panel: Panel): Chart {
  const points = panel.entries.filter((entry) => entry !== panel.baseline).map(pointOfEntry);
  return {
    description: `${panel.metric} on ${panel.title} against the number of stored parameters, one point per arm and budget`,
    spec: chartSpec(points, panel.baseline && pointOfEntry(panel.baseline), metricTitle(panel)),
  };
}

/** The same for means over tasks; `seriesOf` says how an arm looks. */
export function overallChart(rows: readonly OverallRow[], seriesOf: (label: string) => Series): Chart {
  const baseline = rows.find((row) => row.baseline);
  const points = rows.filter((row) => row !== baseline).map((row) => pointOfRow(row, seriesOf));
  const [{ metrics, lowerIsBetter } = { metrics: [], lowerIsBetter: false }] = rows;
  const title = metricTitle({ metric: `mean ${metrics.join(', ')}`, lowerIsBetter });
  return {
    description: `Mean over the tasks against the number of stored parameters, one point per arm and budget`,
    spec: chartSpec(points, baseline && pointOfRow(baseline, seriesOf), title),
  };
}

/** Whether single seeds are drawn. */
export function showsSeeds({ entries }: Panel): boolean {
  return entries.length <= MOST_POINTS_WITH_SEEDS;
}

function pointOfEntry({ row, series }: Entry): Point {
  const { budget, parameters, score, values } = row;
  return {
    ...{ series, spec: budget.spec, requested: budget.requested, stored: parameters.stored, values },
    ...{ value: score.mean, interval: score.interval, merit: meritOf(row) },
  };
}

function pointOfRow(row: OverallRow, seriesOf: (label: string) => Series): Point {
  const { budget, stored, score } = row;
  return {
    ...{ series: seriesOf(row.label), spec: budget.spec, requested: budget.requested, stored, values: [] },
    ...{ value: score.mean, interval: score.interval, merit: meritOf(row) },
  };
}

function chartSpec(points: readonly Point[], baseline: Point | undefined, yTitle: string): Chart['spec'] {
  const x = { field: 'stored', type: 'quantitative', title: 'stored parameters', ...parameterAxis(points) };
  const [low, high] = valueRange(baseline ? [...points, baseline] : points);
  const y = { field: 'value', type: 'quantitative', title: yTitle, scale: { domain: [low, high], nice: false } };
  const labelled = lastOfEachSeries(points);
  const gap = ((high - low) * 1.2 * LABEL_SIZE) / (HEIGHT - AXIS);
  const heights = spread(
    labelled.map(({ value }) => value),
    { gap, low, high },
  );
  return {
    width: WIDTH,
    height: HEIGHT,
    autosize: { type: 'fit', contains: 'padding' }, // the names at the edge count as content
    data: { values: [] },
    encoding: { x, y },
    layer: [
      ...(baseline ? baselineLayers(baseline) : []),
      ...frontLayers(points),
      ...labelled.flatMap((point, index) => labelLayers(point, heights[index] as number, offsetOf(point, points))),
      ...points.flatMap((point) => pointLayers(point, points)),
    ],
  } as Chart['spec'];
}

function baselineLayers({ series, value, interval }: Point): object[] {
  const { color, dash } = look(series);
  const line = [{ value, low: interval?.low ?? value, high: interval?.high ?? value }];
  const wide = { x: { value: 0 }, x2: { value: 'width' } };
  return [
    {
      data: { values: line },
      mark: { type: 'rect', color, opacity: 0.12 },
      encoding: { ...wide, y: { field: 'low' }, y2: { field: 'high' } },
    },
    { data: { values: line }, mark: { type: 'rule', color, strokeDash: dash, strokeWidth: 1.5 }, encoding: wide },
    {
      data: { values: [{ ...line[0], text: `${series.label} (frozen) ${formatMetric(value)}` }] },
      mark: { type: 'text', color: 'var(--soft)', align: 'left', baseline: 'top', dx: 4, dy: 5 },
      encoding: { x: { value: 0 }, text: { field: 'text' } },
    },
  ];
}

/** The best mean at each size or below it: what is under the steps costs more and gives less. */
function frontLayers(points: readonly Point[]): object[] {
  if (new Set(points.map(({ spec }) => spec)).size < 2) return [];
  const front = points
    .filter((point) => !isDominated(point, points))
    .sort((a, b) => a.stored - b.stored)
    .map(({ stored, value }) => ({ stored, value }));
  const most = Math.max(...points.map(({ stored }) => stored)) * PAST_LAST;
  const last = front.slice(-1).map(({ value }) => ({ stored: most, value }));
  const mark = { type: 'line', color: 'var(--ink)', opacity: 0.55, strokeWidth: 1.5, interpolate: 'step-after' };
  return [{ data: { values: [...front, ...last] }, mark }];
}

/** Whether another one gives more and stores no more than this. */
function isDominated({ stored, merit }: Point, points: readonly Point[]): boolean {
  return points.some((other) => other.merit > merit && other.stored <= stored * SAME_SIZE);
}

function labelLayers({ series, stored, value }: Point, labelAt: number, xOffset: number): object[] {
  const { color } = look(series);
  const leader = { type: 'rule', color, opacity: 0.5, strokeWidth: 1, xOffset, x2Offset: 8 };
  return [
    {
      data: { values: [{ stored, value, labelAt }] },
      mark: leader,
      encoding: { x2: { value: 'width' }, y2: { field: 'labelAt' } },
    },
    {
      data: { values: [{ value: labelAt, text: series.label }] },
      mark: {
        type: 'text',
        align: 'left',
        baseline: 'middle',
        dx: LABEL_DISTANCE - 2,
        limit: MOST_LABEL,
        fontSize: LABEL_SIZE,
      },
      encoding: { x: { value: 'width' }, text: { field: 'text' } },
    },
  ];
}

function pointLayers(point: Point, points: readonly Point[]): object[] {
  const { series, stored, value, values, interval } = point;
  const { color, shape } = look(series);
  const range = interval ? [{ stored, value: interval.low, high: interval.high }] : [];
  const mark = { color, xOffset: offsetOf(point, points), opacity: isDominated(point, points) ? 0.4 : 1 };
  const seeds = points.length > MOST_POINTS_WITH_SEEDS ? [] : values.map((each) => ({ stored, value: each }));
  return [
    {
      data: { values: seeds },
      mark: { ...mark, type: 'point', shape: 'circle', filled: true, size: 18, opacity: 0.45 },
    },
    { data: { values: range }, mark: { ...mark, type: 'rule', strokeWidth: 2 }, encoding: { y2: { field: 'high' } } },
    { data: { values: [{ stored, value }] }, mark: { ...mark, type: 'point', shape, filled: true, size: 90 } },
  ];
}

/** The largest point of each series, which carries its name. */
function lastOfEachSeries(points: readonly Point[]): Point[] {
  const largest = new Map([...points].sort((a, b) => a.stored - b.stored).map((point) => [point.series.label, point]));
  return [...largest.values()];
}

/** Arms at one budget store all but the same number: they stand side by side, in px. */
function offsetOf(point: Point, points: readonly Point[]): number {
  const alone = points.every(({ spec }) => spec === point.spec);
  const rivals = bySeries(points.filter(({ spec }) => spec === point.spec));
  const distance = alone ? Math.min(26, 180 / rivals.length) : Math.min(10, 48 / rivals.length);
  return (rivals.indexOf(point) - (rivals.length - 1) / 2) * distance;
}

function parameterAxis(points: readonly Point[]): object {
  const stored = points.map((point) => point.stored).filter((count) => count > 0);
  const [least, most] = stored.length > 0 ? [Math.min(...stored), Math.max(...stored)] : [1, 1];
  const margin = (most / least) ** 0.16;
  const ticks = [...new Set(points.map((point) => point.requested ?? Math.round(point.stored)))];
  const axis = { format: '.3~s', labelOverlap: 'greedy' };
  return most / least >= 3
    ? { scale: { type: 'log', domain: [least / margin, most * margin], nice: false }, axis: { ...axis, values: ticks } }
    : { scale: { domain: [0, most * 1.4], nice: false }, axis: { ...axis, values: [0, ...ticks] } };
}

function valueRange(points: readonly Point[]): [number, number] {
  const values = points.flatMap(({ value, values: seeds, interval }) => [
    value,
    ...(points.length > MOST_POINTS_WITH_SEEDS ? [] : seeds),
    ...(interval ? [interval.low, interval.high] : []),
  ]);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const margin = Math.max((most - least) * 0.08, 1e-3);
  return [least - margin, most + margin];
}
