import { formatDuration, formatMilliseconds } from '../format.js';
import { bySeries, seriesOfEntries, type Entry, type Panel } from '../contents.js';
import type { Chart } from './svg.js';
import { colorScale, WIDTH } from './theme.js';

/** Seconds that a whole trial took, mean over seeds. */
export function trialTimeChart(panel: Panel): Chart {
  return barChart(panel, `Seconds per trial on ${panel.title}`, ({ row }) => ({
    value: row.time.totalSeconds,
    text: formatDuration(row.time.totalSeconds),
  }));
}

/** Milliseconds of the median step, mean over seeds. */
export function stepTimeChart(panel: Panel): Chart {
  return barChart(panel, `Median step time on ${panel.title}`, ({ row }) => ({
    value: row.time.stepMedianMs,
    text: formatMilliseconds(row.time.stepMedianMs),
  }));
}

function barChart(
  panel: Panel,
  description: string,
  measure: (entry: Entry) => { value: number; text: string },
): Chart {
  const series = seriesOfEntries(panel.entries);
  const bars = bySeries(panel.entries).map((entry) => ({
    name: nameOf(entry, panel),
    series: entry.series.label,
    ...measure(entry),
  }));
  const most = Math.max(...bars.map(({ value }) => value));
  const x = { field: 'value', type: 'quantitative', axis: null, scale: { domain: [0, most * 1.3 || 1], nice: false } };
  const y = { field: 'name', type: 'nominal', title: null, sort: null, axis: { labelColor: 'var(--ink)' } };
  return {
    description: `${description}: ${bars.map(({ name, text }) => `${name} ${text}`).join(', ')}`,
    spec: {
      width: WIDTH,
      height: 24 * bars.length,
      autosize: { type: 'fit-x', contains: 'padding' },
      data: { values: bars },
      encoding: { x, y },
      layer: [
        {
          mark: { type: 'bar', height: 14 },
          encoding: { color: { field: 'series', type: 'nominal', scale: colorScale(series), legend: null } },
        },
        { mark: { type: 'text', align: 'left', dx: 5 }, encoding: { text: { field: 'text' } } },
      ],
    } as Chart['spec'],
  };
}

function nameOf({ row }: Entry, panel: Panel): string {
  const budgets = panel.budgets.filter(({ requested }) => requested !== null).length;
  return budgets > 1 && row.budget.requested !== null ? `${row.label} · ${row.budget.spec}` : row.label;
}
