import type { RowValue } from '@peftjs/core/model';
import { createRng } from '@peftjs/core/method';
import { metricNamed, weightedMetric, type Metric } from '@peftjs/tasks';
import { expect, it } from 'vitest';

const ROWS = 12;
const rng = createRng(1);
const many = <T>(of: () => T): T[] => Array.from({ length: ROWS }, of);
const classes = (amount: number) => (): number => rng.integer(amount);
const labels = (): number[] => [rng.integer(2), rng.integer(2), rng.integer(2)];
const tags = (): string[] =>
  Array.from({ length: 4 }, () => ['O', 'B-PER', 'I-PER', 'B-LOC', 'I-LOC'][rng.integer(5)] as string);
const ranked = (): number[] => [...rng.permutation(12)].slice(0, 10);
const relevant = (): number[] => [...rng.permutation(12)].slice(0, rng.integer(3));
const ties = (): number => rng.integer(5) / 4;

const cases: readonly [metric: string, predicted: () => RowValue, actual: () => RowValue][] = [
  ['accuracy', classes(3), classes(3)],
  ['macroF1', classes(4), classes(4)],
  ['f1', classes(2), classes(2)],
  ['matthewsCorrelation', classes(2), classes(2)],
  ['matthewsCorrelation', classes(3), classes(3)],
  ['pearson', () => 100 + rng.normal(), ties],
  ['spearman', ties, ties],
  ['meanSquaredError', () => rng.normal(), ties],
  ['microF1', labels, labels],
  ['entityF1', tags, tags],
  ['tokenAccuracy', tags, tags],
  ['ndcgAt10', ranked, relevant],
  ['mrr', ranked, relevant],
  ['recallAt1', ranked, relevant],
  ['recallAt10', ranked, relevant],
];

it.each(cases)('%s of weighted rows equals that of the rows, each repeated by its weight', (name, ofRow, actualOf) => {
  const [predicted, actual] = [many(ofRow), many(actualOf)];
  const weighted = weightedMetric(name, { predicted, actual });
  const metric = metricNamed(name) as Metric<RowValue>;
  for (let resample = 0; resample < 20; resample++) {
    const rows = many(() => rng.integer(ROWS));
    const weights = new Uint8Array(ROWS);
    for (const row of rows) weights[row] = (weights[row] as number) + 1;
    const expected = metric(
      rows.map((row) => predicted[row] as RowValue),
      rows.map((row) => actual[row] as RowValue),
    );
    expect(weighted?.(weights)).toBeCloseTo(expected, 10);
  }
});

it.each(['pearson', 'spearman'])('%s is 0 if all drawn rows are equal', (name) => {
  const weighted = weightedMetric(name, { predicted: [0.1, 0.3, 0.2], actual: [0.7, 0.7, 0.1] });
  expect(weighted?.(new Uint8Array([1, 2, 0]))).toBe(0);
});

it('there is no weighted form of a metric that is not computed from rows', () => {
  expect(weightedMetric('perplexity', { predicted: [1], actual: [1] })).toBeUndefined();
});
