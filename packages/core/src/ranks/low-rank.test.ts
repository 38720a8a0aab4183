import { describe, expect, it } from 'vitest';
import { ConfigError } from '../errors.js';
import { createRng } from '../rng.js';
import { floats, hostTensor } from '../tensors.js';
import { relativeDistance } from '@peftjs/conformance';
import { reduceRank, loraDelta, nearestFactors, normalValues } from './factors.js';

const rng = createRng(4);
const factors = { loraA: normalValues(rng, [30, 4], 1), loraB: normalValues(rng, [4, 20], 1), scaling: 0.3 };
const delta = hostTensor(loraDelta(factors), [30, 20]);
const rankOf = ({ loraA }: { loraA: { shape: readonly number[] } }): number => loraA.shape[1] as number;
const distance = (found: typeof factors): number => relativeDistance(loraDelta(found), floats(delta));

describe('the nearest factors of fewer ranks', () => {
  it('are the same from a matrix and from its factors', () => {
    for (const rank of [1, 3]) {
      const [dense, small] = [nearestFactors(delta, { rank }), reduceRank(factors, { rank })];
      expect([rankOf(dense), rankOf(small)]).toEqual([rank, rank]);
      expect(relativeDistance(loraDelta(small), loraDelta(dense))).toBeLessThan(1e-5);
      expect(distance(small)).toBeGreaterThan(0.01);
    }
  });

  it('are exact at the rank of the change, and have no more ranks', () => {
    for (const found of [nearestFactors(delta, { rank: 4 }), reduceRank(factors, { rank: 9 })]) {
      expect(rankOf(found)).toBe(4);
      expect(distance(found)).toBeLessThan(1e-5);
    }
  });

  it('are the fewest that hold a share of the squared norm', () => {
    for (const find of [() => nearestFactors(delta, { energy: 0.9 }), () => reduceRank(factors, { energy: 0.9 })]) {
      const found = find();
      expect(distance(found) ** 2).toBeLessThan(0.1);
      const fewer = nearestFactors(delta, { rank: rankOf(found) - 1 });
      expect(distance(fewer) ** 2).toBeGreaterThan(0.1);
    }
  });

  it('search on where the first ranks do not hold it', () => {
    const flat = hostTensor(
      Float32Array.from({ length: 400 }, (_, index) => Number(index % 21 === 0)),
      [20, 20],
    ); // the identity
    expect(rankOf(nearestFactors(flat, { energy: 0.6 }))).toBe(12);
  });

  it('are none for a change of zero', () => {
    const nothing = {
      loraA: hostTensor(new Float32Array(), [30, 0]),
      loraB: hostTensor(new Float32Array(), [0, 20]),
      scaling: 1,
    };
    expect(rankOf(reduceRank(nothing, { rank: 2 }))).toBe(0);
  });

  it.each([{ rank: 0 }, { rank: 1.5 }, { energy: 0 }, { energy: 1.1 }, { energy: NaN }])('reject %j', (choice) => {
    expect(() => nearestFactors(delta, choice)).toThrow(ConfigError);
    expect(() => reduceRank(factors, choice)).toThrow(ConfigError);
  });
});
