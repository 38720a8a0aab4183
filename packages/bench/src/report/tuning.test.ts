import { describe, expect, it } from 'vitest';
import { syntheticTrial } from '../../../cli/test/synthetic-results.js';
import type { DoneTrial } from '@peftjs/cli/results';
import { WIDE, type Chart } from './charts/draw.js';
import { renderBlocks } from './page.js';
import { noiseNote, tunedRows, tuningBlocks } from './tuning.js';

const tried = [
  { learningRate: 0.001, score: 0.81, standardError: 0.02 },
  { learningRate: 0.002, score: 0.86, standardError: 0.01 },
  { learningRate: 0.004, score: 0.87, standardError: null },
  { learningRate: 0.008, score: null, standardError: null, error: 'NaN' },
];
const clear = { tried, tied: [0.004], chosen: 0.004 };
const byNoise = { tried, tied: [0.002, 0.004], chosen: 0.002 };
const tuned = (tuning: DoneTrial['tuning'], method = 'lora'): DoneTrial => ({
  ...syntheticTrial({ task: 'uci-sentiment', method, rank: 4, seed: 1 }),
  tuning,
});
/** The points of an arm's chart. */
const dataOf = (trial: DoneTrial) => {
  const [figure] = tuningBlocks([trial]).flatMap((block) => (block.kind === 'grid' ? block.blocks : []));
  const chart = figure?.kind === 'figure' ? figure.chart(WIDE) : undefined;
  const { data } = (chart as Chart).spec as unknown as {
    data: { values: { size: number; fill: string; high: number }[] };
  };
  return data.values;
};
const section = async (...trials: DoneTrial[]): Promise<string> => (await renderBlocks(tuningBlocks(trials))).text;

describe('the chart of an arm', () => {
  it('marks the chosen rate, rates tied with the best one, and failed rates', async () => {
    expect(dataOf(tuned(byNoise)).map(({ size, fill }) => [size, fill])).toEqual([
      [45, 'var(--paper)'],
      [130, 'var(--strong)'],
      [45, 'var(--strong)'],
    ]);
    const chart = await section(tuned(byNoise));
    expect(chart.match(/fill="var\(--bad\)"/g)).toHaveLength(1);
    expect(chart).toContain(
      'aria-label="lora by learning rate: 0.001 0.810, 0.002 0.860, 0.004 0.870, 0.008 failed; chosen 0.002"',
    );
    expect(chart).toContain('0.002, the lower of 2 that differ by no more than noise');
  });

  it('has a bar of one standard error that reaches the best score if the rate may be as good', () => {
    expect(dataOf(tuned(byNoise)).map(({ high }) => high >= 0.87)).toEqual([false, true, true]);
  });

  it('also exists for an arm whose rates all failed', async () => {
    const failed = tried.map((rate) => ({ ...rate, score: null }));
    const chart = await section(tuned({ tried: failed, tied: [], chosen: null }));
    expect(chart.match(/fill="var\(--bad\)"/g)).toHaveLength(4);
  });
});

describe('noiseNote', () => {
  it('says how many choices were decided by noise', () => {
    const note = (...trials: DoneTrial[]) => noiseNote(tunedRows(trials)).join();
    expect(note(tuned(byNoise), tuned(clear, 'sora'))).toMatch(/^Noise decided 1 of 2 choices/);
    expect(note(tuned(byNoise))).toMatch(/^Noise decided every choice/);
    expect(note(tuned(clear))).toMatch(/^Noise decided no choice/);
    expect(note(tuned({ tried, chosen: 0.004 }))).toBe('');
    const ofOneSeed = tried.map((rate) => ({ ...rate, standardError: null }));
    expect(note(tuned({ ...clear, tried: ofOneSeed }))).toMatch(/unknown, with one tuning seed/);
    expect(note(tuned({ tried: [], tied: [], chosen: null }))).toBe('');
  });
});
