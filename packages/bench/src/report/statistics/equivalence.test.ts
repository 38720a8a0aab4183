import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { meanWithError, testEquivalence, type MeanWithError } from './equivalence.js';
import { holm, holmOfGroups, ROW_RESAMPLES } from './estimates.js';
import { ofValues } from './resampling.js';
import { studentQuantile, studentTail } from './student.js';

interface Golden {
  readonly studentTail: readonly { t: number; degrees: number; p: number }[];
  readonly studentQuantile: readonly { tail: number; degrees: number; t: number }[];
  readonly equivalence: readonly {
    differences: number[];
    margin: number;
    p: number;
    notBelow: number;
    notAbove: number;
    smallestMargin: number;
  }[];
  readonly equivalenceOverTasks: readonly { byTask: number[][]; margin: number; p: number }[];
}

const golden = JSON.parse(
  readFileSync(new URL('../../../test/fixtures/statistics.json', import.meta.url), 'utf8'),
) as Golden;

const meanOf = (byTask: readonly (readonly number[])[]): MeanWithError =>
  meanWithError(byTask.map(ofValues)) as MeanWithError;

describe("Student's t", () => {
  it('has the tails of scipy', () => {
    for (const { t, degrees, p } of golden.studentTail)
      expect(Math.abs(studentTail(t, degrees) / p - 1)).toBeLessThan(1e-8);
  });

  it('has the quantiles of scipy', () => {
    for (const { tail, degrees, t } of golden.studentQuantile)
      expect(Math.abs(studentQuantile(tail, degrees) / t - 1)).toBeLessThan(1e-8);
  });
});

describe('equivalence', () => {
  it('of paired differences has the p-values of statsmodels and the margin of scipy', () => {
    for (const { differences, margin, ...expected } of golden.equivalence) {
      const { p, aNoWorse, bNoWorse, smallestMargin } = testEquivalence(meanOf([differences]), margin, false);
      expect(p).toBeCloseTo(expected.p, 10);
      expect(aNoWorse.p).toBeCloseTo(expected.notBelow, 10);
      expect(bNoWorse.p).toBeCloseTo(expected.notAbove, 10);
      expect(Math.abs(smallestMargin / expected.smallestMargin - 1)).toBeLessThan(1e-8);
    }
  });

  it("over two tasks has the p of scipy's Welch test", () => {
    for (const { byTask, margin, p } of golden.equivalenceOverTasks)
      expect(testEquivalence(meanOf(byTask), margin, false).p).toBeCloseTo(p, 10);
  });

  it('swaps sides if less of the metric is better', () => {
    const difference = meanOf([[0.02, 0.03, 0.01, 0.04]]);
    const [more, less] = [false, true].map((lower) => testEquivalence(difference, 0.02, lower));
    expect(less).toEqual({ ...more, aNoWorse: more?.bNoWorse, bNoWorse: more?.aNoWorse });
    expect(more?.aNoWorse.p).toBeLessThan(0.05);
    expect(less?.aNoWorse.p).toBeGreaterThan(0.5);
  });

  it('just holds at its smallest margin', () => {
    const difference = meanOf([[0.02, -0.03, 0.01, 0.02, 0.004]]);
    const { smallestMargin } = testEquivalence(difference, 0.01, false);
    expect(testEquivalence(difference, smallestMargin, false).p).toBeCloseTo(0.05, 10);
  });

  it('is certain for arms that agree on every row, and unknown for one seed, or for equal scores of unknown rows', () => {
    const onRows = [0, 0, 0].map(() => new Float64Array(ROW_RESAMPLES));
    const difference = meanWithError([{ values: [0, 0, 0], onRows, rows: 500 }]) as MeanWithError;
    expect(testEquivalence(difference, 0.01, false)).toMatchObject({ p: 0, smallestMargin: 0 });
    expect(meanOf([[0.1]])).toBeNull();
    expect(meanOf([[0, 0, 0]])).toBeNull();
    expect(meanOf([[0.1 + 0.2, 0.3]])).toBeNull();
  });

  it('adds the variance of the rows to that of the seeds', () => {
    const values = [0.01, 0.03, 0.02];
    const swing = Float64Array.from({ length: ROW_RESAMPLES }, (_, resample) => (resample % 2 === 0 ? 0.05 : -0.05));
    const onRows = values.map((value) => swing.map((by) => value + by));
    const { mean, standardError, degrees } = meanWithError([{ values, onRows, rows: 500 }]) as MeanWithError;
    const [seeds, rows] = [0.01 ** 2 / 3, (0.05 ** 2 * ROW_RESAMPLES) / (ROW_RESAMPLES - 1)];
    expect(mean).toBeCloseTo(0.02, 12);
    expect(standardError).toBeCloseTo(Math.sqrt(seeds + rows), 12);
    expect(degrees).toBeCloseTo((seeds + rows) ** 2 / (seeds ** 2 / 2 + rows ** 2 / 499), 6);
  });
});

describe('holmOfGroups', () => {
  it('counts the pairs with a test left', () => {
    const adjusted = holmOfGroups([
      [0.001, 0.01],
      [0.02, 0.6],
      [0.004, 0.04],
    ]);
    // In order: .001 and .004 times three pairs; .01 ends the first pair; .02 and .04 times two; .6 times one.
    expect(adjusted).toEqual([
      [0.003, 0.03],
      [0.04, 0.6],
      [0.012, 0.08],
    ]);
  });

  it('equals Holm if one side of every pair is certain', () => {
    const ps = [0.01, 0.04, 0.03, 0.005];
    expect(holmOfGroups(ps.map((p) => [p, 0])).map(([p]) => p)).toEqual(holm(ps));
  });
});
