import { hostTensor } from '@peftjs/core';
import { createRng, type Site } from '@peftjs/core/method';
import { isNearBudget, rankCost } from '@peftjs/core/ranks';
import { linearSite } from '@peftjs/core/model';
import { describe, expect, it } from 'vitest';
import { gora } from './index.js';
import { importanceOf, distributeRanks, targets } from './ranks.js';

const stored = (sites: readonly Site[], ranks: readonly number[]): number =>
  sites.reduce((sum, site, index) => sum + (ranks[index] ?? 0) * rankCost(site), 0);

it('uses the mean of |W0 G| as the importance of a weight', () => {
  const weight = hostTensor(Float32Array.of(1, -2, 3, 0), [2, 2]);
  const gradient = hostTensor(Float32Array.of(4, 1, -2, 9), [2, 2]);
  expect(importanceOf(weight, gradient)).toBe((4 + 2 + 6) / 4);
});

describe('ranks of two modules that store 1,536 and 3,840 per rank, with three quarters of the importance in the first', () => {
  const sites = [linearSite('narrow', 768, 768), linearSite('wide', 768, 3072)];

  it('have the targets of the paper, which rounds them to 15 and 3, a tenth below the budget', () => {
    const [narrow = 0, wide = 0] = targets(sites, [0.75, 0.25], 8);
    expect([Math.round(narrow), Math.round(wide)]).toEqual([15, 3]);
    expect(stored(sites, [15, 4]) / stored(sites, [8, 8])).toBeCloseTo(1 - 0.107, 3);
  });

  it('store exactly the budget', () => {
    const ranks = distributeRanks(sites, [0.75, 0.25], gora.parseConfig({ r: 8 }));
    expect(ranks).toEqual([18, 4]);
    expect(stored(sites, ranks)).toBe(43_008);
  });

  it('do not depend on the scale of the gradients', () => {
    expect(distributeRanks(sites, [7.5e-9, 2.5e-9], gora.parseConfig({ r: 8 }))).toEqual([18, 4]);
  });
});

describe('ranks', () => {
  const same = ['a', 'b', 'c'].map((path) => linearSite(path, 32, 32));
  const shared = (importance: readonly number[], options: object = {}): number[] =>
    distributeRanks(same, importance, gora.parseConfig({ r: 4, ...options }));

  it('are r if modules are equally important; ties go by their order', () => {
    expect(shared([1, 1, 1])).toEqual([4, 4, 4]);
    expect(shared([1, 1, 1], { budget: 13 * 64 })).toEqual([5, 4, 4]);
  });

  it('lie between half of r and four times r, or between minR and maxR', () => {
    expect(shared([1, 0, 0])).toEqual([8, 2, 2]);
    expect(distributeRanks(same.concat(linearSite('d', 32, 32)), [1, 0, 0, 0], gora.parseConfig({ r: 1 }))).toEqual([
      1, 1, 1, 1,
    ]);
    expect(shared([1, 0, 0], { minR: 1, maxR: 9 })).toEqual([9, 2, 1]);
    expect(shared([8, 1, 1], { r: 8, minR: 1 })).toEqual([19, 3, 2]);
  });

  it('are rejected if bounds keep them from the budget, and if there is no gradient', () => {
    expect(() => shared([1, 1, 1], { minR: 5 })).toThrow(expect.objectContaining({ path: 'minR' }));
    expect(() => shared([1, 1, 1], { maxR: 3 })).toThrow(expect.objectContaining({ path: 'maxR' }));
    expect(() => shared([0, 0, 0])).toThrow(expect.objectContaining({ path: 'calibration' }));
    expect(() => shared([1, NaN, 0])).toThrow(expect.objectContaining({ path: 'calibration' }));
  });
});

describe('a budget of r', () => {
  const rng = createRng(1);
  const importance: Record<string, (site: Site, index: number) => number> = {
    random: () => Math.exp(2 * rng.normal()),
    'wide modules': ({ outFeatures, inFeatures }) => Number(outFeatures !== inFeatures),
    'narrow modules': ({ outFeatures, inFeatures }) => Number(outFeatures === inFeatures),
    'one module': (_, index) => Number(index === 4),
    equal: () => 1,
  };

  it.each([1, 2, 4, 8])('= %i is met within 2 %%, whatever the importance', (r) => {
    for (const [layers, hidden, inner] of [
      [2, 128, 512],
      [6, 384, 1536],
      [12, 768, 3072],
    ] as const) {
      const sites = Array.from({ length: layers }, (_, layer) => [
        ...['q', 'k', 'v', 'o'].map((name) => linearSite(`${layer}.${name}`, hidden, hidden)),
        linearSite(`${layer}.in`, hidden, inner),
        linearSite(`${layer}.out`, inner, hidden),
      ]).flat();
      const budget = stored(sites, new Array<number>(sites.length).fill(r));
      for (const [name, of] of Object.entries(importance)) {
        const total = stored(sites, distributeRanks(sites, sites.map(of), gora.parseConfig({ r, budget })));
        expect(total <= budget && isNearBudget(total, budget), `${hidden}, ${name}: ${total} of ${budget}`).toBe(true);
      }
    }
  });
});
