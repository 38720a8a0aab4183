import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { syntheticResults, syntheticTrial } from '../../../../cli/test/synthetic-results.js';
import { armsOf } from './comparisons.js';
import { rankCorrelation, rankJaccard, stabilityOf, stabilityOfTrials } from './stability.js';

const map = (...ranks: number[]): Record<string, number> =>
  Object.fromEntries(ranks.map((rank, index) => [`layer.${index}`, rank]));

const ranks = fc.array(fc.integer({ min: 0, max: 8 }), { minLength: 2, maxLength: 12 });

describe('rankCorrelation', () => {
  it('equals the closed form', () => {
    // Deviations (-1.5, -.5, .5, 1.5) and (-1, 0, -1, 2): their product sums to 4, the squares to 5 and 6.
    expect(rankCorrelation(map(1, 2, 3, 4), map(0, 1, 0, 3))).toBeCloseTo(4 / Math.sqrt(5 * 6), 12);
  });

  it('does not depend on the order of modules, and treats a missing one as rank 0', () => {
    const reversed = Object.fromEntries(Object.entries(map(3, 1, 0)).reverse());
    expect(rankCorrelation(map(2, 0, 0), reversed)).toBeCloseTo(rankCorrelation(map(2), map(3, 1, 0)) ?? 0, 12);
  });

  it('is undefined for a constant map', () => {
    expect(rankCorrelation(map(2, 2, 2), map(1, 2, 3))).toBeNull();
    expect(rankCorrelation(map(1, 2, 3), map(0, 0, 0))).toBeNull();
  });

  it('is 1 for a map and its multiple', () => {
    fc.assert(
      fc.property(ranks, fc.integer({ min: 1, max: 4 }), (values, by) => {
        fc.pre(new Set(values).size > 1);
        expect(rankCorrelation(map(...values), map(...values.map((rank) => by * rank)))).toBeCloseTo(1, 9);
      }),
    );
  });
});

describe('rankJaccard', () => {
  it('is the sum of the smaller ranks over the sum of the larger', () => {
    expect(rankJaccard(map(4, 0, 1), map(2, 1, 3))).toBe((2 + 0 + 1) / (4 + 1 + 3));
  });

  it('equals the index of sets if every rank is 0 or 1', () => {
    expect(rankJaccard(map(1, 1, 0, 1), map(0, 1, 1, 1))).toBe(2 / 4);
  });

  it('is 0 for maps without a common module, and undefined if no rank is left', () => {
    expect(rankJaccard({ query: 2 }, { value: 3 })).toBe(0);
    expect(rankJaccard(map(0, 0), map(0, 0))).toBeNull();
  });

  it('is 1 only for equal maps, and symmetric', () => {
    fc.assert(
      fc.property(ranks, ranks, (a, b) => {
        fc.pre([...a, ...b].some((rank) => rank > 0));
        const [one, other] = [map(...a), map(...b)];
        expect(rankJaccard(one, other)).toBe(rankJaccard(other, one));
        const isEqual = Array.from({ length: 12 }).every((_, index) => (a[index] ?? 0) === (b[index] ?? 0));
        expect(rankJaccard(one, other) === 1).toBe(isEqual);
      }),
    );
  });
});

type Trial = Parameters<typeof stabilityOfTrials>[0][number];

/** One trial for every task and seed. */
function trials(tasks: readonly string[], seeds: number, ranksOf: (task: number, seed: number) => number[]): Trial[] {
  return tasks.flatMap((task, index) =>
    Array.from({ length: seeds }, (_, seed) => ({ task, seed, ranks: map(...ranksOf(index, seed)) })),
  );
}

/** Three choices, equally far from each other: r = -1/2, J = 1/5. */
const CHOICES = [
  [2, 1, 0],
  [0, 2, 1],
  [1, 0, 2],
];
const choice = (index: number): number[] => CHOICES[index % 3] as number[];

describe('stabilityOfTrials', () => {
  it('recognises a choice that follows the task', () => {
    const row = stabilityOfTrials(trials(['a', 'b', 'c'], 3, choice));
    expect(row).toMatchObject({ tasks: ['a', 'b', 'c'], seeds: [0, 1, 2], verdict: 'task' });
    expect(row.betweenSeeds).toMatchObject({ pairs: 9, uncorrelated: 0, jaccard: 1 });
    expect(row.betweenSeeds.correlation).toBeCloseTo(1, 12);
    expect(row.betweenTasks.pairs).toBe(9);
    expect(row.betweenTasks.jaccard).toBeCloseTo(1 / 5, 12);
    expect(row.betweenTasks.correlation).toBeCloseTo(-1 / 2, 12);
    expect(row.difference?.mean).toBeCloseTo(3 / 2, 12);
  });

  it('recognises a choice that follows the initial draw', () => {
    const row = stabilityOfTrials(trials(['a', 'b'], 3, (_, seed) => choice(seed)));
    expect(row.verdict).toBe('draw');
    expect(row.betweenTasks.correlation).toBeCloseTo(1, 12);
    expect(row.difference?.mean).toBeCloseTo(-3 / 2, 12);
  });

  it('is open if the choice follows both', () => {
    const both = stabilityOfTrials(trials(['a', 'b', 'c'], 3, (task, seed) => choice(task + seed)));
    expect(both).toMatchObject({ verdict: 'open', betweenSeeds: both.betweenTasks });
  });

  it('does not mistake rounding for a difference if all maps are multiples of one', () => {
    const grown = trials(['a', 'b'], 3, (task) => [5, 2, 1].map((rank) => (task === 0 ? 1 : 5) * rank));
    expect(stabilityOfTrials(grown).verdict).toBe('open');
  });

  it('is open for two seeds, one seed or one task', () => {
    const two = stabilityOfTrials(trials(['a', 'b'], 2, choice));
    expect(two).toMatchObject({ verdict: 'open', difference: { interval: null } });
    expect(two.difference?.mean).toBeCloseTo(3 / 2, 12);
    for (const few of [trials(['a'], 4, (_, seed) => choice(seed)), trials(['a', 'b'], 1, choice)]) {
      expect(stabilityOfTrials(few)).toMatchObject({ verdict: 'open', difference: null });
    }
  });

  it('does not depend on the order of the files', () => {
    const some = trials(['a', 'b', 'c'], 4, (task, seed) => [task ** 2, seed, (task * seed) % 3, 1]);
    expect(stabilityOfTrials([...some].reverse())).toEqual(stabilityOfTrials(some));
  });

  it('says if every trial kept the same ranks', () => {
    expect(stabilityOfTrials(trials(['a', 'b'], 2, () => [1, 2, 4])).verdict).toBe('same');
  });

  it('leaves out pairs with a constant map, counts them, and weights all tasks equally', () => {
    // On task a the pairs of seeds correlate by -1/2; on b one of three pairs remains, with a correlation of 1.
    const on = { a: CHOICES, b: [choice(0), choice(0), [1, 1, 1]] };
    const row = stabilityOfTrials(trials(['a', 'b'], 3, (task, seed) => on[task === 0 ? 'a' : 'b'][seed] as number[]));
    expect(row.betweenSeeds).toMatchObject({ pairs: 6, uncorrelated: 2 });
    expect(row.betweenSeeds.correlation).toBeCloseTo((-1 / 2 + 1) / 2, 12);
    expect(row.betweenSeeds.jaccard).toBeCloseTo((1 / 5 + (1 + 2 * (2 / 4)) / 3) / 2, 12);
    expect(row.betweenTasks).toMatchObject({ pairs: 3, uncorrelated: 1 });
  });
});

describe('stabilityOf', () => {
  it('has a row for each budget of an arm whose ranks differ, but none for arms with uniform or no ranks', () => {
    const methods = ['head', 'lora', 'sora', 'adalora'];
    const rows = stabilityOf(armsOf(syntheticResults({ methods, ranks: [4, 8], seeds: 3 })));
    expect(rows.map(({ label, budget, tasks, seeds }) => [label, budget.spec, tasks.length, seeds.length])).toEqual(
      ['adalora', 'sora'].flatMap((label) => ['r=4', 'r=8'].map((spec) => [label, spec, 2, 3])),
    );
  });

  it('separates models, and configurations of the same name', () => {
    const one = syntheticTrial({ task: 'uci-sentiment', method: 'sora', rank: 4, seed: 1 });
    const two = syntheticTrial({ task: 'uci-sentiment', method: 'sora', rank: 4, seed: 2 });
    const rows = stabilityOf(armsOf([one, { ...two, methodConfig: {} }, { ...one, model: 'other' }]));
    expect(rows.map(({ model, label }) => [model === 'other', label])).toEqual([
      [false, 'sora (1)'],
      [false, 'sora (2)'],
      [true, 'sora'],
    ]);
  });
});
