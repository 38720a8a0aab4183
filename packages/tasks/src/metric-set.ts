import { ConfigError } from '@peftjs/core';
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
} from './metrics.js';

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
