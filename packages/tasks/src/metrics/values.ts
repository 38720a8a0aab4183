/**
 * Metrics of predictions against labels, row by row. Values match scikit-learn and SciPy, even where a metric is
 * undefined: metrics of classes are then 0, as in scikit-learn, and correlations NaN, as in SciPy. Without rows, the
 * metrics of classes and the error are 0. A NaN value makes the correlations and the error NaN.
 */
import { ShapeError } from '@peftjs/core/method';

/** The share of rows with the right class; 0 without rows. */
export function accuracy(predicted: readonly number[], actual: readonly number[]): number {
  return mean(matched(predicted, actual).map(([a, b]) => (a === b ? 1 : 0)));
}

/** F1 of one class, 2 TP / (2 TP + FP + FN); 0 if it is neither predicted nor present, as in scikit-learn. */
export function f1(predicted: readonly number[], actual: readonly number[], positive = 1): number {
  let truePositives = 0;
  let named = 0;
  for (const [a, b] of matched(predicted, actual)) {
    if (a === positive && b === positive) truePositives++;
    named += Number(a === positive) + Number(b === positive);
  }
  return named === 0 ? 0 : (2 * truePositives) / named;
}

/** The mean F1 of all classes that are predicted or present. */
export function macroF1(predicted: readonly number[], actual: readonly number[]): number {
  const classes = [...new Set([...predicted, ...actual])];
  return mean(classes.map((positive) => f1(predicted, actual, positive)));
}

/**
 * Matthews correlation for any number of classes (Gorodkin, 2004): with s rows, of which c are right, and p_k
 * predictions and t_k labels of class k, (c s - sum p_k t_k) / sqrt((s^2 - sum p_k^2) (s^2 - sum t_k^2)); 0 if all
 * predictions or all labels are of one class, as in scikit-learn.
 */
export function matthewsCorrelation(predicted: readonly number[], actual: readonly number[]): number {
  const rows = predicted.length;
  const right = matched(predicted, actual).filter(([a, b]) => a === b).length;
  const [p, t] = [counts(predicted), counts(actual)];
  const both = sum([...p].map(([label, count]) => count * (t.get(label) ?? 0)));
  const spread = (of: Map<number, number>) => rows ** 2 - sum([...of.values()].map((count) => count ** 2));
  const scale = spread(p) * spread(t);
  return scale === 0 ? 0 : (right * rows - both) / Math.sqrt(scale);
}

/** Linear correlation; NaN if either side is constant or has fewer than two rows, as in SciPy. */
export function pearson(predicted: readonly number[], actual: readonly number[]): number {
  const pairs = matched(predicted, actual);
  if (isConstant(predicted) || isConstant(actual)) return NaN;
  const [centreA, centreB] = [mean(predicted), mean(actual)];
  const covariance = sum(pairs.map(([a, b]) => (a - centreA) * (b - centreB)));
  const spread = (values: readonly number[], centre: number) =>
    Math.sqrt(sum(values.map((value) => (value - centre) ** 2)));
  const correlation = covariance / spread(predicted, centreA) / spread(actual, centreB);
  return Math.max(-1, Math.min(1, correlation));
}

/** Correlation of the ranks; ties get their average rank. NaN if either side is constant, as in SciPy. */
export function spearman(predicted: readonly number[], actual: readonly number[]): number {
  if ([...predicted, ...actual].some(Number.isNaN)) return NaN;
  return pearson(averageRanks(predicted), averageRanks(actual));
}

/** The mean of the squared differences; 0 without rows. */
export function meanSquaredError(predicted: readonly number[], actual: readonly number[]): number {
  return mean(matched(predicted, actual).map(([a, b]) => (a - b) ** 2));
}

/** Ranks from 1; ties get their average rank. */
function averageRanks(values: readonly number[]): number[] {
  const order = [...values.keys()].sort((a, b) => (values[a] as number) - (values[b] as number));
  const ranks = values.map(() => 0);
  for (let start = 0; start < order.length;) {
    let end = start + 1;
    while (end < order.length && values[order[end] as number] === values[order[start] as number]) end++;
    for (const row of order.slice(start, end)) ranks[row] = (start + 1 + end) / 2;
    start = end;
  }
  return ranks;
}

/** @throws ShapeError unless there is one prediction per label. */
function matched(predicted: readonly number[], actual: readonly number[]): [predicted: number, actual: number][] {
  if (predicted.length !== actual.length) {
    throw new ShapeError(`expected a prediction for each of ${actual.length} labels, got ${predicted.length}`);
  }
  return predicted.map((value, row) => [value, actual[row] as number]);
}

function counts(labels: readonly number[]): Map<number, number> {
  const found = new Map<number, number>();
  for (const label of labels) found.set(label, (found.get(label) ?? 0) + 1);
  return found;
}

/** Whether all values are equal; true for none. */
export function isConstant(values: readonly number[]): boolean {
  return values.every((value) => value === values[0]);
}

/** The mean; 0 without values. */
export function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : sum(values) / values.length;
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
