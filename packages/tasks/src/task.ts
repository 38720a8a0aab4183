import { ConfigError } from '@peftjs/core/method';
import { assertOneOf, didYouMean, objectLike, type RowPredictions, type RowValue } from '@peftjs/core/model';
import type { DataSet, TaskKind } from './data-set.js';
import { expectedCalibrationError } from './metrics/calibration.js';
import { entityF1, entityScores, tokenAccuracy, type TagSequences } from './metrics/entities.js';
import { type LabelRows, macroF1OfLabels, microF1 } from './metrics/labels.js';
import { meanReciprocalRank, ndcgAt, ofQueries, recallAt } from './metrics/retrieval.js';
import {
  accuracy,
  f1,
  f1Of,
  linear,
  macroF1,
  matthewsCorrelation,
  meanSquaredError,
  ranked,
  type RowMetric,
  type WeightedMetric,
} from './metrics/values.js';

/** A training set, and a development set with the same classes. */
export interface Task<K extends TaskKind = TaskKind> extends Pick<DataSet<K>, 'kind' | 'classes'> {
  /** The name of the task. */
  readonly name: string;
  /** The rows to train on. */
  readonly train: DataSet<K>;
  /** The rows that results are reported on. */
  readonly dev: DataSet<K>;
  /**
   * The rows that select a checkpoint, if the published split of the task has them; otherwise set a part of `train`
   * aside.
   */
  readonly selection?: DataSet<K>;
  /** Other sets that are reported in addition to `dev`, by name, e.g. the mismatched set of MNLI. */
  readonly extraDevSets?: Readonly<Record<string, DataSet<K>>>;
  /** The metrics of the task. */
  readonly metrics: MetricSet<never>;
  /** The name of the metric that selects a checkpoint; higher is better. */
  readonly primaryMetric: string;
}

/** Creates a task from two data sets with the same labels. */
export function taskOf<K extends TaskKind>(
  name: string,
  train: DataSet<K>,
  dev: DataSet<K>,
  metrics: MetricSet<never> = metricsFor(train.kind, train.classes),
): Task<K> {
  const { kind, classes } = train;
  return { name, kind, classes, train, dev, metrics, primaryMetric: metrics.primary };
}

/** The form of a row's prediction and of its label, by kind of task. */
export interface PredictionsByKind {
  /** A class number. */
  readonly classification: number;
  /** A number. */
  readonly regression: number;
  /** For each class, 1 if the row has it, otherwise 0. */
  readonly 'multi-label': readonly number[];
  /** The tags of a sentence's words. */
  readonly 'token-classification': readonly string[];
  /** The numbers of the ten texts nearest to an anchor, nearest first; as a label, the numbers of its positives. */
  readonly pairs: readonly number[];
  /** The same as for pairs. */
  readonly triplets: readonly number[];
  /** The cosine of a pair; as a label, its score. */
  readonly 'scored-pairs': number;
}

/** Scores predictions against labels, row by row; `PredictionsByKind` describes both. */
export type Metric<P = number> = (predicted: readonly P[], actual: readonly P[]) => number;

/** Metrics by name, and the one that selects a checkpoint. */
export interface MetricSet<P = number> {
  /** The name of the metric that selects a checkpoint; higher must be better. */
  readonly primary: string;
  /** The metrics by name. */
  readonly metrics: Readonly<Record<string, Metric<P>>>;
  /** Metrics of the outputs themselves, `[rows][classes]`, by name. They select no checkpoint. Default: none. */
  readonly ofOutputs?: Readonly<Record<string, (outputs: readonly Float32Array[], actual: readonly P[]) => number>>;
}

/** A schema for sets of metrics. */
export const someMetrics = objectLike<MetricSet<never>>('metrics by name with the name of the primary one', {
  primary: 'string',
  metrics: 'object',
});

type Metrics<P> = MetricSet<P>['metrics'];

const ofClasses = { accuracy, macroF1, f1: f1Of(1), matthewsCorrelation };
/** A model that predicts the same value for every row has a correlation of 0, so that it can be compared. */
const ofNumbers = { pearson: linear(0), spearman: ranked(0), meanSquaredError };
const known: Readonly<Record<string, RowMetric>> = { ...ofClasses, ...ofNumbers };

const retrieval = {
  primary: 'ndcgAt10',
  metrics: {
    ndcgAt10: ofQueries((rankings) => ndcgAt(10, rankings)),
    mrr: ofQueries((rankings) => meanReciprocalRank(rankings)),
    recallAt1: ofQueries((rankings) => recallAt(1, rankings)),
    recallAt10: ofQueries((rankings) => recallAt(10, rankings)),
  },
};

const metricSets: { readonly [K in TaskKind]: (classes: readonly string[]) => MetricSet<PredictionsByKind[K]> } = {
  classification: () => metricSet('accuracy', 'macroF1'),
  regression: () => metricSet('pearson', 'spearman', 'meanSquaredError'),
  'multi-label': ofLabels,
  'token-classification': ofTags,
  pairs: () => retrieval,
  triplets: () => retrieval,
  'scored-pairs': () => metricSet('spearman', 'pearson'),
};

/**
 * Returns the metrics of a kind of task. A correlation that is undefined because all predictions or all labels are
 * equal counts as 0.
 * @param classes the names of labels or tags: if there are at most 100, each has an F1 of its own, `f1.<label>`
 */
export function metricsFor<K extends TaskKind>(
  kind: K,
  classes: readonly string[] = [],
): MetricSet<PredictionsByKind[K]> {
  assertOneOf('kind', kind, Object.keys(metricSets));
  return metricSets[kind](classes);
}

/** Returns metrics by name, with the primary one first. */
export function metricSet(primary: string, ...others: readonly string[]): MetricSet {
  const names = [primary, ...others];
  return {
    primary,
    metrics: Object.fromEntries(names.map((name) => [name, known[name] as Metric])),
    ...(primary in ofClasses && { ofOutputs: { expectedCalibrationError } }),
  };
}

/**
 * Returns the metrics of a data set's kind with another primary one, which selects checkpoints. `f1` is that of the
 * second of two classes.
 * @throws ConfigError for a metric that does not suit the data, or of which lower is better.
 */
export function metricsWithPrimary(
  primary: string,
  { kind, classes }: Pick<DataSet<TaskKind>, 'kind' | 'classes'>,
): MetricSet<never> {
  const { metrics, ...own } = metricsFor(kind, classes) as MetricSet<never>;
  const others = kind === 'classification' ? ofClasses : {};
  const fitting: Metrics<never> = { ...metrics, ...others };
  const names = Object.keys(fitting).filter(
    (name) => name !== 'meanSquaredError' && (name !== 'f1' || classes.length === 2),
  );
  if (names.includes(primary))
    return { ...own, primary, metrics: { [primary]: fitting[primary] as Metric<never>, ...metrics } };
  const found = `${JSON.stringify(primary)}${didYouMean(primary, names)}`;
  throw new ConfigError(`expected the metric of these data to be one of ${names.join(', ')}, got ${found}`, 'metric');
}

/** The most classes that have an F1 of their own, and the longest name of such a class, in characters. */
const MAX_OWN_SCORES = 100;

function ownScores(classes: readonly string[]): readonly string[] {
  return classes.length <= MAX_OWN_SCORES && classes.every(({ length }) => length <= MAX_OWN_SCORES) ? classes : [];
}

const ofRows: Readonly<Record<string, RowMetric<never>>> = {
  ...known,
  ...retrieval.metrics,
  rewardAccuracy: accuracy, // of preferences: whether the chosen answer has the larger reward, and 1
  microF1,
  entityF1,
  tokenAccuracy,
};

/**
 * Finds a metric by the name that `score` gives it, to score stored predictions again; undefined for a metric that is
 * not a function of them, e.g. perplexity. `macroF1` is that of classes.
 */
export function metricNamed(name: string): Metric<never> | undefined {
  return Object.hasOwn(ofRows, name) ? ofRows[name] : undefined;
}

/**
 * A metric of stored predictions as a function of how often each row is drawn, for a bootstrap over rows. Values equal
 * those of `metricNamed` on the repeated rows. Undefined where it is, and for `macroF1` of labels.
 */
export function weightedMetric(name: string, { predicted, actual }: RowPredictions): WeightedMetric | undefined {
  if (!Object.hasOwn(ofRows, name) || (name === 'macroF1' && predicted.some(Array.isArray))) return undefined;
  return (ofRows[name] as RowMetric<RowValue>).weighted(predicted, actual);
}

/** F1 over all labels, its mean over labels, and the F1 of each label. */
function ofLabels(labels: readonly string[]): MetricSet<readonly number[]> {
  const column = (rows: LabelRows, label: number): number[] => rows.map((row) => row[label] as number);
  const own = ownScores(labels).map((name, label): [string, Metric<readonly number[]>] => [
    `f1.${name}`,
    (predicted, actual) => f1(column(predicted, label), column(actual, label)),
  ]);
  return { primary: 'microF1', metrics: { microF1, macroF1: macroF1OfLabels, ...Object.fromEntries(own) } };
}

/**
 * For tags of entities (`B-PER`): precision, recall and F1 over all entities, and the F1 of each type. For any tags:
 * the share of right tags.
 */
function ofTags(tags: readonly string[]): MetricSet<readonly string[]> {
  const types = [...new Set(tags.filter((tag) => ENTITY.test(tag)).map((tag) => tag.slice(2)))].sort();
  if (types.length === 0) return { primary: 'tokenAccuracy', metrics: { tokenAccuracy } };
  const own = ownScores(types).map((type): [string, Metric<readonly string[]>] => [
    `f1.${type}`,
    (predicted, actual) => entityScores(predicted, actual).byType.get(type)?.f1 ?? 0,
  ]);
  const metrics = {
    entityF1,
    entityPrecision: (predicted: TagSequences, actual: TagSequences) => entityScores(predicted, actual).precision,
    entityRecall: (predicted: TagSequences, actual: TagSequences) => entityScores(predicted, actual).recall,
    tokenAccuracy,
  };
  return { primary: 'entityF1', metrics: { ...metrics, ...Object.fromEntries(own) } };
}

/** The tags of IOB1, IOB2, IOE and IOBES that are part of an entity. */
const ENTITY = /^[BIES]-./;
