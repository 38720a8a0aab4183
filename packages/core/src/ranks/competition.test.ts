import { describe, expect, it } from 'vitest';
import { assertPrunable, bestFirst, dealRanks, fillBudget, ranksByPath, scoredRanks } from './competition.js';

const cost = (path: string): number => ({ a: 3, b: 2 })[path] ?? expect.fail(`no module '${path}'`);
const deal = { budget: null, cost };

it('ranks compete over all modules: ties keep their order, and survivors theirs in the module', () => {
  const ranks = bestFirst(scoredRanks({ a: [1, 2], b: [2, 3] }, cost));
  expect(ranks.map(({ path, rank }) => `${path}${rank}`)).toEqual(['b1', 'a1', 'b0', 'a0']);
  expect(ranksByPath(['a', 'b', 'c'], ranks.slice(0, 3))).toEqual({ a: [1], b: [0, 1], c: [] });
});

it('an adapter without a rank is not pruned to a budget', () => {
  expect(() => assertPrunable({}, 100, { totalSteps: 10, warmupSteps: 0, finalSteps: 3, seed: 0 })).toThrow(
    'no module of this adapter has a rank left to prune: attach a new one',
  );
});

describe('new ranks are dealt in turn', () => {
  it('until their number is reached', () => {
    expect(dealRanks({}, { ...deal, receivers: ['b', 'a'], count: 3 })).toEqual({ b: 2, a: 1 });
  });

  it('except to a module whose rank the budget does not pay for beside the kept ones', () => {
    expect(dealRanks({ a: [1] }, { ...deal, receivers: ['a', 'b'], budget: 10 })).toEqual({ a: 1, b: 2 });
  });

  it('as often as there are rounds, and at most to the highest rank of a module', () => {
    const given = { ...deal, receivers: ['a', 'b', 'b'] };
    expect(dealRanks({}, { ...given, rounds: 1 })).toEqual({ a: 1, b: 2 });
    expect(dealRanks({ a: [0] }, { ...given, most: () => 3 })).toEqual({ a: 2, b: 3 });
  });

  it('never to no modules', () => {
    expect(dealRanks({}, { ...deal, receivers: [] })).toEqual({});
  });
});

describe('a budget is filled with the ranks that leave least of it', () => {
  const fill = (budget: number, fillers: readonly string[]) =>
    fillBudget({ a: [0] }, { receivers: [], budget, cost }, fillers);

  it('from below', () => {
    expect(fill(10, ['a', 'b'])).toEqual({ a: 1, b: 2 });
    expect(fill(2, ['a'])).toEqual({});
  });

  it('from slightly above, if nothing comes within 2 % from below', () => {
    expect(fill(59, ['a'])).toEqual({ a: 19 });
    expect(fill(10, ['a'])).toEqual({ a: 2 });
  });

  it('with no more in a module than it may have', () => {
    const most = (path: string): number => ({ a: 1, b: 2 })[path] ?? NaN;
    const fillers = ['a', 'b'];
    expect(fillBudget({ a: [0] }, { receivers: ['b'], rounds: 1, budget: 10, cost, most }, fillers)).toEqual({ b: 2 });
  });
});
