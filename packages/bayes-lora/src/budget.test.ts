import { createRng, isNearBudget } from '@peftjs/core/method';
import { describe, expect, it } from 'vitest';
import { ranksWithin, type ScoredRank } from './controller.js';

/** Every rank of the six linear modules of BERT's layers, `r` each. */
function ranksOf(layers: number, hidden: number, inner: number, r: number): Omit<ScoredRank, 'logAlpha'>[] {
  const costs = [...Array.from({ length: 4 }, () => 2 * hidden), hidden + inner, hidden + inner];
  return Array.from({ length: layers }, (_, layer) =>
    costs.flatMap((cost, module) =>
      Array.from({ length: r }, (_, rank) => ({ path: `${layer}.${module}`, rank, cost })),
    ),
  ).flat();
}

const sum = (ranks: readonly { readonly cost: number }[]): number => ranks.reduce((total, { cost }) => total + cost, 0);

describe('a budget of r', () => {
  const rng = createRng(1);
  const scores: Record<string, (rank: Omit<ScoredRank, 'logAlpha'>) => number> = {
    random: () => rng.normal(),
    'wide modules first': ({ cost }) => -cost,
    'narrow modules first': ({ cost }) => cost,
    equal: () => 0,
  };

  it.each([1, 2, 4, 8])('= %i is met within a fiftieth whatever the scores', (r) => {
    for (const [layers, hidden, inner] of [
      [2, 128, 512],
      [6, 384, 1536],
      [12, 768, 3072],
    ] as const) {
      const ranks = ranksOf(layers, hidden, inner, Math.max(8, 1.5 * r));
      const budget = sum(ranksOf(layers, hidden, inner, r));
      for (const [name, score] of Object.entries(scores)) {
        const best = ranks.map((rank) => ({ ...rank, logAlpha: score(rank) })).sort((a, b) => a.logAlpha - b.logAlpha);
        const stored = sum(ranksWithin(best, budget));
        expect(stored <= budget && isNearBudget(stored, budget), `${hidden}, ${name}: ${stored} of ${budget}`).toBe(
          true,
        );
      }
    }
  });
});

describe('the ranks that a budget keeps', () => {
  const of = (costs: readonly number[]): ScoredRank[] =>
    costs.map((cost, rank) => ({ path: 'm', rank, cost, logAlpha: rank }));
  const kept = (costs: readonly number[], budget: number): number[] =>
    ranksWithin(of(costs), budget).map(({ rank }) => rank);

  it('are the best, each that still fits', () => {
    expect(kept([100, 100, 100, 100], 200)).toEqual([0, 1]);
    expect(kept([100, 300, 100], 201)).toEqual([0, 2]);
  });

  it('give the worst of them up where others fill the budget, and only there', () => {
    expect(kept([60, 60, 50, 50, 40], 100)).toEqual([0, 4]);
    expect(kept([60, 50, 50], 100)).toEqual([1, 2]);
    expect(kept([60, 60], 100)).toEqual([0]);
  });
});
