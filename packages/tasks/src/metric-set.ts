import type { TaskKind } from './data-set.js';
import { accuracy, macroF1, meanSquaredError, pearson, spearman } from './metrics.js';

/** Judges predictions (class numbers or values) against the labels, row by row. */
export type Metric = (predicted: readonly number[], actual: readonly number[]) => number;

/** Metrics by name, and the one that selects a checkpoint: higher must be better. */
export interface MetricSet {
  readonly primary: string;
  readonly metrics: Readonly<Record<string, Metric>>;
}

const metricSets: Readonly<Record<TaskKind, MetricSet>> = {
  classification: { primary: 'accuracy', metrics: { accuracy, macroF1 } },
  regression: { primary: 'pearson', metrics: { pearson, spearman, meanSquaredError } },
};

/** The metrics of a kind of task. */
export function metricsFor(kind: TaskKind): MetricSet {
  return metricSets[kind];
}
