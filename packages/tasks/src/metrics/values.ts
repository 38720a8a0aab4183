/**
 * Metrics of predictions against labels, row by row. Values match scikit-learn and SciPy, even where a metric is
 * undefined: metrics of classes are then 0, as in scikit-learn, and correlations NaN, as in SciPy. Without rows, the
 * metrics of classes and the error are 0. A NaN value makes the correlations and the error NaN.
 *
 * Each is defined once, for rows that are drawn any number of times; without a resample, every row counts once.
 */
import { ShapeError } from '@peftjs/core/method';

/** A metric of a resample, from how often each row is drawn: as many draws as there are rows. */
export type WeightedMetric = (weights: Uint8Array) => number;

/** A metric of rows with one prediction and one label each. */
export interface RowMetric<P = number> {
  /** @throws ShapeError unless there is one prediction per label. */
  (predicted: readonly P[], actual: readonly P[]): number;
  /** The metric of resamples, for a bootstrap, which has many: what rows contribute is computed once. */
  weighted(predicted: readonly P[], actual: readonly P[]): WeightedMetric;
}

/** Makes a metric from its weighted form. */
export function rowMetric<P>(weighted: RowMetric<P>['weighted']): RowMetric<P> {
  const metric = (predicted: readonly P[], actual: readonly P[]): number => {
    if (predicted.length !== actual.length) {
      throw new ShapeError(`expected a prediction for each of ${actual.length} labels, got ${predicted.length}`);
    }
    return weighted(predicted, actual)(new Uint8Array(actual.length).fill(1));
  };
  return Object.assign(metric, { weighted });
}

/** The share of rows with the right class; 0 without rows. */
export const accuracy: RowMetric = rowMetric((predicted, actual) =>
  meanOf(predicted.map((value, row) => Number(value === actual[row]))),
);

/** F1 of one class, 2 TP / (2 TP + FP + FN); 0 if it is neither predicted nor present, as in scikit-learn. */
export function f1(predicted: readonly number[], actual: readonly number[], positive = 1): number {
  return f1Of(positive)(predicted, actual);
}

/** Makes the F1 of one class. */
export function f1Of(positive: number): RowMetric {
  return rowMetric((predicted, actual) =>
    ratioOfSums(predicted.map((value, row) => f1Parts(positive, [value], [actual[row] as number]))),
  );
}

/** What some decisions add to the numerator and the denominator of F1. */
export function f1Parts(positive: number, predicted: readonly number[], actual: readonly number[]): [number, number] {
  const both = predicted.filter((value, index) => value === positive && actual[index] === positive).length;
  const named = [...predicted, ...actual].filter((value) => value === positive).length;
  return [2 * both, named];
}

/** The mean F1 of all classes that are predicted or present. */
export const macroF1: RowMetric = rowMetric((predicted, actual) =>
  ofConfusion(predicted, actual, (classes) => {
    const seen = classes.filter((counts) => counts.actual + counts.predicted > 0);
    return mean(seen.map((counts) => (2 * counts.both) / (counts.actual + counts.predicted)));
  }),
);

/**
 * Matthews correlation for any number of classes (Gorodkin, 2004): with s rows, of which c are right, and p_k
 * predictions and t_k labels of class k, (c s - sum p_k t_k) / sqrt((s^2 - sum p_k^2) (s^2 - sum t_k^2)); 0 if all
 * predictions or all labels are of one class, as in scikit-learn.
 */
export const matthewsCorrelation: RowMetric = rowMetric((predicted, actual) =>
  ofConfusion(predicted, actual, (classes) => {
    const rows = sum(classes.map((counts) => counts.actual));
    const right = sum(classes.map((counts) => counts.both));
    const agreement = sum(classes.map((counts) => counts.actual * counts.predicted));
    const spread = (of: keyof ClassCounts): number => rows ** 2 - sum(classes.map((counts) => counts[of] ** 2));
    const scale = spread('predicted') * spread('actual');
    return scale === 0 ? 0 : (right * rows - agreement) / Math.sqrt(scale);
  }),
);

/** Linear correlation; NaN if either side is constant or has fewer than two rows, as in SciPy. */
export const pearson: RowMetric = linear(NaN);

/** Makes the linear correlation, with a value for a side that is constant. */
export function linear(ofConstant: number): RowMetric {
  return rowMetric((predicted, actual) => correlation(unchanged, predicted, actual, ofConstant));
}

/** Correlation of the ranks; ties get their average rank. NaN if either side is constant, as in SciPy. */
export const spearman: RowMetric = ranked(NaN);

/** Makes the correlation of the ranks, likewise. */
export function ranked(ofConstant: number): RowMetric {
  return rowMetric((predicted, actual) => correlation(averageRanks, predicted, actual, ofConstant));
}

/** The mean of the squared differences; 0 without rows. */
export const meanSquaredError: RowMetric = rowMetric((predicted, actual) =>
  meanOf(predicted.map((value, row) => (value - (actual[row] as number)) ** 2)),
);

/** A ratio of sums over rows, from what each row adds to the numerator and the denominator; 0 if that is 0. */
export function ratioOfSums(parts: readonly (readonly [number, number])[]): WeightedMetric {
  const numerator = sumOver(parts.map(([top]) => top));
  const denominator = sumOver(parts.map(([, bottom]) => bottom));
  return (weights) => {
    const divisor = denominator(weights);
    return divisor === 0 ? 0 : numerator(weights) / divisor;
  };
}

/** The sum of a value of each row. Where all are whole, rows with the most frequent one are counted, not visited. */
function sumOver(values: readonly number[]): WeightedMetric {
  const usual = values.every(Number.isInteger) ? mostFrequent(values) : 0;
  const rows = Int32Array.from(values.keys()).filter((row) => values[row] !== usual);
  const more = Float64Array.from(rows, (row) => (values[row] as number) - usual);
  return (weights) => {
    let total = weights.length * usual;
    for (let at = 0; at < rows.length; at++) total += (weights[rows[at] as number] as number) * (more[at] as number);
    return total;
  };
}

/** Returns 0 without values. */
function mostFrequent(values: readonly number[]): number {
  const counts = new Map<number, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].reduce((most, entry) => (entry[1] > most[1] ? entry : most), [0, 0])[0];
}

function meanOf(values: readonly number[]): WeightedMetric {
  return ratioOfSums(values.map((value) => [value, 1]));
}

function weightedSum(values: Float64Array, weights: Uint8Array): number {
  let sum = 0;
  for (let row = 0; row < values.length; row++) sum += (weights[row] as number) * (values[row] as number);
  return sum;
}

/** The rows of a class, the rows predicted as it, and the rows that are both. */
interface ClassCounts {
  readonly actual: number;
  readonly predicted: number;
  readonly both: number;
}

/** A metric of the counts of every class that is predicted or present in any row. */
function ofConfusion(
  predicted: readonly number[],
  actual: readonly number[],
  of: (classes: readonly ClassCounts[]) => number,
): WeightedMetric {
  const names = [...new Set([...predicted, ...actual])];
  const numbers = new Map(names.map((name, index) => [name, index] as const));
  const numberOf = (name: number): number => numbers.get(name) as number;
  const cells = Int32Array.from(
    predicted,
    (name, row) => names.length * numberOf(actual[row] as number) + numberOf(name),
  );
  return (weights) => {
    const counts = new Float64Array(names.length ** 2); // [actual x predicted]
    for (let row = 0; row < cells.length; row++) {
      const cell = cells[row] as number;
      counts[cell] = (counts[cell] as number) + (weights[row] as number);
    }
    const total = (cellOf: (other: number) => number): number =>
      sum(names.map((_, other) => counts[cellOf(other)] as number));
    return of(
      names.map((_, name) => ({
        actual: total((other) => names.length * name + other),
        predicted: total((other) => names.length * other + name),
        both: counts[(names.length + 1) * name] as number,
      })),
    );
  };
}

/** Values as a function of the weights; those of rows without a weight are meaningless. */
type Valued = (values: readonly number[]) => (weights: Uint8Array) => Float64Array;

function unchanged(values: readonly number[]): () => Float64Array {
  const same = Float64Array.from(values);
  return () => same;
}

/** Ranks from 1 among the weighted rows; ties get their average rank. */
function averageRanks(values: readonly number[]): (weights: Uint8Array) => Float64Array {
  const distinct = [...new Set(values)].sort((a, b) => a - b);
  const indices = new Map(distinct.map((value, index) => [value, index] as const));
  const places = Int32Array.from(values, (value) => indices.get(value) as number);
  const isBroken = values.some(Number.isNaN);
  return (weights) => {
    if (isBroken) return new Float64Array(values.length).fill(NaN);
    const shared = new Float64Array(distinct.length);
    for (let row = 0; row < places.length; row++) {
      const place = places[row] as number;
      shared[place] = (shared[place] as number) + (weights[row] as number);
    }
    let below = 0;
    for (let place = 0; place < shared.length; place++) {
      const tied = shared[place] as number;
      shared[place] = below + (tied + 1) / 2;
      below += tied;
    }
    const ranks = new Float64Array(places.length);
    for (let row = 0; row < ranks.length; row++) ranks[row] = shared[places[row] as number] as number;
    return ranks;
  };
}

/** Pearson's correlation of two sides; `ofConstant` if either is constant. */
function correlation(
  valued: Valued,
  predicted: readonly number[],
  actual: readonly number[],
  ofConstant: number,
): WeightedMetric {
  const [ofPredicted, ofActual] = [valued(predicted), valued(actual)];
  return (weights) => {
    const [a, b] = [ofPredicted(weights), ofActual(weights)];
    if (isConstant(a, weights) || isConstant(b, weights)) return ofConstant;
    const [centreA, centreB] = [weightedSum(a, weights) / a.length, weightedSum(b, weights) / b.length];
    let covariance = 0;
    let squaresA = 0;
    let squaresB = 0;
    for (let row = 0; row < a.length; row++) {
      const weight = weights[row] as number;
      const fromA = (a[row] as number) - centreA;
      const fromB = (b[row] as number) - centreB;
      covariance += weight * fromA * fromB;
      squaresA += weight * fromA * fromA;
      squaresB += weight * fromB * fromB;
    }
    return Math.max(-1, Math.min(1, covariance / Math.sqrt(squaresA) / Math.sqrt(squaresB)));
  };
}

/** Whether all weighted rows have one value; true for none. */
function isConstant(values: Float64Array, weights: Uint8Array): boolean {
  const first = weights.findIndex((weight) => weight > 0);
  for (let row = first + 1; row < values.length; row++) {
    if (weights[row] !== 0 && values[row] !== values[first]) return false;
  }
  return first < 0 || !Number.isNaN(values[first]);
}

/** The mean; 0 without values. */
export function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : sum(values) / values.length;
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
