import { expect, it } from 'vitest';
import { syntheticTrial } from '../../../cli/test/synthetic-results.js';
import type { DoneTrial } from '@peftjs/cli/results';
import { tuningBlocks } from './tuning.js';

const tried = [
  { learningRate: 0.001, score: 0.81, standardError: 0.02 },
  { learningRate: 0.002, score: 0.86, standardError: 0.01 },
  { learningRate: 0.004, score: 0.87, standardError: null },
  { learningRate: 0.008, score: null, standardError: null, error: 'NaN' },
];
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
    ['0.002', 'the lower of 2 within noise', undefined],
    ['0.810', '± 0.020', 'tried'],
    ['0.860', '± 0.010', 'chosen'],
    ['0.870', 'tried'],
    ['failed', 'tried'],
  ]);
});

it('rows name the budget where each was tuned by itself', () => {
  const at = (spec: string, tuning: DoneTrial['tuning']): DoneTrial => {
    const trial = tuned(tuning);
    return { ...trial, budget: { ...trial.budget, spec } };
  };
  const namesOf = (results: DoneTrial[]): string[][] => {
    const table = tuningBlocks(results).at(-1);
    const rows = table?.kind === 'table' ? (table.groups[0]?.rows ?? []) : [];
    return rows.map(([name]) => [...(name?.details ?? [])]);
  };
  const other = { ...byNoise, tied: [0.004], chosen: 0.004 };
  expect(namesOf([at('r=1', byNoise), at('r=4', byNoise)])).toEqual([['uci-sentiment']]);
  expect(namesOf([at('r=1', byNoise), at('r=4', other)])).toEqual([['r=1, uci-sentiment'], ['r=4, uci-sentiment']]);
});
