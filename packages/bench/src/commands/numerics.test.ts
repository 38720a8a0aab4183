import { describe, expect, it } from 'vitest';
import { syntheticTrial } from '../../../cli/test/synthetic-results.js';
import { keepNewestNumerics, type DoneTrial } from '@peftjs/cli/results';
import { exclusionNotes } from './run.js';

const computedBy = (numerics: number, seed: number): DoneTrial => {
  const trial = syntheticTrial({ task: 'uci-sentiment', method: 'sora', rank: 4, seed });
  return { ...trial, versions: { ...trial.versions, numerics } };
};

describe('results of several numerics', () => {
  it('keep the newest, and name the rest in one sentence', () => {
    const [old, older, now] = [computedBy(1, 1), computedBy(0, 2), computedBy(2, 3)];
    const pooled = keepNewestNumerics([old, older, now]);
    expect(pooled).toEqual({ results: [now], excluded: [old, older] });
    expect(exclusionNotes(pooled)).toEqual([
      '2 results of numerics 0, 1 are left out: another version computed them, and only numbers of one version can be pooled, here numerics 2.',
    ]);
  });

  it('need no note if all are the same', () => {
    const all = [computedBy(0, 1), computedBy(0, 2)];
    expect(keepNewestNumerics(all)).toEqual({ results: all, excluded: [] });
    expect(exclusionNotes(keepNewestNumerics(all))).toEqual([]);
  });
});
