import { describe, expect, it } from 'vitest';
import { syntheticTrial, withStages } from '../../../cli/test/synthetic-results.js';
import { stageSummaries } from './stages.js';

const trials = [1, 2, 3].map((seed) =>
  withStages(syntheticTrial({ task: 'uci-sentiment', method: 'sora', rank: null, seed })),
);

describe('stageSummaries', () => {
  it('are means over the seeds, stage by stage, with intervals', () => {
    const summaries = stageSummaries(trials);
    expect(summaries).toHaveLength(trials[0]?.stages?.length ?? NaN);
    for (const [stage, summary] of summaries.entries()) {
      const values = trials.map(({ stages }) => stages?.[stage]?.memorization ?? NaN);
      const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
      expect(summary).toMatchObject({ stage, seeds: 3, level: trials[0]?.stages?.[stage]?.level });
      expect(summary.memorization?.mean).toBeCloseTo(mean, 10);
      const { low, high } = summary.memorization?.interval ?? expect.fail('no interval');
      expect(low).toBeGreaterThanOrEqual(Math.min(...values) - 1e-10);
      expect(high).toBeLessThanOrEqual(Math.max(...values) + 1e-10);
    }
    expect(summaries[0]?.generalization?.mean).toBe(100);
  });

  it('have no mean if no seed has a value, and are empty for trials without stages', () => {
    const trial = trials[0] ?? expect.fail('no trial');
    const without = { ...trial, stages: (trial.stages ?? []).map((stage) => ({ ...stage, memorization: null })) };
    expect(stageSummaries([without])).toHaveLength(7);
    expect(stageSummaries([without]).every(({ memorization }) => memorization === null)).toBe(true);
    const { stages: _, ...plain } = trial;
    expect(stageSummaries([plain])).toEqual([]);
  });
});
