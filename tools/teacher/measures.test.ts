import { describe, expect, it } from 'vitest';
import { agreement, average, recovery } from './measures.js';

describe('recovery', () => {
  it('is 1 in every measure for the true ranks, and has correlation -1 for their opposite', () => {
    const truth = { a: 2, b: 0, c: 2, d: 0 };
    expect(recovery(truth, truth)).toEqual({ correlation: expect.closeTo(1, 12) as number, f1: 1, moduleF1: 1 });
    const opposite = { a: 0, b: 2, c: 0, d: 2 };
    expect(recovery(opposite, truth)).toEqual({ correlation: expect.closeTo(-1, 12) as number, f1: 0, moduleF1: 0 });
  });

  it('computes F1 from the ranks that both have in each module', () => {
    const { f1, moduleF1 } = recovery({ a: 3, b: 1, c: 0 }, { a: 1, b: 0, c: 1 });
    expect(f1).toBeCloseTo((2 * 1) / (4 + 2), 12); // one rank of a
    expect(moduleF1).toBeCloseTo((2 * 1) / (2 + 2), 12); // a, of a and b against a and c
  });

  it("computes Pearson's correlation: (3 2 1) and (1 0 1) have covariance 0, (1 2 4) and (1 0 1) one of 1/6", () => {
    expect(recovery({ a: 3, b: 2, c: 1 }, { a: 1, b: 0, c: 1 }).correlation).toBeCloseTo(0, 12);
    const expected = 1 / 6 / Math.sqrt((7 / 3) * (1 / 3)); // sample variances 7/3 and 1/3
    expect(recovery({ a: 1, b: 2, c: 4 }, { a: 1, b: 0, c: 1 }).correlation).toBeCloseTo(expected, 12);
  });

  it('has no correlation if all modules have the same rank, and counts a missing module as rank 0', () => {
    expect(recovery({ a: 1, b: 1 }, { a: 2, b: 0 }).correlation).toBeNull();
    expect(recovery({ a: 2 }, { a: 2, b: 0 }).correlation).toBeCloseTo(1, 12);
  });
});

it('agreement of rank maps is the mean over all pairs', () => {
  const [map, opposite] = [
    { a: 1, b: 0 },
    { a: 0, b: 1 },
  ];
  expect(agreement([map, map, opposite])).toBeCloseTo((1 - 1 - 1) / 3, 12);
  expect(agreement([map])).toBeNull();
});

it('average ignores null; its error is the standard deviation over the root of the count', () => {
  expect(average([1, null, 3])).toEqual({ mean: 2, error: Math.SQRT2 / Math.SQRT2 });
  expect(average([5])).toEqual({ mean: 5, error: 0 });
  expect(average([null])).toBeNull();
});
