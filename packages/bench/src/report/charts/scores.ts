import { meritOf } from '../../statistics/summary-row.js';
import { formatMetric, metricTitle } from '../format.js';
import { bySeries, seriesOfEntries, type Entry, type Panel } from '../contents.js';
import type { Chart } from './svg.js';
import { HEIGHT, look, WIDTH } from './theme.js';

/** The metric against what is stored: every seed, the mean with its interval, the frozen baseline as a line. */
export function scoreChart(panel: Panel): Chart {
  const adapted = panel.entries.filter((entry) => entry !== panel.baseline);
  const x = { field: 'stored', type: 'quantitative', title: 'stored parameters', ...parameterAxis(adapted) };
  const y = {
    field: 'value',
    type: 'quantitative',
    title: metricTitle(panel),
    scale: { domain: valueRange(panel.entries), nice: false },
  };
  return {
    description: `${panel.metric} on ${panel.title} against the number of stored parameters, one point per method and budget`,
    spec: {
      width: WIDTH,
      height: HEIGHT,
      autosize: { type: 'fit', contains: 'padding' },
      data: { values: [] },
      encoding: { x, y },
      layer: [
        ...(panel.baseline ? baselineLayers(panel.baseline) : []),
        ...frontierLayers(adapted),
        ...adapted.flatMap((entry) => entryLayers(entry, offsetOf(entry, adapted))),
      ],
    } as Chart['spec'],
  };
}

/** The series that the chart shows as points. */
export function scoreSeries(panel: Panel): ReturnType<typeof seriesOfEntries> {
  return seriesOfEntries(panel.entries.filter((entry) => entry !== panel.baseline));
}

function baselineLayers({ row, series }: Entry): object[] {
  const { color, dash } = look(series);
  const { mean, interval } = row.score;
  const line = [{ value: mean, low: interval?.low ?? mean, high: interval?.high ?? mean }];
  const wide = { x: { value: 0 }, x2: { value: 'width' } };
  return [
    {
      data: { values: line },
      mark: { type: 'rect', color, opacity: 0.12 },
      encoding: { ...wide, y: { field: 'low' }, y2: { field: 'high' } },
    },
    { data: { values: line }, mark: { type: 'rule', color, strokeDash: dash, strokeWidth: 1.5 }, encoding: wide },
    {
      data: { values: [{ ...line[0], text: `${row.label} (frozen) ${formatMetric(mean)}` }] },
      mark: { type: 'text', color: 'var(--soft)', align: 'right', baseline: 'top', dy: 5 },
      encoding: { x: { value: 'width' }, text: { field: 'text' } },
    },
  ];
}

/** The best mean at each size or below it: what is under the steps costs more and gives less. */
function frontierLayers(entries: readonly Entry[]): object[] {
  const points = entries.map(({ row }) => ({
    stored: row.parameters.stored,
    value: row.score.mean,
    merit: meritOf(row),
  }));
  const frontier = points
    .filter((point) => !points.some((other) => other.stored < point.stored && other.merit >= point.merit))
    .filter((point) => !points.some((other) => other.stored === point.stored && other.merit > point.merit))
    .sort((a, b) => a.stored - b.stored);
  if (new Set(entries.map(({ row }) => row.budget.spec)).size < 2) return [];
  return [
    {
      data: { values: frontier },
      mark: { type: 'line', color: 'var(--soft)', opacity: 0.45, strokeWidth: 1.5, interpolate: 'step-after' },
    },
  ];
}

function entryLayers({ row, series }: Entry, xOffset: number): object[] {
  const { color, shape } = look(series);
  const { stored } = row.parameters;
  const { mean, interval } = row.score;
  const range = interval ? [{ stored, value: interval.low, high: interval.high }] : [];
  const mark = { color, xOffset };
  return [
    {
      data: { values: row.values.map((value) => ({ stored, value })) },
      mark: { ...mark, type: 'point', shape: 'circle', filled: true, size: 18, opacity: 0.45 },
    },
    { data: { values: range }, mark: { ...mark, type: 'rule', strokeWidth: 2 }, encoding: { y2: { field: 'high' } } },
    {
      data: { values: [{ stored, value: mean }] },
      mark: { ...mark, type: 'point', shape, filled: true, size: 90, opacity: row.budget.met ? 1 : 0.4 },
    },
  ];
}

/** Methods at one budget store all but the same number: they stand side by side, in px. */
function offsetOf(entry: Entry, entries: readonly Entry[]): number {
  const alone = entries.every(({ row }) => row.budget.spec === entry.row.budget.spec);
  const rivals = bySeries(entries.filter(({ row }) => row.budget.spec === entry.row.budget.spec));
  const distance = alone ? Math.min(26, 180 / rivals.length) : Math.min(10, 64 / rivals.length);
  return (rivals.indexOf(entry) - (rivals.length - 1) / 2) * distance;
}

function parameterAxis(entries: readonly Entry[]): object {
  const stored = entries.map(({ row }) => row.parameters.stored).filter((count) => count > 0);
  const [least, most] = stored.length > 0 ? [Math.min(...stored), Math.max(...stored)] : [1, 1];
  const margin = (most / least) ** 0.16;
  const ticks = [...new Set(entries.map(({ row }) => row.budget.requested ?? Math.round(row.parameters.stored)))];
  const axis = { format: '.3~s', labelOverlap: 'greedy' };
  return most / least >= 3
    ? { scale: { type: 'log', domain: [least / margin, most * margin], nice: false }, axis: { ...axis, values: ticks } }
    : { scale: { domain: [0, most * 1.4], nice: false }, axis: { ...axis, values: [0, ...ticks] } };
}

function valueRange(entries: readonly Entry[]): [number, number] {
  const values = entries.flatMap(({ row }) => row.values);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const margin = Math.max((most - least) * 0.12, 1e-3);
  return [least - margin, most + margin];
}
