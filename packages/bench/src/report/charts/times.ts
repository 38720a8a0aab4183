import { figure, type Block } from '../blocks.js';
import { bySeries, seriesOfEntries, type Entry, type Panel } from '../contents.js';
import { formatDuration, formatMebibytes, formatMilliseconds } from '@peftjs/cli/format';
import { grouped } from '../statistics/comparisons.js';
import { colorBy, layered, quantity, WIDTH, type Chart } from './draw.js';

/** A measurement of a trial besides its score. */
interface Measure {
  /** The title of the chart. */
  readonly title: string;
  /** What the chart shows, without its end. */
  readonly caption: string;
  /** The description of the chart, without the task. */
  readonly about: string;
  /** Returns the value of an entry. */
  readonly of: (entry: Entry) => number;
  /** Formats a value. */
  readonly format: (value: number) => string;
}

const MEASURES: readonly Measure[] = [
  {
    title: 'Time of a trial',
    caption: 'Training, evaluation and compilation, mean over seeds',
    about: 'Seconds per trial',
    of: ({ row }) => row.time.totalSeconds,
    format: formatDuration,
  },
  {
    title: 'Time of a step',
    caption: 'Median of a trial, mean over seeds',
    about: 'Median step time',
    of: ({ row }) => row.time.stepMedianMs,
    format: formatMilliseconds,
  },
  {
    title: 'Peak memory',
    caption: 'Of the process that ran the trial, what earlier ones left there included',
    about: 'Peak memory',
    of: ({ row }) => row.peakRssBytes,
    format: formatMebibytes,
  },
];

/** Charts of seconds per trial, milliseconds per step and peak memory. */
export function timeFigures(panel: Panel): Block[] {
  const range = panel.budgets.length > 2 ? '; the line spans the budgets' : '';
  return MEASURES.map((measure) =>
    figure(measure.title, `${measure.caption}${range}.`, () => barChart(panel, measure)),
  );
}

/** One bar per arm: the mean over its budgets, with a line from the smallest to the largest. */
function barChart(panel: Panel, measure: Measure): Chart {
  const bars = grouped(bySeries(panel.entries), (entry) => entry.series.label).map((entries) =>
    barOf(entries, measure),
  );
  const most = Math.max(...bars.map(({ high }) => high));
  const x = quantity('value', { axis: null, scale: { domain: [0, most * 1.55 || 1], nice: false } });
  const y = { field: 'name', type: 'nominal', title: null, sort: null, axis: { labelColor: 'var(--ink)' } };
  const color = colorBy(seriesOfEntries(panel.entries));
  const layers = [
    { mark: { type: 'bar', height: 14 }, encoding: { x, color } },
    { mark: { type: 'rule', color: 'var(--ink)' }, encoding: { x: quantity('low'), x2: { field: 'high' } } },
    { mark: { type: 'text', align: 'left', dx: 5 }, encoding: { x: quantity('high'), text: { field: 'text' } } },
  ];
  return {
    description: `${measure.about} on ${panel.title}: ${bars.map(({ name, text }) => `${name} ${text}`).join(', ')}`,
    spec: layered({ width: WIDTH, height: 24 * bars.length }, { y }, layers, { values: bars, type: 'fit-x' }),
  };
}

/** A bar of the chart. */
interface Bar {
  readonly name: string;
  readonly series: string;
  readonly value: number;
  readonly low: number;
  readonly high: number;
  readonly text: string;
}

function barOf(entries: readonly [Entry, ...Entry[]], { of, format }: Measure): Bar {
  const values = entries.map(of);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const [least, greatest] = [format(low), format(high)];
  return {
    name: entries[0].series.label,
    series: entries[0].series.label,
    value: values.reduce((sum, value) => sum + value, 0) / values.length,
    ...{ low, high, text: least === greatest ? least : range(least, greatest) },
  };
}

/** Formats a range, e.g. `31.2 – 36.0 s`, with a common unit only once. */
function range(least: string, greatest: string): string {
  const unit = / \D+$/.exec(greatest)?.[0] ?? '';
  return `${least.endsWith(unit) ? least.slice(0, least.length - unit.length) : least} – ${greatest}`;
}
