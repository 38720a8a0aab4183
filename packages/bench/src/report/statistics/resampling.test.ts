import { createRng } from '@peftjs/core/method';
import { describe, expect, it } from 'vitest';
import { syntheticTrial } from '../../../../cli/test/synthetic-results.js';
import type { DoneTrial } from '@peftjs/cli/results';
import { differencesOf, pairedStandardError, scoresOf } from './resampling.js';

const ROWS = 400;
const actual = Array.from({ length: ROWS }, (_, row) => row % 2);

/** A trial that is right on a share of the rows, drawn independently for each arm and seed. */
function trialOn(arm: string, seed: number, { rows = true, share = 0.8 } = {}): DoneTrial {
  const rng = createRng(seed).fork(arm);
  const predicted = actual.map((value) => (rng.uniform() < share ? value : 1 - value));
  const right = predicted.filter((value, row) => value === actual[row]).length;
  return {
    ...syntheticTrial({ task: 'uci-sentiment', method: arm, rank: 4, seed }),
    metrics: { accuracy: right / ROWS },
    ...(rows && { rows: { predicted, actual } }),
  };
}

const arm = (name: string, seeds: readonly number[], of = {}): DoneTrial[] =>
  seeds.map((seed) => trialOn(name, seed, of));

/** The standard error of the mean of some values. */
function standardError(values: readonly number[]): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1) / values.length);
}

describe('pairedStandardError', () => {
  it('without rows comes from the differences over the seeds that both arms have', () => {
    const [a, b] = [arm('a', [1, 2, 3], { rows: false }), arm('b', [3, 1, 2, 4], { rows: false })];
    expect(pairedStandardError(a, b)).toBeCloseTo(standardError(differencesOf(a, b).values), 12);
  });

  it('for one seed comes from the rows: the differences row by row', () => {
    const [a, b] = [arm('a', [1]), arm('b', [1])];
    const right = ([trial]: DoneTrial[]): number[] =>
      (trial?.rows?.predicted ?? []).map((value, row) => Number(value === actual[row]));
    const [ofA, ofB] = [right(a), right(b)];
    const expected = standardError(ofA.map((value, row) => value - (ofB[row] as number)));
    expect(Math.abs(pairedStandardError(a, b) / expected - 1)).toBeLessThan(0.05);
  });

  it('adds the variances of seeds and rows', () => {
    const [a, b] = [arm('a', [1, 2, 3, 4]), arm('b', [1, 2, 3, 4])];
    const [c, d] = [arm('a', [1, 2, 3, 4], { rows: false }), arm('b', [1, 2, 3, 4], { rows: false })];
    const seeds = pairedStandardError(c, d);
    const both = pairedStandardError(a, b);
    // All seeds err on different rows here, so both variances are of similar size.
    expect(both / seeds).toBeGreaterThan(1.2);
    expect(both / seeds).toBeLessThan(1.8);
  });

  it('is 0 between an arm and itself, the same in either direction, and NaN if nothing is known', () => {
    const [a, b] = [arm('a', [1, 2]), arm('b', [1, 2])];
    expect(pairedStandardError(a, a)).toBe(0);
    expect(pairedStandardError(a, b)).toBe(pairedStandardError(b, a));
    expect(pairedStandardError(arm('a', [1], { rows: false }), b)).toBeNaN();
    expect(pairedStandardError(a, arm('b', [3]))).toBeNaN();
  });
});

describe('rows are resampled only', () => {
  it('if all trials have the same ones', () => {
    expect(scoresOf(arm('a', [1, 2])).rows).toBe(ROWS);
    expect(scoresOf([...arm('a', [1]), ...arm('a', [2], { rows: false })]).onRows).toBeNull();
  });

  it('if they reproduce the metric in the file', () => {
    const [trial] = arm('a', [1]) as [DoneTrial];
    expect(scoresOf([{ ...trial, metrics: { accuracy: 0.123 } }]).onRows).toBeNull();
  });
});
