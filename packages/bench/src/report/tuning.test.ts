import { describe, expect, it } from 'vitest';
import { syntheticTrial } from '../../../cli/test/synthetic-results.js';
import type { DoneTrial } from '@peftjs/cli/results';
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
it('the table marks the chosen rate, has the standard errors, and says which rates failed', () => {
  const table = tuningBlocks([tuned(byNoise)]).at(-1);
  const [row] = table?.kind === 'table' ? (table.groups[0]?.rows ?? []) : [];
  expect(row?.map(({ main, details, look }) => [main, ...details, look])).toEqual([
    ['lora', 'uci-sentiment', undefined],
    ['0.810', '± 0.020', 'tried'],
    ['0.860', '± 0.010', 'chosen'],
    ['0.870', 'tried'],
    ['failed', 'tried'],
    ['0.002, the lower of 2 that differ by no more than noise', undefined],
  ]);
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
