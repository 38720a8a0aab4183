import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  assertWithinModules,
  assertWithinBase,
  compactPattern,
  firstWithinBudget,
  isNearBudget,
  rankUnit,
  ranksForBudget,
  selectWithinBudget,
  sitesForBudget,
  type BudgetItem,
} from './budget.js';
import { ConfigError } from '../errors.js';
import { createRng } from '../rng.js';
import type { Site } from '../contracts/site.js';
import { patternValue } from './targets.js';

const site = (path: string, inFeatures: number, outFeatures: number): Site => ({
  path,
  kind: 'linear',
  role: 'other',
  inFeatures,
  outFeatures,
  hasBias: false,
});

const total = (items: readonly BudgetItem[], selected: readonly boolean[], of: 'value' | 'cost'): number =>
  items.reduce((sum, item, index) => sum + (selected[index] ? item[of] : 0), 0);

/** The best (value, cost) over every subset. */
function bruteForce(items: readonly BudgetItem[], budget: number, atLeast = 0): { value: number; cost: number } {
  const sums = Array.from({ length: 2 ** items.length }, (_, bits) => {
    const chosen = items.map((_item, index) => ((bits >> index) & 1) === 1);
    return { value: total(items, chosen, 'value'), cost: total(items, chosen, 'cost') };
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
  it('is the best selection there is, value first, then fill', () => {
    fc.assert(
      fc.property(items, fc.integer({ min: 0, max: 60 }), (offered, budget) => {
        const selected = selectWithinBudget(offered, budget);
        const best = bruteForce(offered, budget);
        expect({ value: total(offered, selected, 'value'), cost: total(offered, selected, 'cost') }).toEqual(best);
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
          expect({ value: total(offered, selected, 'value'), cost: total(offered, selected, 'cost') }).toEqual(best);
        },
      ),
    );
  });

  it('gives ties to lower indices', () => {
    const equal = Array.from({ length: 5 }, () => ({ value: 1, cost: 4 }));
    expect(selectWithinBudget(equal, 12)).toEqual([true, true, true, false, false]);
  });

  it('fills the budget with items worth nothing', () => {
    const worthless = [10, 10, 10, 4, 4].map((cost) => ({ value: 0, cost }));
    expect(total(worthless, selectWithinBudget(worthless, 25), 'cost')).toBe(24);
  });

  it('holds a budget whose costs share no divisor, in bounded memory', () => {
    const many = Array.from({ length: 3000 }, (_, index) => ({ value: 1 + (index % 17), cost: 10_007 + (index % 40) }));
    const budget = 12_345_678;
    const selected = selectWithinBudget(many, budget);
    expect(total(many, selected, 'cost')).toBeLessThanOrEqual(budget);
    expect(total(many, selected, 'cost')).toBeGreaterThan(0.99 * budget);
    // By density, with a last part of an item, no selection is worth more than this.
    const density = [...many].sort((a, b) => b.value / b.cost - a.value / a.cost);
    let room = budget;
    const bound = density.reduce((sum, { value, cost }) => {
      const part = Math.min(1, room / cost);
      room -= part * cost;
      return sum + part * value;
    }, 0);
    expect(total(many, selected, 'value')).toBeGreaterThan(0.995 * bound);
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

describe('ranksForBudget', () => {
  const sites = [site('q', 8, 8), site('k', 8, 8), site('ffn.in', 8, 32), site('ffn.out', 32, 8)];
  const stored = (of: readonly Site[], { r, rankPattern }: ReturnType<typeof ranksForBudget>): number =>
    of.reduce((sum, each) => sum + (patternValue(rankPattern, each.path) ?? r) * rankUnit([each]), 0);

  it('is one rank everywhere where that fits', () => {
    expect(rankUnit(sites)).toBe(112);
    expect(ranksForBudget(sites, 4 * 112)).toEqual({ r: 4, rankPattern: {}, cost: 448 });
  });

  it('gives some modules one rank more where it does not', () => {
    const ranks = ranksForBudget(sites, 3 * 112 + 56);
    expect(ranks.r).toBe(3);
    expect(Object.values(ranks.rankPattern).every((rank) => rank === 4)).toBe(true);
    expect(stored(sites, ranks)).toBe(3 * 112 + 56);
  });

  it('comes within 2 % of the budget, and exceeds it only where it would else miss it by more', () => {
    const shapes = fc.array(fc.tuple(fc.constantFrom(64, 96, 256), fc.constantFrom(64, 128, 256)), {
      minLength: 6,
      maxLength: 12,
    });
    fc.assert(
      fc.property(shapes, fc.double({ min: 2, max: 16, noNaN: true }), (dims, multiple) => {
        const offered = dims.map(([inFeatures, outFeatures], index) => site(`m${index}`, inFeatures, outFeatures));
        const budget = Math.floor(multiple * rankUnit(offered));
        const ranks = ranksForBudget(offered, budget);
        expect(ranks.cost).toBe(stored(offered, ranks));
        expect(ranks.cost).toBeLessThanOrEqual(1.02 * budget);
        // One rank of the cheapest module is all that may stay unused.
        const slack = Math.max(0.02 * budget, Math.min(...offered.map((each) => rankUnit([each]))));
        expect(budget - ranks.cost).toBeLessThanOrEqual(slack);
      }),
    );
  });

  it('spreads further only where one rank more leaves the total over 2 % short', () => {
    const uneven = [site('small', 50, 50), site('large', 500, 500)];
    expect(ranksForBudget(uneven, 1600)).toEqual({ r: 1, rankPattern: { small: 6 }, cost: 1600 });
  });

  it('counts by a unit cost of its own', () => {
    expect(ranksForBudget(sites, 8, () => 1)).toEqual({ r: 2, rankPattern: {}, cost: 8 });
  });

  it('exceeds the budget by up to 2 % rather than to fall short by more', () => {
    expect(ranksForBudget([site('q', 50, 50)], 197)).toMatchObject({ r: 2, cost: 200 });
    expect(ranksForBudget([site('q', 50, 50)], 196)).toMatchObject({ r: 1, cost: 100 });
  });

  it('says what the smallest possible budget is', () => {
    expect(() => ranksForBudget(sites, 109)).toThrow(/rank 1 on 4 modules takes 112/);
    expect(() => ranksForBudget(sites, Number.NaN)).toThrow(ConfigError);
    expect(() => ranksForBudget([], 10)).toThrow(ConfigError);
  });
});

describe('a budget that the modules cannot hold', () => {
  const sites = [site('q', 8, 8), site('ffn.in', 8, 32)]; // 8 * 16 + 8 * 40 at full rank

  it('is refused above full rank, with the largest possible one', () => {
    expect(() => {
      assertWithinModules(sites, 448);
    }).not.toThrow();
    expect(() => {
      assertWithinModules(sites, 449);
    }).toThrow(
      expect.objectContaining({
        code: 'PEFT_CONFIG',
        path: 'budget',
        message:
          'budget is 449; these 2 modules hold at most 448 parameters, at full rank: ask for less, or adapt more modules',
      }),
    );
  });

  it('is refused above the base', () => {
    expect(() => {
      assertWithinBase(1081, 1080);
    }).toThrow(/the base model has 1080 parameters/);
  });
});

describe('sitesForBudget', () => {
  const sites = [site('a', 10, 10), site('b', 30, 10), site('c', 10, 10), site('d', 30, 10)]; // 20, 40, 20, 40
  const paths = (budget: number): string[] =>
    sitesForBudget(sites, budget, (each) => rankUnit([each])).map(({ path }) => path);

  it('are all where the budget pays for all, or misses that by 2 %', () => {
    expect(paths(1000)).toHaveLength(4);
    expect(paths(118)).toHaveLength(4);
    expect(paths(117)).not.toHaveLength(4);
  });

  it('are as many as come within 2 % of it, and of equal ones those nearer to the output', () => {
    expect(paths(80)).toEqual(['a', 'c', 'd']);
    expect(paths(100)).toEqual(['b', 'c', 'd']);
    expect(paths(41)).toEqual(['a', 'c']);
    expect(paths(20)).toEqual(['c']);
  });

  it('are at least one', () => {
    expect(() => paths(19)).toThrow(/smallest adapter of one of 4 modules takes 20/);
    expect(() => paths(Number.NaN)).toThrow(ConfigError);
    expect(() => sitesForBudget([], 10, () => 1)).toThrow(ConfigError);
  });
});

describe('compactPattern', () => {
  it('keeps what differs, and anchors a path that is the end of another', () => {
    const values = { q: 3, 'a.q': 8, 'a.k': 5 };
    const pattern = compactPattern(values, 8);
    expect(pattern).toEqual({ '^q': 3, 'a.k': 5 });
    for (const [path, value] of Object.entries(values)) expect(patternValue(pattern, path) ?? 8).toBe(value);
  });
});

/** What every rank of the six linear modules of BERT's layers stores, `r` of each. */
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

  it('takes the first, each that still fits', () => {
    expect(chosen([100, 100, 100, 100], 200)).toEqual([0, 1]);
    expect(chosen([100, 300, 100], 201)).toEqual([0, 2]);
    expect(chosen([100, 300, 100], 501, 300)).toEqual([0, 2]);
  });

  it('gives the last of them up where others fill the budget, and only there', () => {
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

  it.each([1, 2, 4, 8])('meets the budget of a LoRA of rank %i within a fiftieth, whatever the order', (r) => {
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
