import { describe, expect, it } from 'vitest';
import { ShapeError } from '../errors.js';
import type { LoraFactors } from '../contracts/layer.js';
import { createRng, type Rng } from '../rng.js';
import { floats, hostTensor, type HostTensor } from '../tensors.js';
import { relativeDistance } from '@peftjs/conformance';
import { combined, type CombinationOptions, type CombinationType } from './combination.js';
import { loraDelta, nonZeroIndices, normalValues } from '../ranks/factors.js';

const rng = createRng(8);
const factorsOf = (rank: number, scaling: number): LoraFactors => ({
  loraA: normalValues(rng, [6, rank], 1),
  loraB: normalValues(rng, [rank, 5], 1),
  scaling,
});
const [one, two, wide] = [factorsOf(2, 0.5), factorsOf(2, 3), factorsOf(3, 1)];
const options: CombinationOptions = { rank: 5, density: 1, majoritySignMethod: 'total', rng };
/** sum w_i dW_i */
const sumOf = (...parts: readonly (readonly [LoraFactors, number])[]): number[] =>
  Array.from({ length: 30 }, (_, index) =>
    parts.reduce((sum, [factors, weight]) => sum + weight * (loraDelta(factors)[index] as number), 0),
  );
const row = (...values: number[]) => hostTensor(Float32Array.from(values), [1, values.length]);

describe('changes of one weight, combined', () => {
  const parts = [
    { factors: one, weight: 0.7 },
    { factors: wide, weight: -0.4 },
  ];
  const sum = sumOf([one, 0.7], [wide, -0.4]);

  it('by cat are their weighted sum, with the sum of their ranks', () => {
    const cat = combined('cat', parts, options);
    expect(cat.loraA.shape).toEqual([6, 5]);
    expect(relativeDistance(loraDelta(cat), sum)).toBeLessThan(1e-6);
  });

  it('by svd are the best approximation of the given rank, scaled once', () => {
    expect(relativeDistance(loraDelta(combined('svd', parts, options)), sum)).toBeLessThan(1e-5);
    const error = (rank: number): number =>
      relativeDistance(loraDelta(combined('svd', parts, { ...options, rank })), sum);
    expect([error(1) > error(2), error(2) > error(4)]).toEqual([true, true]);
  });

  it('by linear are sums of A and of B, weighted by square roots', () => {
    const linear = combined(
      'linear',
      [
        { factors: one, weight: 2 },
        { factors: two, weight: -1 },
      ],
      options,
    );
    const [first, second] = [Math.sqrt(2 * 0.5), Math.sqrt(3)];
    const a = [...one.loraA.data].map((value, index) => first * value - second * (two.loraA.data[index] as number));
    const b = [...one.loraB.data].map((value, index) => first * value + second * (two.loraB.data[index] as number));
    expect(relativeDistance(linear.loraA.data, a)).toBeLessThan(1e-6);
    expect(relativeDistance(linear.loraB.data, b)).toBeLessThan(1e-6);
  });

  it('by linear with only -1 is the negated change, and with 1 and -1 zero', () => {
    const back = combined('linear', [{ factors: one, weight: -1 }], options);
    expect(relativeDistance(loraDelta(back), sumOf([one, -1]))).toBeLessThan(1e-6);
    const nothing = combined(
      'linear',
      [
        { factors: one, weight: 1 },
        { factors: one, weight: -1 },
      ],
      options,
    );
    expect([...loraDelta(nothing)].every((value) => value === 0)).toBe(true);
  });

  it('by a rule on A and B need equal ranks', () => {
    for (const type of ['linear', 'ties', 'magnitude_prune', 'dare_linear', 'dare_ties'] as const) {
      expect(() => combined(type, parts, options)).toThrow(ShapeError);
    }
  });
});

describe('TIES', () => {
  /** A of two changes, by hand; B is the same everywhere. */
  const merged = (
    tensors: readonly number[][],
    weights: readonly number[],
    given: Partial<CombinationOptions> = {},
  ) => {
    const parts = tensors.map((values, index) => ({
      factors: {
        loraA: row(...values),
        loraB: hostTensor(new Float32Array(values.length).fill(1), [values.length, 1]),
        scaling: 1,
      },
      weight: weights[index] as number,
    }));
    return [...combined('ties', parts, { ...options, ...given }).loraA.data];
  };

  it('keeps the largest entries, elects a sign and averages the entries with that sign', () => {
    // trimmed to two of four: [5, 0, -4, 0] and [0, 3, 1, 0]; sums 5, 3, -3, 0
    expect(
      merged(
        [
          [5, 1, -4, 1],
          [0.5, 3, 1, 0],
        ],
        [1, 1],
        { density: 0.5 },
      ),
    ).toEqual([5, 3, -4, 0]);
    expect(
      merged(
        [
          [5, 2, 1, 1],
          [3, -1, 1, 1],
        ],
        [1, 1],
      ),
    ).toEqual([4, 2, 1, 1]);
  });

  it('elects by the number of entries in frequency mode', () => {
    const tensors = [[5], [-1], [-2]];
    expect(merged(tensors, [1, 1, 1])).toEqual([5]);
    expect(merged(tensors, [1, 1, 1], { majoritySignMethod: 'frequency' })).toEqual([-1.5]);
  });

  it('applies weights after the election, and keeps nothing at density 0', () => {
    expect(merged([[2], [1]], [-4, 1])).toEqual([(-2 * 2 + 1) / 2]);
    expect(merged([[2], [1]], [1, 1], { density: 0 })).toEqual([0]);
  });
});

describe('DARE', () => {
  const wide = 100;
  const parts = [3, 4].map((seed, index) => ({
    factors: {
      loraA: normalValues(createRng(seed), [wide, 2], 1),
      loraB: normalValues(createRng(10 + seed), [2, wide], 1),
      scaling: 0.5 + index,
    },
    weight: [0.7, -0.4][index] as number,
  }));
  const drawn = (type: CombinationType, seed: number, given: Partial<CombinationOptions> = {}) =>
    combined(type, parts, { ...options, density: 0.3, rank: wide, ...given, rng: createRng(seed) });
  /** The masks that a seed draws, as zeros and 1 / density in place of the entries. */
  const masked = (tensor: HostTensor, draws: Rng, density: number): HostTensor =>
    hostTensor(
      floats(tensor).map((value) => (draws.uniform() < density ? value / density : 0)),
      tensor.shape,
    );
  const dropped = (seed: number, density: number) =>
    parts.map(({ factors, weight }, index) => {
      const draws = (name: string): Rng => createRng(seed).fork(name).fork(String(index));
      const loraA = masked(factors.loraA, draws('loraA'), density);
      return { weight, factors: { ...factors, loraA, loraB: masked(factors.loraB, draws('loraB'), density) } };
    });

  it.each([
    ['dare_linear', 'linear'],
    ['dare_ties', 'ties'],
  ] as const)('%s is %s of what its masks keep, divided by the density', (type, rule) => {
    const kept = { ...options, density: 1 };
    expect(drawn(type, 5)).toEqual(combined(rule, dropped(5, 0.3), kept));
    expect(drawn(type, 5)).toEqual(drawn(type, 5));
    expect(drawn(type, 5)).not.toEqual(drawn(type, 6));
    expect(drawn(type, 5, { density: 1 })).toEqual(combined(rule, parts, kept));
  });

  it('keeps the given share of the entries, and the sum of the changes on average', () => {
    const [one] = parts as [(typeof parts)[number]];
    const change = loraDelta(one.factors);
    const mean = new Float64Array(change.length);
    let entries = 0;
    const draws = 40;
    for (let seed = 0; seed < draws; seed++) {
      const drawn = combined('dare_linear', [one], { ...options, density: 0.3, rng: createRng(seed) });
      entries += nonZeroIndices(drawn.loraA).length / drawn.loraA.data.length / draws;
      loraDelta(drawn).forEach((value, index) => (mean[index] = (mean[index] as number) + value / draws));
    }
    expect(Math.abs(entries - 0.3)).toBeLessThan(4 * Math.sqrt((0.3 * 0.7) / (2 * wide * draws)));
    // A and B are drawn independently, so the expectation of their product is the product
    const projected = change.reduce((sum, value, index) => sum + value * (mean[index] as number), 0);
    const norm = change.reduce((sum, value) => sum + value * value, 0);
    expect(Math.abs(projected / norm / 0.7 - 1)).toBeLessThan(0.05);
  });

  it('draws the entries of the whole change where the type ends in _svd', () => {
    const density = 0.3;
    const changes = parts.map(({ factors, weight }, index) => {
      const delta = hostTensor(loraDelta(factors), [wide, wide]);
      return floats(masked(delta, createRng(5).fork(String(index)), density)).map((value) => weight * value);
    });
    const sum = (changes[0] as Float32Array).map((value, index) => value + (changes[1]?.[index] as number));
    expect(relativeDistance(loraDelta(drawn('dare_linear_svd', 5)), sum)).toBeLessThan(1e-5);
    expect(relativeDistance(loraDelta(drawn('dare_ties_svd', 5)), sum)).toBeGreaterThan(0.1);
  });
});
