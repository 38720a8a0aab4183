import { bySeries, seriesOfEntries, type Entry, type Panel } from '../contents.js';
import { formatDuration, formatMebibytes, formatMilliseconds } from '../format.js';
import { grouped } from '../statistics/comparisons.js';
import { colorScale, WIDTH, type Chart } from './draw.js';

/** A measurement of a trial besides its score. */
interface Measure {
  /** Returns the value of an entry. */
  readonly of: (entry: Entry) => number;
  /** Formats a value. */
  readonly format: (value: number) => string;
}

/** Seconds per trial, averaged over seeds. */
export function trialTimeChart(panel: Panel): Chart {
  return barChart(panel, `Seconds per trial on ${panel.title}`, {
    of: ({ row }) => row.time.totalSeconds,
    format: formatDuration,
  });
}

/** Milliseconds of the median step, averaged over seeds. */
export function stepTimeChart(panel: Panel): Chart {
  return barChart(panel, `Median step time on ${panel.title}`, {
    of: ({ row }) => row.time.stepMedianMs,
    format: formatMilliseconds,
  });
}

/** Peak resident memory of the process: the maximum over seeds. */
export function memoryChart(panel: Panel): Chart {
  return barChart(panel, `Peak memory on ${panel.title}`, {
    of: ({ row }) => row.peakRssBytes,
    format: formatMebibytes,
  });
}

/** One bar per arm: the mean over its budgets, with a line from the smallest to the largest. */
function barChart(panel: Panel, description: string, measure: Measure): Chart {
  const series = seriesOfEntries(panel.entries);
  const bars = grouped(bySeries(panel.entries), (entry) => entry.series.label).map((entries) =>
    barOf(entries, measure),
  );
  const most = Math.max(...bars.map(({ high }) => high));
  const x = { field: 'value', type: 'quantitative', axis: null, scale: { domain: [0, most * 1.55 || 1], nice: false } };
  const y = { field: 'name', type: 'nominal', title: null, sort: null, axis: { labelColor: 'var(--ink)' } };
  return {
    description: `${description}: ${bars.map(({ name, text }) => `${name} ${text}`).join(', ')}`,
    spec: {
      width: WIDTH,
      height: 24 * bars.length,
      autosize: { type: 'fit-x', contains: 'padding' },
      data: { values: bars },
      encoding: { y },
      layer: [
        {
          mark: { type: 'bar', height: 14 },
          encoding: { x, color: { field: 'series', type: 'nominal', scale: colorScale(series), legend: null } },
        },
        {
          mark: { type: 'rule', color: 'var(--ink)' },
          encoding: { x: { field: 'low', type: 'quantitative' }, x2: { field: 'high' } },
        },
        {
          mark: { type: 'text', align: 'left', dx: 5 },
          encoding: { x: { field: 'high', type: 'quantitative' }, text: { field: 'text' } },
        },
      ],
    } as Chart['spec'],
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
