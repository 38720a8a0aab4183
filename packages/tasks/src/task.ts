import { ConfigError } from '@peftjs/core/method';
import type { DataSet, TaskKind } from './data-set.js';
import {
  accuracy,
  f1,
  isConstant,
  macroF1,
  matthewsCorrelation,
  meanSquaredError,
  pearson,
  spearman,
} from './metrics/values.js';

/** A training set, and a development set with the same classes that results are reported on. */
export interface Task {
  readonly name: string;
  readonly kind: TaskKind;
  readonly classes: readonly string[];
  readonly train: DataSet;
  readonly dev: DataSet;
  /** Rows to select a checkpoint on, where the split of a published task names them; else set a part of `train` aside. */
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

/** Judges predictions (class numbers or values) against the labels, row by row. */
export type Metric = (predicted: readonly number[], actual: readonly number[]) => number;

/** Metrics by name, and the one that selects a checkpoint: higher must be better. */
export interface MetricSet {
  readonly primary: string;
  readonly metrics: Readonly<Record<string, Metric>>;
}

const ofClasses: Readonly<Record<string, Metric>> = { accuracy, macroF1, f1: (a, b) => f1(a, b), matthewsCorrelation };
const ofNumbers: Readonly<Record<string, Metric>> = {
  pearson: orZero(pearson),
  spearman: orZero(spearman),
  meanSquaredError,
};
const known: Readonly<Record<string, Metric>> = { ...ofClasses, ...ofNumbers };

const metricSets: Readonly<Record<TaskKind, MetricSet>> = {
  classification: metricSet('accuracy', 'macroF1'),
  regression: metricSet('pearson', 'spearman', 'meanSquaredError'),
};

/** The metrics of a kind of task. A correlation that is undefined because all predictions or labels are equal counts as 0. */
export function metricsFor(kind: TaskKind): MetricSet {
  return metricSets[kind];
}

/** Metrics by name, the primary one first. */
export function metricSet(primary: string, ...others: readonly string[]): MetricSet {
  const names = [primary, ...others];
  return { primary, metrics: Object.fromEntries(names.map((name) => [name, known[name] as Metric])) };
}

/**
 * The metrics of a data set's kind with another one in front, which selects checkpoints. `f1` judges the second of two classes.
 * @throws ConfigError for a metric that such data do not have, or of which less is better.
 */
export function metricsLedBy(primary: string, { kind, classes }: Pick<DataSet, 'kind' | 'classes'>): MetricSet {
  const fitting = kind === 'classification' ? ofClasses : ofNumbers;
  const names = Object.keys(fitting).filter(
    (name) => name !== 'meanSquaredError' && (name !== 'f1' || classes.length === 2),
  );
  if (names.includes(primary)) {
    return metricSet(primary, ...Object.keys(metricsFor(kind).metrics).filter((name) => name !== primary));
  }
  const came = JSON.stringify(primary);
  throw new ConfigError(`expected the metric of such data to be one of ${names.join(', ')}, got ${came}`, 'metric');
}

/** A model that gives one value to every row is worth nothing, and that must be comparable. */
function orZero(correlation: Metric): Metric {
  return (predicted, actual) => (isConstant(predicted) || isConstant(actual) ? 0 : correlation(predicted, actual));
}
