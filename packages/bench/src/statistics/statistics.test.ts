import { readFileSync } from 'node:fs';
import { createRng } from '@peftjs/core';
import { describe, expect, it } from 'vitest';
import { signFlipTest } from './permutation.js';
import { bootstrapInterval, estimate } from './samples.js';

interface Golden {
  readonly signFlip: readonly { differences: number[]; p: number }[];
  readonly bootstrap: readonly { values: number[]; interval: [number, number] }[];
}

const golden = JSON.parse(
  readFileSync(new URL('../../test/fixtures/statistics.json', import.meta.url), 'utf8'),
) as Golden;
const rng = createRng(7);

describe('signFlipTest', () => {
  it.each(golden.signFlip)('gives the p of scipy: $p', ({ differences, p }) => {
    expect(signFlipTest(differences, rng)).toBeCloseTo(p, 12);
  });

  it('cannot go below 2 / 2^n', () => {
    expect(signFlipTest([1, 2, 3, 4, 5], rng)).toBe(2 / 2 ** 5);
  });

  it('does not depend on the sign or the scale of the differences', () => {
    const differences = [0.1, -0.1, 0.2, 0.3, 0.25];
    const p = signFlipTest(differences, rng);
    expect(
      signFlipTest(
        differences.map((difference) => -difference),
        rng,
      ),
    ).toBe(p);
    expect(
      signFlipTest(
        differences.map((difference) => 1e-6 * difference),
        rng,
      ),
    ).toBe(p);
  });

  it('counts ties that differ by rounding only', () => {
    // 0.3 - 0.1 - 0.2 is not zero in floating point: all eight patterns reach a sum of (almost) nothing.
    expect(signFlipTest([0.3, -0.1, -0.2], rng)).toBe(1);
  });

  it('draws patterns beyond 20 pairs, close to the exact p', () => {
    const many = Array.from({ length: 24 }, (_, index) => (index % 3 === 0 ? -1 : 1));
    // 8 of 24 are negative: P(|sum| >= 8) of a fair coin, twice the tail of Binomial(24, 1/2) up to 8.
    expect(signFlipTest(many, createRng(1))).toBeCloseTo(0.1516, 2);
  });
});

describe('bootstrapInterval', () => {
  it.each(golden.bootstrap)('is near the one of scipy: $interval', ({ values, interval: [low, high] }) => {
    const interval = bootstrapInterval(values, createRng(3));
    const tolerance = 0.06 * (high - low);
    expect(Math.abs(interval.low - low)).toBeLessThan(tolerance);
    expect(Math.abs(interval.high - high)).toBeLessThan(tolerance);
  });

  it('is the range of two values', () => {
    expect(bootstrapInterval([1, 3], createRng(1))).toEqual({ low: 1, high: 3 });
  });

  it('is the same for the same seed', () => {
    expect(bootstrapInterval([1, 2, 4, 8], createRng(5))).toEqual(bootstrapInterval([1, 2, 4, 8], createRng(5)));
  });
});

describe('estimate', () => {
  it('has no spread for one value', () => {
    expect(estimate([0.5], rng)).toEqual({ mean: 0.5, sd: null, interval: null });
  });

  it('takes the sample standard deviation', () => {
    expect(estimate([1, 2, 3, 4], rng).sd).toBeCloseTo(Math.sqrt(5 / 3), 12);
  });
});
