import { ConfigError, didYouMean } from '@peftjs/core/method';
import type { DataSet, TaskKind } from './data-set.js';
import { entityF1, entityScores, type Taggings } from './metrics/entities.js';
import { type LabelRows, macroF1OfLabels, microF1 } from './metrics/labels.js';
import { meanReciprocalRank, ndcgAt, type Ranking, recallAt } from './metrics/retrieval.js';
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
export interface Task<K extends TaskKind = TaskKind> {
  readonly name: string;
  readonly kind: K;
  readonly classes: readonly string[];
  readonly train: DataSet<K>;
  readonly dev: DataSet<K>;
  /** Rows to select a checkpoint on, where the split of a published task names them; else set a part of `train` aside. */
  readonly selection?: DataSet<K>;
  /** Other sets that are reported beside `dev`, by name: the mismatched one of MNLI. */
  readonly alsoReported?: Readonly<Record<string, DataSet<K>>>;
  /** What the task is judged by. */
  readonly metrics: MetricSet<never>;
  /** The metric that selects a checkpoint; higher is better. */
  readonly primaryMetric: string;
}

/** A task of two data sets with the same labels. */
export function taskOf<K extends TaskKind>(
  name: string,
  train: DataSet<K>,
  dev: DataSet<K>,
  metrics: MetricSet<never> = metricsFor(train.kind, train.classes),
): Task<K> {
  const { kind, classes } = train;
  return { name, kind, classes, train, dev, metrics, primaryMetric: metrics.primary };
}

/** What a row is predicted to be, and what it is, by kind of task. */
export interface PredictionsByKind {
  /** A class number. */
  readonly classification: number;
  readonly regression: number;
  /** 1 for each class that holds, 0 for the others. */
  readonly 'multi-label': readonly number[];
  /** The tags of the words of a sentence. */
  readonly 'token-classification': readonly string[];
  /** Of an anchor: the ten nearest texts, by number, the nearest first; and those that are its positives. */
  readonly pairs: readonly number[];
  readonly triplets: readonly number[];
  /** A cosine, and the score of the pair. */
  readonly 'scored-pairs': number;
}

/** Judges predictions against what is there, row by row: `PredictionsByKind` says what both are. */
export type Metric<P = number> = (predicted: readonly P[], actual: readonly P[]) => number;

/** Metrics by name, and the one that selects a checkpoint: higher must be better. */
export interface MetricSet<P = number> {
  readonly primary: string;
  readonly metrics: Readonly<Record<string, Metric<P>>>;
}

type Metrics<P> = MetricSet<P>['metrics'];

const ofClasses: Metrics<number> = { accuracy, macroF1, f1: (a, b) => f1(a, b), matthewsCorrelation };
const ofNumbers: Metrics<number> = {
  pearson: orZero(pearson),
  spearman: orZero(spearman),
  meanSquaredError,
};
const known: Metrics<number> = { ...ofClasses, ...ofNumbers };

const retrieval: MetricSet<readonly number[]> = {
  primary: 'ndcgAt10',
  metrics: {
    ndcgAt10: (found, wanted) => ndcgAt(10, rankings(found, wanted)),
    mrr: (found, wanted) => meanReciprocalRank(rankings(found, wanted)),
    recallAt1: (found, wanted) => recallAt(1, rankings(found, wanted)),
    recallAt10: (found, wanted) => recallAt(10, rankings(found, wanted)),
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
 * The metrics of a kind of task. A correlation that is undefined because all predictions or labels are equal counts as 0.
 * @param classes of several labels a row and of tags: up to 100 of them have an F1 of their own, `f1.<label>`
 */
export function metricsFor<K extends TaskKind>(
  kind: K,
  classes: readonly string[] = [],
): MetricSet<PredictionsByKind[K]> {
  return metricSets[kind](classes);
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
export function metricsLedBy(
  primary: string,
  { kind, classes }: Pick<DataSet<TaskKind>, 'kind' | 'classes'>,
): MetricSet<never> {
  const { metrics } = metricsFor(kind, classes) as MetricSet<never>;
  const others = kind === 'classification' ? ofClasses : {};
  const fitting: Metrics<never> = { ...metrics, ...others };
  const names = Object.keys(fitting).filter(
    (name) => name !== 'meanSquaredError' && (name !== 'f1' || classes.length === 2),
  );
  if (names.includes(primary))
    return { primary, metrics: { [primary]: fitting[primary] as Metric<never>, ...metrics } };
  const came = `${JSON.stringify(primary)}${didYouMean(primary, names)}`;
  throw new ConfigError(`expected the metric of such data to be one of ${names.join(', ')}, got ${came}`, 'metric');
}

/** Most classes that have an F1 of their own, and the longest name of one, in characters. */
const MOST_OWN = 100;

function haveOwn(classes: readonly string[]): readonly string[] {
  return classes.length <= MOST_OWN && classes.every(({ length }) => length <= MOST_OWN) ? classes : [];
}

const ofRows: Readonly<Record<string, Metric<never>>> = {
  ...known,
  ...retrieval.metrics,
  microF1,
  entityF1,
  tokenAccuracy,
};

/**
 * A metric of rows by the name that `score` gives it, to judge stored predictions again; undefined for one that is no function of them, as
 * perplexity is none. `macroF1` is that of classes.
 */
export function metricNamed(name: string): Metric<never> | undefined {
  return Object.hasOwn(ofRows, name) ? ofRows[name] : undefined;
}

/** F1 over all labels, its mean, and that of each. */
function ofLabels(labels: readonly string[]): MetricSet<readonly number[]> {
  const column = (rows: LabelRows, label: number): number[] => rows.map((row) => row[label] as number);
  const own = haveOwn(labels).map((name, label): [string, Metric<readonly number[]>] => [
    `f1.${name}`,
    (predicted, actual) => f1(column(predicted, label), column(actual, label)),
  ]);
  return { primary: 'microF1', metrics: { microF1, macroF1: macroF1OfLabels, ...Object.fromEntries(own) } };
}

/** Of tags that say where entities begin (`B-PER`) F1 of entities, over all types and of each; the share of right tags of any. */
function ofTags(tags: readonly string[]): MetricSet<readonly string[]> {
  const types = [...new Set(tags.filter((tag) => ENTITY.test(tag)).map((tag) => tag.slice(2)))].sort();
  if (types.length === 0) return { primary: 'tokenAccuracy', metrics: { tokenAccuracy } };
  const own = haveOwn(types).map((type): [string, Metric<readonly string[]>] => [
    `f1.${type}`,
    (predicted, actual) => entityScores(predicted, actual).byType.get(type)?.f1 ?? 0,
  ]);
  const metrics = {
    entityF1,
    entityPrecision: (predicted: Taggings, actual: Taggings) => entityScores(predicted, actual).precision,
    entityRecall: (predicted: Taggings, actual: Taggings) => entityScores(predicted, actual).recall,
    tokenAccuracy,
  };
  return { primary: 'entityF1', metrics: { ...metrics, ...Object.fromEntries(own) } };
}

/** The tags of IOB1, IOB2, IOE and IOBES that are part of an entity. */
const ENTITY = /^[BIES]-./;

/** Share of the words whose tag is right; 0 without words. */
function tokenAccuracy(predicted: Taggings, actual: Taggings): number {
  const words = actual.flatMap((tags, row) => tags.map((tag, word) => Number(predicted[row]?.[word] === tag)));
  return words.length === 0 ? 0 : words.reduce((sum, right) => sum + right, 0) / words.length;
}

function rankings(found: readonly (readonly number[])[], wanted: readonly (readonly number[])[]): Ranking[] {
  return found.map((ranked, query) => ({ ranked, relevant: wanted[query] ?? [] }));
}

/** A model that gives one value to every row is worth nothing, and that must be comparable. */
function orZero(correlation: Metric): Metric {
  return (predicted, actual) => (isConstant(predicted) || isConstant(actual) ? 0 : correlation(predicted, actual));
}
