import { ShapeError } from '@peftjs/core/method';
import { f1, f1Parts, mean, ratioOfSums, rowMetric, type RowMetric } from './values.js';

/** Multi-label rows: 1 where a row has the label, otherwise 0; `[rows][labels]`. */
export type LabelRows = readonly (readonly number[])[];

/**
 * F1 over the decisions of all rows and labels: 2 TP / (2 TP + FP + FN), scikit-learn's micro average; 0 where it is
 * undefined.
 * @throws ShapeError unless both have the same rows and labels.
 */
export const microF1: RowMetric<readonly number[]> = rowMetric((predicted, actual) => {
  checkSameLabels(predicted, actual);
  return ratioOfSums(predicted.map((labels, row) => f1Parts(1, labels, actual[row] ?? [])));
});

/**
 * The mean F1 of all labels, scikit-learn's macro average: a label that no row has counts as 0.
 * @throws ShapeError unless both have the same rows and labels.
 */
export function macroF1OfLabels(predicted: LabelRows, actual: LabelRows): number {
  return mean(f1OfLabels(predicted, actual));
}

/**
 * The F1 of each label, in column order; 0 for a label that is neither predicted nor present, as in scikit-learn.
 * @throws ShapeError unless both have the same rows and labels.
 */
export function f1OfLabels(predicted: LabelRows, actual: LabelRows): number[] {
  checkSameLabels(predicted, actual);
  const column = (rows: LabelRows, label: number) => rows.map((row) => row[label] as number);
  return (actual[0] ?? []).map((_, label) => f1(column(predicted, label), column(actual, label)));
}

function checkSameLabels(predicted: LabelRows, actual: LabelRows): void {
  if (predicted.length !== actual.length) {
    throw new ShapeError(`expected the predictions of ${actual.length} rows, got ${predicted.length}`);
  }
  const labels = actual[0]?.length ?? 0;
  const other = [...predicted, ...actual].find(({ length }) => length !== labels);
  if (other) throw new ShapeError(`expected ${labels} labels in every row, got ${other.length} in one`);
}
