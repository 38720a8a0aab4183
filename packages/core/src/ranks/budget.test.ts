import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  assertWithinModules,
  assertWithinBase,
  compactPattern,
  rankUnit,
  ranksForBudget,
  sitesForBudget,
} from './budget.js';
import { ConfigError } from '../errors.js';
import type { Site } from '../contracts/site.js';
import { patternValue } from '../adapter/targets.js';

const site = (path: string, inFeatures: number, outFeatures: number): Site => ({
  path,
  kind: 'linear',
  role: 'other',
  inFeatures,
  outFeatures,
  hasBias: false,
});

describe('ranksForBudget', () => {
  const sites = [site('q', 8, 8), site('k', 8, 8), site('ffn.in', 8, 32), site('ffn.out', 32, 8)];
  const stored = (of: readonly Site[], { r, rankPattern }: ReturnType<typeof ranksForBudget>): number =>
    of.reduce((sum, each) => sum + (patternValue(rankPattern, each.path) ?? r) * rankUnit([each]), 0);

  it('is the same rank everywhere where that fits', () => {
    expect(rankUnit(sites)).toBe(112);
    expect(ranksForBudget(sites, 4 * 112)).toEqual({ r: 4, rankPattern: {}, cost: 448 });
  });

  it('gives some modules one more rank where it does not', () => {
    const ranks = ranksForBudget(sites, 3 * 112 + 56);
    expect(ranks.r).toBe(3);
    expect(Object.values(ranks.rankPattern).every((rank) => rank === 4)).toBe(true);
    expect(stored(sites, ranks)).toBe(3 * 112 + 56);
  });

  it('comes within 2 % of the budget, and exceeds it only where it would otherwise be further off', () => {
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
        // At most one rank of the cheapest module stays unused.
        const slack = Math.max(0.02 * budget, Math.min(...offered.map((each) => rankUnit([each]))));
        expect(budget - ranks.cost).toBeLessThanOrEqual(slack);
      }),
    );
  });

  it('gives a module more extra ranks only where one leaves the total over 2 % short', () => {
    const uneven = [site('small', 50, 50), site('large', 500, 500)];
    expect(ranksForBudget(uneven, 1600)).toEqual({ r: 1, rankPattern: { small: 6 }, cost: 1600 });
  });

  it('uses a custom unit cost', () => {
    expect(ranksForBudget(sites, 8, () => 1)).toEqual({ r: 2, rankPattern: {}, cost: 8 });
  });

  it('exceeds the budget by up to 2 % rather than fall short by more', () => {
    expect(ranksForBudget([site('q', 50, 50)], 197)).toMatchObject({ r: 2, cost: 200 });
    expect(ranksForBudget([site('q', 50, 50)], 196)).toMatchObject({ r: 1, cost: 100 });
  });

  it('says what the smallest possible budget is', () => {
    expect(() => ranksForBudget(sites, 109)).toThrow(/rank 1 on 4 modules takes 112/);
    expect(() => ranksForBudget(sites, Number.NaN)).toThrow(ConfigError);
    expect(() => ranksForBudget([], 10)).toThrow(ConfigError);
  });
});

describe('a budget larger than the modules can hold', () => {
  const sites = [site('q', 8, 8), site('ffn.in', 8, 32)]; // 8 * 16 + 8 * 40 at full rank

  it('is rejected above full rank, with the largest possible one', () => {
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

  it('is rejected above the size of the base model', () => {
    expect(() => {
      assertWithinBase(1081, 1080);
    }).toThrow(/the base model has 1080 parameters/);
  });
});

describe('sitesForBudget', () => {
  const sites = [site('a', 10, 10), site('b', 30, 10), site('c', 10, 10), site('d', 30, 10)]; // 20, 40, 20, 40
  const paths = (budget: number): string[] =>
    sitesForBudget(sites, budget, (each) => rankUnit([each])).map(({ path }) => path);

  it('are all where the budget pays for all, or is at most 2 % short', () => {
    expect(paths(1000)).toHaveLength(4);
    expect(paths(118)).toHaveLength(4);
    expect(paths(117)).not.toHaveLength(4);
  });

  it('otherwise come within 2 % of it, and prefer those nearer to the output', () => {
    expect(paths(80)).toEqual(['a', 'c', 'd']);
    expect(paths(100)).toEqual(['b', 'c', 'd']);
    expect(paths(41)).toEqual(['a', 'c']);
    expect(paths(20)).toEqual(['c']);
  });

  it('include at least one', () => {
    expect(() => paths(19)).toThrow(/smallest adapter of one of 4 modules takes 20/);
    expect(() => paths(Number.NaN)).toThrow(ConfigError);
    expect(() => sitesForBudget([], 10, () => 1)).toThrow(ConfigError);
  });
});

describe('compactPattern', () => {
  it('keeps the entries that differ, and anchors a path that is a suffix of another', () => {
    const values = { q: 3, 'a.q': 8, 'a.k': 5 };
    const pattern = compactPattern(values, 8);
    expect(pattern).toEqual({ '^q': 3, 'a.k': 5 });
    for (const [path, value] of Object.entries(values)) expect(patternValue(pattern, path) ?? 8).toBe(value);
  });
});
