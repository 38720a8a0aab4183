import { mean } from 'simple-statistics';
import type { PrecisionResults } from '../perf/precisions.js';
import { markdownTable } from './page.js';

/** Both precisions, task by task, and their difference with its 95 % interval. */
export function precisionTable({ tasks, difference }: PrecisionResults): string {
  const rows = tasks.map(({ task, metric, fp32, q8, difference: own }) => [
    task,
    metric,
    String(fp32.length),
    mean([...fp32]).toFixed(4),
    mean([...q8]).toFixed(4),
    interval(own),
  ]);
  const pairs = tasks.reduce((sum, { fp32 }) => sum + fp32.length, 0);
  const all = ['**all**', '', `${pairs}`, '', '', `**${interval(difference)}**`];
  const head = ['task', 'metric', 'seeds', 'float32', '8 bits', 'difference (95 %)'];
  return markdownTable(head, [...rows, all]);
}

function interval({ mean: centre, low, high }: PrecisionResults['difference']): string {
  return `${signed(centre)} (${signed(low)} to ${signed(high)})`;
}

function signed(value: number): string {
  return `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(4)}`;
}
