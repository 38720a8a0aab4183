import type { RowPredictions, RowValue } from '@peftjs/core';
import { entityScores, metricNamed, type Metric, type TagSequences } from '@peftjs/tasks';

/** A metric of some rows, each repeated by its weight: one weight per row, which sum to the number of rows. */
export type WeightedMetric = (weights: Uint8Array) => number;

/**
 * A metric as a function of how often each row is drawn, for a bootstrap over rows, which calls it thousands of times:
 * what rows contribute is computed once. Values equal those of `metricNamed` on the repeated rows. Undefined for a
 * metric that is not computed from rows.
 */
export function weightedMetric(name: string, { predicted, actual }: RowPredictions): WeightedMetric | undefined {
  const metric = metricNamed(name) as Metric<RowValue> | undefined;
  if (!metric) return undefined;
  const parts = partsByMetric[name];
  if (parts) return ratioOfSums(predicted.map((value, row) => parts(value, actual[row] as RowValue, metric)));
  if (name === 'pearson') return correlation(predicted as number[], actual as number[], weightedMoments);
  if (name === 'spearman') return correlation(predicted as number[], actual as number[], weightedRanks);
  if (name === 'matthewsCorrelation') return ofConfusion(predicted, actual, matthews);
  if (name === 'macroF1' && !predicted.some(Array.isArray)) return ofConfusion(predicted, actual, macroF1);
  return undefined;
}

/**
 * What a row adds to the numerator and denominator of a metric that is a ratio of sums; the metric is 0 if the
 * denominator is 0.
 */
type Parts = (predicted: RowValue, actual: RowValue, metric: Metric<RowValue>) => readonly [number, number];

/** Classes, tags or labels of one row. */
type Texts = readonly (string | number)[];

/** A metric that is a mean over rows, or over queries with an answer. */
const meanOfRows: Parts = (predicted, actual, metric) =>
  Array.isArray(actual) && actual.length === 0 ? [0, 0] : [metric([predicted], [actual]), 1];

const partsByMetric: Readonly<Record<string, Parts>> = {
  accuracy: (predicted, actual) => [Number(predicted === actual), 1],
  meanSquaredError: meanOfRows,
  ndcgAt10: meanOfRows,
  mrr: meanOfRows,
  recallAt1: meanOfRows,
  recallAt10: meanOfRows,
  f1: (predicted, actual) => f1Parts([predicted as number], [actual as number]),
  microF1: (predicted, actual) => f1Parts(predicted as Texts, actual as Texts),
  entityF1: (predicted, actual) => entityParts([predicted] as TagSequences, [actual] as TagSequences),
  tokenAccuracy: (predicted, actual) => {
    const tags = actual as Texts;
    return [tags.filter((tag, word) => (predicted as Texts)[word] === tag).length, tags.length];
  },
};

function f1Parts(predicted: Texts, actual: Texts): readonly [number, number] {
  const truePositives = predicted.filter((value, index) => value === 1 && actual[index] === 1).length;
  return [2 * truePositives, ones(predicted) + ones(actual)];
}

function entityParts(predicted: TagSequences, actual: TagSequences): readonly [number, number] {
  const { recall, support } = entityScores(predicted, actual);
  return [2 * Math.round(recall * support), entityScores(predicted, predicted).support + support];
}

function ones(values: Texts): number {
  return values.filter((value) => value === 1).length;
}

function ratioOfSums(parts: readonly (readonly [number, number])[]): WeightedMetric {
  const numerator = weightedSum(parts.map(([of]) => of));
  const denominator = weightedSum(parts.map(([, over]) => over));
  return (weights) => {
    const over = denominator(weights);
    return over === 0 ? 0 : numerator(weights) / over;
  };
}

/** The sum over rows. For most metrics few rows differ from the most common value, and only those are visited. */
function weightedSum(values: readonly number[]): WeightedMetric {
  const common = mostCommon(values);
  const rows = Int32Array.from([...values.keys()].filter((row) => values[row] !== common));
  const rest = Float64Array.from(rows, (row) => (values[row] as number) - common);
  const whole = common * values.length;
  return (weights) => {
    let sum = whole;
    for (let index = 0; index < rows.length; index++)
      sum += (weights[rows[index] as number] as number) * (rest[index] as number);
    return sum;
  };
}

function mostCommon(values: readonly number[]): number {
  const counts = new Map<number, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].reduce((most, one) => (one[1] > most[1] ? one : most), [0, 0])[0];
}

/** A metric of a confusion matrix: counts are [actual x predicted], with `classes` classes. */
type OfConfusion = (counts: Float64Array, classes: number) => number;

function ofConfusion(predicted: readonly RowValue[], actual: readonly RowValue[], of: OfConfusion): WeightedMetric {
  const names = [...new Set([...predicted, ...actual])];
  const classes = names.length;
  const numbers = new Map(names.map((name, index) => [name, index] as const));
  const cells = actual.map(
    (value, row) => classes * (numbers.get(value) ?? 0) + (numbers.get(predicted[row] as RowValue) ?? 0),
  );
  const rowsIn = [...new Set(cells)].map(
    (cell) => [cell, Int32Array.from([...cells.keys()].filter((row) => cells[row] === cell))] as const,
  );
  const counts = new Float64Array(classes ** 2);
  return (weights) => {
    for (const [cell, rows] of rowsIn) {
      let sum = 0;
      for (let index = 0; index < rows.length; index++) sum += weights[rows[index] as number] as number;
      counts[cell] = sum;
    }
    return of(counts, classes);
  };
}

/** Counts for each class the rows of the class, the rows predicted as it, and the rows that are both. */
function totals(counts: Float64Array, classes: number): { actual: number; predicted: number; both: number }[] {
  return Array.from({ length: classes }, (_, name) => {
    let [actual, predicted] = [0, 0];
    for (let other = 0; other < classes; other++) {
      actual += counts[classes * name + other] as number;
      predicted += counts[classes * other + name] as number;
    }
    return { actual, predicted, both: counts[(classes + 1) * name] as number };
  });
}

function matthews(counts: Float64Array, classes: number): number {
  let [rows, right, agreement, squaresA, squaresP] = [0, 0, 0, 0, 0];
  for (const { actual, predicted, both } of totals(counts, classes)) {
    rows += actual;
    right += both;
    agreement += actual * predicted;
    squaresA += actual ** 2;
    squaresP += predicted ** 2;
  }
  const scale = (rows ** 2 - squaresP) * (rows ** 2 - squaresA);
  return scale === 0 ? 0 : (right * rows - agreement) / Math.sqrt(scale);
}

function macroF1(counts: Float64Array, classes: number): number {
  const seen = totals(counts, classes).filter(({ actual, predicted }) => actual + predicted > 0);
  return seen.reduce((sum, { actual, predicted, both }) => sum + (2 * both) / (actual + predicted), 0) / seen.length;
}

/**
 * Values that are independent of the weights, or ranks that depend on them; the result may be reused by the next call.
 */
type Valued = (values: readonly number[]) => (weights: Uint8Array) => Float64Array;

/** The values minus their mean, so that sums of squares lose no precision. */
const weightedMoments: Valued = (values) => {
  const centre = values.reduce((sum, value) => sum + value, 0) / values.length;
  const centred = Float64Array.from(values, (value) => value - centre);
  return () => centred;
};

/**
 * Ranks among the drawn rows; equal values share their average rank. The ranks of rows that are not drawn are
 * meaningless.
 */
const weightedRanks: Valued = (values) => {
  const distinct = [...new Set(values)].sort((a, b) => a - b);
  const indices = new Map(distinct.map((value, index) => [value, index] as const));
  const indexOf = Int32Array.from(values, (value) => indices.get(value) as number);
  const ranks = new Float64Array(values.length);
  const shared = new Float64Array(distinct.length);
  return (weights) => {
    shared.fill(0);
    for (let row = 0; row < indexOf.length; row++) {
      const index = indexOf[row] as number;
      shared[index] = (shared[index] as number) + (weights[row] as number);
    }
    let below = 0;
    for (let index = 0; index < shared.length; index++) {
      const tied = shared[index] as number;
      // Relative to the mean rank, so that sums of squares lose no precision.
      shared[index] = below + (tied - values.length) / 2;
      below += tied;
    }
    for (let row = 0; row < ranks.length; row++) ranks[row] = shared[indexOf[row] as number] as number;
    return ranks;
  };
};

/** Pearson's correlation of weighted rows; 0 if either side is constant. */
function correlation(predicted: readonly number[], actual: readonly number[], valued: Valued): WeightedMetric {
  const [ofPredicted, ofActual] = [valued(predicted), valued(actual)];
  const rows = actual.length;
  return (weights) => {
    const a = ofPredicted(weights);
    const b = ofActual(weights);
    let sumA = 0;
    let sumB = 0;
    let squaresA = 0;
    let squaresB = 0;
    let products = 0;
    for (let row = 0; row < rows; row++) {
      const x = a[row] as number;
      const y = b[row] as number;
      const weightedX = (weights[row] as number) * x;
      const weightedY = (weights[row] as number) * y;
      sumA += weightedX;
      sumB += weightedY;
      squaresA += weightedX * x;
      squaresB += weightedY * y;
      products += weightedX * y;
    }
    const [spreadA, spreadB] = [squaresA - sumA ** 2 / rows, squaresB - sumB ** 2 / rows];
    // A constant side leaves only rounding errors.
    if (spreadA <= 1e-12 * squaresA || spreadB <= 1e-12 * squaresB) return 0;
    return (products - (sumA * sumB) / rows) / Math.sqrt(spreadA * spreadB);
  };
}
