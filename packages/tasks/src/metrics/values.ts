/**
 * Metrics of predictions against labels, row by row, with the values of scikit-learn and SciPy, also where a metric is undefined:
 * those of classes are 0 there, as scikit-learn has it, the correlations NaN, as SciPy has it. Without any row those of classes
 * and the error are 0. A value that is NaN makes the correlations and the error NaN.
 */
import { ShapeError } from '@peftjs/core/method';

/** Share of rows whose class is right; 0 without rows. */
export function accuracy(predicted: readonly number[], actual: readonly number[]): number {
  return mean(matched(predicted, actual).map(([a, b]) => (a === b ? 1 : 0)));
}

/** F1 of one class, 2 TP / (2 TP + FP + FN); 0 when it is neither predicted nor there, as in scikit-learn. */
export function f1(predicted: readonly number[], actual: readonly number[], positive = 1): number {
  let truePositives = 0;
  let named = 0;
  for (const [a, b] of matched(predicted, actual)) {
    if (a === positive && b === positive) truePositives++;
    named += Number(a === positive) + Number(b === positive);
  }
  return named === 0 ? 0 : (2 * truePositives) / named;
}

/** The mean of F1 over every class that is predicted or there. */
export function macroF1(predicted: readonly number[], actual: readonly number[]): number {
  const classes = [...new Set([...predicted, ...actual])];
  return mean(classes.map((positive) => f1(predicted, actual, positive)));
}

/**
 * Matthews correlation for any number of classes (Gorodkin, 2004): with c right rows of s, p_k predicted and t_k present,
 * (c s - sum p_k t_k) / sqrt((s^2 - sum p_k^2) (s^2 - sum t_k^2)); 0 when all predictions or all labels are one class, as in
 * scikit-learn.
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

/** Linear correlation; NaN when either side is constant, or has fewer than two rows, as in SciPy. */
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

/** Correlation of the ranks, equal values sharing their average rank; NaN when either side is constant, as in SciPy. */
export function spearman(predicted: readonly number[], actual: readonly number[]): number {
  if ([...predicted, ...actual].some(Number.isNaN)) return NaN;
  return pearson(averageRanks(predicted), averageRanks(actual));
}

/** Mean of the squared differences; 0 without rows. */
export function meanSquaredError(predicted: readonly number[], actual: readonly number[]): number {
  return mean(matched(predicted, actual).map(([a, b]) => (a - b) ** 2));
}

/** Ranks from 1; of equal values each gets the mean of the ranks they take up. */
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

/** @throws ShapeError unless there is one prediction for each label. */
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

/** Whether all values are one, as they are without any. */
export function isConstant(values: readonly number[]): boolean {
  return values.every((value) => value === values[0]);
}

/** 0 without values. */
export function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : sum(values) / values.length;
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
