import type { DataSet, TaskKind } from './data-set.js';
import { metricsFor } from './metric-set.js';

/** A training set, and a development set with the same classes that results are reported on. */
export interface Task {
  readonly name: string;
  readonly kind: TaskKind;
  readonly classes: readonly string[];
  readonly train: DataSet;
  readonly dev: DataSet;
  /** The metric that selects a checkpoint; higher is better. */
  readonly primaryMetric: string;
}

/** A task of two data sets with the same labels. */
export function taskOf(name: string, train: DataSet, dev: DataSet): Task {
  const { kind, classes } = train;
  return { name, kind, classes, train, dev, primaryMetric: metricsFor(kind).primary };
}
