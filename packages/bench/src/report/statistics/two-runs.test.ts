import { describe, expect, it } from 'vitest';
import { syntheticResults } from '../../../../cli/test/synthetic-results.js';
import { primaryMetric } from '@peftjs/cli/results';
import { compareRuns } from './two-runs.js';

const here = syntheticResults({ methods: ['lora', 'sora'], seeds: 6 });

describe('compareRuns', () => {
  it('finds no difference between a run and itself', () => {
    const { rows, unpaired, changed } = compareRuns(here, [...here].reverse(), 'there');
    expect(rows).toHaveLength(4);
    for (const { score, totalSeconds, stored, seeds } of rows) {
      for (const change of [score, totalSeconds, stored])
        expect(change).toMatchObject({ mean: 0, interval: { low: 0, high: 0 }, p: 1, pairs: 6 });
      expect(score.pHolm).toBe(1);
      expect(seeds).toEqual([1, 2, 3, 4, 5, 6]);
    }
    expect({ unpaired, changed }).toEqual({ unpaired: [], changed: [] });
  });

  it('detects a planted difference of score and time, here minus there', () => {
    const there = here.map((trial) => ({
      ...trial,
      metrics: { ...trial.metrics, accuracy: primaryMetric(trial) - 0.01 },
      time: { ...trial.time, totalSeconds: 2 * trial.time.totalSeconds },
    }));
    const [row] = compareRuns(here, there, 'there').rows;
    expect(row?.score.mean).toBeCloseTo(0.01, 12);
    expect(row?.score).toMatchObject({ p: 2 / 2 ** 6, pHolm: 4 / 2 ** 6 });
    expect(row?.totalSeconds.here).toBeCloseTo((row?.totalSeconds.there ?? 0) / 2, 12);
    expect(row?.totalSeconds.p).toBe(2 / 2 ** 6);
  });

  it('lists the unpaired trials of either run', () => {
    const there = here.filter(({ arm, task, seed }) => !(arm === 'sora' && task === 'uci-sentiment' && seed > 4));
    const fewer = here.filter(({ arm, task }) => !(arm === 'lora' && task === 'wordnet-supersense'));
    expect(compareRuns(fewer, there, 'there').unpaired).toEqual([
      expect.objectContaining({ in: 'here', label: 'sora', task: 'uci-sentiment', budget: 'r=4', seeds: [5, 6] }),
      expect.objectContaining({ in: 'there', label: 'lora', task: 'wordnet-supersense', seeds: [1, 2, 3, 4, 5, 6] }),
    ]);
    expect(compareRuns(fewer, there, 'there').rows.find(({ label }) => label === 'sora')?.seeds).toEqual([1, 2, 3, 4]);
  });

  it('says which rows, budgets and tolerances differ', () => {
    const there = here.map((trial) => ({
      ...{ ...trial, content: 'b' },
      budget: { ...trial.budget, requested: 9000, tolerance: 0.5 },
    }));
    const { changed } = compareRuns(
      here.map((trial) => ({ ...trial, content: 'a' })),
      there,
      'there',
    );
    expect(changed.map(({ what, here: ours, there: theirs }) => [what, ours, theirs])).toEqual([
      ['budget requested', '57344', '9000'],
      ['budget tolerance', '0.02', '0.5'],
      ['content of model and rows', 'a', 'b'],
    ]);
  });

  it('says which versions, options and circumstances differ, and for which arms', () => {
    const there = here.map((trial) => ({
      ...trial,
      versions: { ...trial.versions, peftjs: '0.2.0' },
      ...(trial.arm === 'sora' ? { methodConfig: { ...trial.methodConfig, extra: 1 } } : {}),
    }));
    expect(compareRuns(here, there, 'there').changed).toEqual([
      { what: 'version peftjs', here: '0.1.0', there: '0.2.0', labels: ['lora', 'sora'] },
      { what: 'option extra', here: null, there: '1', labels: ['sora'] },
    ]);
  });
});
