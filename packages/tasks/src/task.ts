import type { DataSet, TaskKind } from './data-set.js';
import { metricsFor, type MetricSet } from './metric-set.js';

/** A training set, and a development set with the same classes that results are reported on. */
export interface Task {
  readonly name: string;
  readonly kind: TaskKind;
  readonly classes: readonly string[];
  readonly train: DataSet;
  readonly dev: DataSet;
  /** Rows to select a checkpoint on, where the task's protocol names them; else set a part of `train` aside. */
  readonly selection?: DataSet;
  /** Other sets that are reported beside `dev`, by name: the mismatched one of MNLI. */
  readonly alsoReported?: Readonly<Record<string, DataSet>>;
  /** What the task is judged by. */
  readonly metrics: MetricSet;
  /** The metric that selects a checkpoint; higher is better. */
  readonly primaryMetric: string;
}

/** A task of two data sets with the same labels. */
export function taskOf(name: string, train: DataSet, dev: DataSet, metrics = metricsFor(train.kind)): Task {
  const { kind, classes } = train;
  return { name, kind, classes, train, dev, metrics, primaryMetric: metrics.primary };
}
