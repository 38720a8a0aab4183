import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ConfigError } from '../errors.js';
import { createRng } from '../rng.js';
import { firstWithinBudget, isNearBudget, selectWithinBudget, type BudgetItem } from './within-budget.js';

const total = (items: readonly BudgetItem[], of: 'value' | 'cost'): number =>
  items.reduce((sum, item) => sum + item[of], 0);

/** The best (value, cost) over every subset. */
function bruteForce(items: readonly BudgetItem[], budget: number, atLeast = 0): { value: number; cost: number } {
  const sums = Array.from({ length: 2 ** items.length }, (_, bits) => {
    const chosen = items.filter((_item, index) => ((bits >> index) & 1) === 1);
    return { value: total(chosen, 'value'), cost: total(chosen, 'cost') };
  }).filter(({ cost }) => cost <= budget);
  const reaching = sums.filter(({ cost }) => cost >= atLeast);
  if (reaching.length > 0) return reaching.reduce((a, b) => ((b.value - a.value || b.cost - a.cost) > 0 ? b : a));
  const fullest = Math.max(...sums.map(({ cost }) => cost));
  return sums.filter(({ cost }) => cost === fullest).reduce((a, b) => (b.value > a.value ? b : a));
}

const items = fc.array(fc.record({ value: fc.integer({ min: 0, max: 9 }), cost: fc.constantFrom(3, 4, 7, 10) }), {
  maxLength: 9,
});

describe('selectWithinBudget', () => {
  it('selects the best items, by value first, then by fill', () => {
    fc.assert(
      fc.property(items, fc.integer({ min: 0, max: 60 }), (offered, budget) => {
        const selected = selectWithinBudget(offered, budget);
        const best = bruteForce(offered, budget);
        expect({ value: total(selected, 'value'), cost: total(selected, 'cost') }).toEqual(best);
      }),
    );
  });

  it('keeps to a lower bound where some selection reaches it', () => {
    fc.assert(
      fc.property(
        items,
        fc.integer({ min: 0, max: 60 }),
        fc.integer({ min: 0, max: 60 }),
        (offered, budget, atLeast) => {
          const selected = selectWithinBudget(offered, budget, { atLeast });
          const best = bruteForce(offered, budget, atLeast);
          expect({ value: total(selected, 'value'), cost: total(selected, 'cost') }).toEqual(best);
        },
      ),
    );
  });

  it('gives ties to lower indices', () => {
    const equal = Array.from({ length: 5 }, (_, index) => ({ index, value: 1, cost: 4 }));
    expect(selectWithinBudget(equal, 12).map(({ index }) => index)).toEqual([0, 1, 2]);
  });

  it('fills the budget with items of value zero', () => {
    const worthless = [10, 10, 10, 4, 4].map((cost) => ({ value: 0, cost }));
    expect(total(selectWithinBudget(worthless, 25), 'cost')).toBe(24);
  });

  it('holds a budget whose costs share no divisor, in bounded memory', () => {
    const many = Array.from({ length: 3000 }, (_, index) => ({ value: 1 + (index % 17), cost: 10_007 + (index % 40) }));
    const budget = 12_345_678;
    const selected = selectWithinBudget(many, budget);
    expect(total(selected, 'cost')).toBeLessThanOrEqual(budget);
    expect(total(selected, 'cost')).toBeGreaterThan(0.99 * budget);
    // No selection can exceed this bound: items by density, the last one in part.
    const density = [...many].sort((a, b) => b.value / b.cost - a.value / a.cost);
    let room = budget;
    const bound = density.reduce((sum, { value, cost }) => {
      const part = Math.min(1, room / cost);
      room -= part * cost;
      return sum + part * value;
    }, 0);
    expect(total(selected, 'value')).toBeGreaterThan(0.995 * bound);
  });

  it.each([
    [{ value: -1, cost: 1 }, 'value'],
    [{ value: Number.NaN, cost: 1 }, 'value'],
    [{ value: 1, cost: 0 }, 'cost'],
    [{ value: 1, cost: 1.5 }, 'cost'],
  ])('refuses %j', (item, field) => {
    expect(() => selectWithinBudget([item], 10)).toThrow(ConfigError);
    expect(() => selectWithinBudget([item], 10)).toThrow(field === 'cost' ? /costs/ : /worth/);
  });
});

/** The cost of every rank of the six linear modules of BERT's layers, `r` ranks each. */
function bertRanks(layers: number, hidden: number, inner: number, r: number): { readonly cost: number }[] {
  const modules = [2 * hidden, 2 * hidden, 2 * hidden, 2 * hidden, hidden + inner, hidden + inner];
  return Array.from({ length: layers * r }, () => modules.map((cost) => ({ cost }))).flat();
}

describe('firstWithinBudget', () => {
  const costOf = (chosen: readonly { readonly cost: number }[]): number =>
    chosen.reduce((sum, { cost }) => sum + cost, 0);
  const chosen = (costs: readonly number[], budget: number, held = 0): number[] =>
    firstWithinBudget(
      costs.map((cost, index) => ({ cost, index })),
      budget,
      held,
    ).map(({ index }) => index);

  it('selects the first items, each that still fits', () => {
    expect(chosen([100, 100, 100, 100], 200)).toEqual([0, 1]);
    expect(chosen([100, 300, 100], 201)).toEqual([0, 2]);
    expect(chosen([100, 300, 100], 501, 300)).toEqual([0, 2]);
    expect(chosen([100, 300, 100], 600)).toEqual([0, 1, 2]);
  });

  it('drops the last of them where others then fill the budget, and only there', () => {
    expect(chosen([60, 60, 50, 50, 40], 100)).toEqual([0, 4]);
    expect(chosen([60, 50, 50], 100)).toEqual([1, 2]);
    expect(chosen([60, 60], 100)).toEqual([0]);
  });

  const rng = createRng(1);
  const orders: Record<string, (rank: { readonly cost: number }) => number> = {
    random: () => rng.normal(),
    'wide modules first': ({ cost }) => -cost,
    'narrow modules first': ({ cost }) => cost,
    'as they come': () => 0,
  };

  it.each([1, 2, 4, 8])('meets the budget of a LoRA of rank %i within 2 %%, whatever the order', (r) => {
    for (const [layers, hidden, inner] of [
      [2, 128, 512],
      [6, 384, 1536],
      [12, 768, 3072],
    ] as const) {
      const budget = costOf(bertRanks(layers, hidden, inner, r));
      for (const [name, score] of Object.entries(orders)) {
        const scored = bertRanks(layers, hidden, inner, Math.max(8, 2 * r)).map((rank) => ({
          ...rank,
          score: score(rank),
        }));
        const stored = costOf(
          firstWithinBudget(
            scored.sort((a, b) => a.score - b.score),
            budget,
          ),
        );
        expect(stored <= budget && isNearBudget(stored, budget), `${hidden}, ${name}: ${stored} of ${budget}`).toBe(
          true,
        );
      }
    }
  });
});
