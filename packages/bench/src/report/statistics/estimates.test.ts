import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { pairedDifference } from './comparisons.js';
import { bootstrapInterval, holm, jackknifeInterval, seedsToReach, signFlipTest } from './estimates.js';
import { estimateOf, ofValues, type Sample } from './resampling.js';

interface Golden {
  readonly signFlip: readonly { differences: number[]; p: number }[];
  readonly signFlipOverTasks: readonly { byTask: number[][]; p: number }[];
  readonly holm: readonly { p: number[]; adjusted: number[] }[];
  readonly bootstrap: readonly { values: number[]; interval: [number, number] }[];
}

const golden = JSON.parse(
  readFileSync(new URL('../../../test/fixtures/statistics.json', import.meta.url), 'utf8'),
) as Golden;
/** Differences on tasks whose rows are unknown. */
const samples = (byTask: readonly (readonly number[])[]): Sample[] => byTask.map(ofValues);

/** Accuracies on 300 rows: multiples of 1/300, so that ties are common. */
const scores = (atLeast: number): fc.Arbitrary<number[]> =>
  fc.array(
    fc.integer({ min: 0, max: 300 }).map((right) => right / 300),
    { minLength: atLeast, maxLength: 12 },
  );

describe('signFlipTest', () => {
  it.each(golden.signFlip)('gives the p of scipy: $p', ({ differences, p }) => {
    expect(signFlipTest(differences)).toBeCloseTo(p, 12);
  });

  it('cannot go below 2 / 2^n', () => {
    expect(signFlipTest([1, 2, 3, 4, 5])).toBe(2 / 2 ** 5);
  });

  it('does not depend on the sign or the scale of the differences', () => {
    const differences = [0.1, -0.1, 0.2, 0.3, 0.25];
    const p = signFlipTest(differences);
    expect(signFlipTest(differences.map((difference) => -difference))).toBe(p);
    expect(signFlipTest(differences.map((difference) => 1e-6 * difference))).toBe(p);
  });

  it('counts ties that differ by rounding only', () => {
    // 0.3 - 0.1 - 0.2 is not zero in floating point: all eight patterns reach a sum of (almost) nothing.
    expect(signFlipTest([0.3, -0.1, -0.2])).toBe(1);
  });

  it('is exact beyond 20 pairs, and draws patterns beyond 40', () => {
    const ofSigns = (pairs: number, negative: number): number =>
      signFlipTest(Array.from({ length: pairs }, (_, index) => (index < negative ? -1 : 1)));
    expect(ofSigns(24, 8)).toBeCloseTo(2 * 0.0757949, 6); // the tail of Binomial(24, 1/2) up to 8
    expect(ofSigns(42, 14)).toBeCloseTo(2 * 0.0217793, 2);
  });

  it('is 1 if two methods have equal scores in every seed', () => {
    fc.assert(
      fc.property(scores(1), (values) => {
        const paired = pairedDifference(samples([values.map((value) => value - value)]));
        expect(paired).toMatchObject({ mean: 0, p: 1 });
        if (values.length > 1) expect(paired.interval).toEqual({ low: 0, high: 0 });
      }),
    );
  });

  it('detects a planted difference: 2 / 2^n if every seed agrees', () => {
    fc.assert(
      fc.property(scores(1), fc.double({ min: 0.001, max: 1, noNaN: true }), (values, gain) => {
        const differences = values.map((value) => value + gain + 0.1 * value - value);
        expect(signFlipTest(differences)).toBe(2 / 2 ** values.length);
        expect(pairedDifference(samples([differences])).mean).toBeGreaterThan(0);
      }),
    );
  });

  it('does not depend on the order of the seeds', () => {
    fc.assert(
      fc.property(scores(2), (values) => {
        const differences = values.map((value) => value - 0.5);
        expect(signFlipTest([...differences].reverse())).toBe(signFlipTest(differences));
        expect(signFlipTest(differences.toSorted((a, b) => a - b))).toBe(signFlipTest(differences));
      }),
    );
  });
});

describe('pairedDifferenceOverTasks', () => {
  it.each(golden.signFlipOverTasks)('gives the p of scipy: $p', ({ byTask, p }) => {
    expect(pairedDifference(samples(byTask)).p).toBeCloseTo(p, 12);
  });

  it('weights all tasks equally, however many seeds they have', () => {
    const overall = pairedDifference(
      samples([
        [0.1, 0.1, 0.1, 0.1],
        [-0.1, -0.1],
      ]),
    );
    expect(overall.mean).toBeCloseTo(0, 15);
    expect(overall).toMatchObject({ pairs: 6, p: 1, sd: null });
  });

  it('equals the test on the task if there is only one', () => {
    const differences = [0.1, -0.2, 0.3, 0.05];
    expect(pairedDifference(samples([differences])).p).toBe(signFlipTest(differences));
  });
});

it.each([1, 2, 78])('seeds can reach significance in a family of %i, and one fewer cannot', (family) => {
  const seeds = seedsToReach(family);
  expect((family * 2) / 2 ** seeds).toBeLessThan(0.05);
  expect((family * 2) / 2 ** (seeds - 1)).toBeGreaterThanOrEqual(0.05);
});

describe('holm', () => {
  it.each(golden.holm)('gives the p-values of statsmodels: $adjusted', ({ p, adjusted }) => {
    for (const [index, value] of holm(p).entries()) expect(value).toBeCloseTo(adjusted[index] as number, 12);
  });

  it('lowers no p, keeps the order, and equals Bonferroni for the smallest', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: 20 }), (ps) => {
        const adjusted = holm(ps);
        expect(Math.min(...adjusted)).toBe(Math.min(1, ps.length * Math.min(...ps)));
        for (const [i, p] of ps.entries()) {
          expect(adjusted[i]).toBeGreaterThanOrEqual(p);
          for (const [j, q] of ps.entries()) if (p <= q) expect(adjusted[i]).toBeLessThanOrEqual(adjusted[j] as number);
        }
      }),
    );
  });
});

describe('bootstrapInterval', () => {
  it.each(golden.bootstrap)('is close to that of scipy: $interval', ({ values, interval: [low, high] }) => {
    const interval = bootstrapInterval([values]);
    const tolerance = 0.06 * (high - low);
    expect(Math.abs(interval.low - low)).toBeLessThan(tolerance);
    expect(Math.abs(interval.high - high)).toBeLessThan(tolerance);
  });

  it('is the range of two values', () => {
    expect(bootstrapInterval([[1, 3]])).toEqual({ low: 1, high: 3 });
  });

  it('of b - a mirrors that of a - b', () => {
    const values = [0.1, 0.4, -0.2, 0.3, 0.05];
    const { low, high } = bootstrapInterval([values]);
    expect(bootstrapInterval([values.map((value) => -value)])).toEqual({ low: -high, high: -low });
  });

  it('resamples within each task, independently of other tasks', () => {
    const [first, second] = [
      [1, 2, 3, 4, 5, 6],
      [0, 0, 0, 0, 0, 0],
    ];
    const alone = bootstrapInterval([first]);
    const halved = bootstrapInterval([first, second]);
    expect(halved.low).toBeCloseTo(alone.low / 2, 12);
    expect(halved.high).toBeCloseTo(alone.high / 2, 12);
    const both = bootstrapInterval([first, first]); // independent, so narrower by a factor of sqrt(2)
    expect((both.high - both.low) / (alone.high - alone.low)).toBeCloseTo(Math.SQRT1_2, 1);
  });
});

describe('estimateOf', () => {
  it('has no spread for one value', () => {
    expect(estimateOf(samples([[0.5]]))).toEqual({ mean: 0.5, sd: null, interval: null });
  });

  it('uses the sample standard deviation', () => {
    expect(estimateOf(samples([[1, 2, 3, 4]])).sd).toBeCloseTo(Math.sqrt(5 / 3), 12);
  });

  it('over tasks is the mean of means, without an interval if a task has one seed', () => {
    expect(estimateOf(samples([[1, 2, 3], [4]]))).toEqual({ mean: 3, sd: null, interval: null });
  });
});

describe('jackknifeInterval', () => {
  // 97.5 % quantiles of Student's t by degrees of freedom.
  const QUANTILES = { 2: 4.303, 3: 3.182, 5: 2.571, 11: 2.201, 29: 2.045 };

  it.each(Object.entries(QUANTILES))('of a mean is the t interval, with %s degrees of freedom', (degrees, quantile) => {
    const values = Array.from({ length: Number(degrees) + 1 }, (_, index) => index ** 2);
    const sum = values.reduce((all, value) => all + value, 0);
    const without = values.map((value) => (sum - value) / Number(degrees));
    const { mean, sd } = estimateOf(samples([values]));
    const { low, high } = jackknifeInterval(mean, without);
    expect((low + high) / 2).toBeCloseTo(mean, 9);
    const reach = (quantile * (sd ?? 0)) / Math.sqrt(values.length);
    expect(Math.abs((high - low) / 2 / reach - 1)).toBeLessThan(0.01);
  });

  it('has zero width if no unit matters', () => {
    expect(jackknifeInterval(0.5, [0.5, 0.5, 0.5])).toEqual({ low: 0.5, high: 0.5 });
  });
});
