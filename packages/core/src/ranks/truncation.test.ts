import { Matrix, SingularValueDecomposition } from 'ml-matrix';
import { describe, expect, it } from 'vitest';
import { linearSite } from '../contracts/site.js';
import type { AdapterLayers, LoraFactors } from '../contracts/layer.js';
import { createRng } from '../rng.js';
import { relativeDistance } from '@peftjs/conformance';
import { floats, hostTensor, tensorAt, transposed, type HostTensor, type HostTensors } from '../tensors.js';
import { rankCost } from './budget.js';
import { loraDelta, normalValues, matrixProduct, singularFactors } from './factors.js';
import { rankLayer } from './rank-layer.js';
import { selectRanks } from './competition.js';
import { truncateToBudget } from './truncation.js';

const rng = createRng(7);
const drawn = (name: string, shape: readonly number[]): HostTensor => normalValues(rng.fork(name), shape, 1);
const factorsOf = (name: string, [rows, r, columns]: readonly [number, number, number]): LoraFactors => ({
  loraA: drawn(`${name}.A`, [rows, r]),
  loraB: drawn(`${name}.B`, [r, columns]),
  scaling: 0.5,
});

/** The change of the weight, in double precision. */
const dense = ({ loraA, loraB, scaling }: LoraFactors): Matrix => {
  const matrix = ({ data, shape }: HostTensor): Matrix => Matrix.from1DArray(shape[0] ?? 0, shape[1] ?? 0, [...data]);
  return matrix(loraA).mmul(matrix(loraB)).mul(scaling);
};

const shapes = { small: [6, 3, 5], wide: [8, 4, 20], tall: [16, 4, 4] } as const;
const factors = Object.fromEntries(Object.entries(shapes).map(([path, shape]) => [path, factorsOf(path, shape)]));
const layers: AdapterLayers = Object.fromEntries(
  Object.entries(factors).map(([path, { scaling, ...initial }]) => [
    path,
    rankLayer(linearSite(path, initial.loraA.shape[0] ?? 0, initial.loraB.shape[1] ?? 0), { initial, scaling }),
  ]),
);
const values: HostTensors = Object.fromEntries(
  Object.entries(factors).flatMap(([path, { loraA, loraB }]) => [
    [`${path}.loraA`, loraA],
    [`${path}.loraB`, loraB],
  ]),
);

describe('singularFactors', () => {
  it.each(Object.entries(factors))('are the same change in its singular basis: %s', (_, each) => {
    const { singularValues, ...turned } = singularFactors(each);
    expect(relativeDistance(loraDelta(turned), loraDelta(each))).toBeLessThan(1e-6);
    const expected = new SingularValueDecomposition(dense(each)).diagonal.slice(0, singularValues.length);
    expect(relativeDistance(singularValues, expected)).toBeLessThan(1e-6);
    const gram = (matrix: HostTensor): number[] => [...floats(matrixProduct(transposed(matrix), matrix))];
    const [left, right] = [gram(turned.loraA), gram(transposed(turned.loraB))]; // both diag(S), without the scaling
    expect(relativeDistance(left, right)).toBeLessThan(1e-5);
  });

  it('transform gradients as the change of basis does', () => {
    const each = factorsOf('turned', [9, 3, 7]);
    const { loraA, loraB, turnA, turnB } = singularFactors(each);
    const slope = drawn('slope', [9, 7]); // G = dL/d(A B): dL/dA = G B^T, dL/dB = A^T G
    const ofA = (b: HostTensor): Float32Array => floats(matrixProduct(slope, transposed(b)));
    const ofB = (a: HostTensor): Float32Array => floats(matrixProduct(transposed(a), slope));
    const asA = hostTensor(ofA(each.loraB), [9, 3]);
    const asB = hostTensor(ofB(each.loraA), [3, 7]);
    expect(relativeDistance(floats(matrixProduct(asA, turnA)), ofA(loraB))).toBeLessThan(1e-5);
    expect(relativeDistance(floats(matrixProduct(turnB, asB)), ofB(loraA))).toBeLessThan(1e-5);
  });

  it('give a change of zero ranks that can still learn', () => {
    const zero = singularFactors({ ...factorsOf('zero', [6, 2, 4]), loraB: hostTensor(new Float32Array(8), [2, 4]) });
    expect(zero.singularValues).toEqual([0, 0]);
    expect([...floats(zero.loraB)].every((value) => value === 0)).toBe(true);
    expect(floats(matrixProduct(transposed(zero.loraA), zero.loraA))[0]).toBeCloseTo(1, 5);
  });
});

describe('truncateToBudget', () => {
  const costs = Object.values(layers).map(({ site }) => rankCost(site));
  const spectra = Object.values(factors).map((each) =>
    new SingularValueDecomposition(dense(each)).diagonal.slice(0, each.loraA.shape[1]),
  );

  /**
   * The least squared error of any ranks (k of each module) that store at most the budget and at least 99 % of what is
   * possible.
   */
  const best = (budget: number): number => {
    const [first = [], second = [], third = []] = spectra;
    const tail = (spectrum: readonly number[], k: number): number =>
      spectrum.slice(k).reduce((sum, value) => sum + value ** 2, 0);
    const errors = [...first, 0].flatMap((_a, i) =>
      [...second, 0].flatMap((_b, j) =>
        [...third, 0].flatMap((_c, k) => {
          const cost = i * (costs[0] ?? 0) + j * (costs[1] ?? 0) + k * (costs[2] ?? 0);
          return cost <= budget && cost >= 0.99 * budget ? [tail(first, i) + tail(second, j) + tail(third, k)] : [];
        }),
      ),
    );
    return Math.min(...errors);
  };

  it.each([79, 98, 139])('is the best approximation that stores %i parameters', (budget) => {
    const resized = truncateToBudget(layers, values, budget);
    let [error, stored] = [0, 0];
    for (const [path, each] of Object.entries(factors)) {
      const { layer, carry } = resized[path] ?? {};
      const kept = (name: 'loraA' | 'loraB'): HostTensor => carry?.(name, each[name], 'value') ?? each[name];
      const cut = { loraA: kept('loraA'), loraB: kept('loraB'), scaling: each.scaling };
      const rank = cut.loraA.shape[1] ?? NaN;
      if (layer && rank > 0) expect(layer.params.loraA?.initial.shape).toEqual(cut.loraA.shape);
      stored += rank * rankCost(tensorAt(layers, path).site);
      error += rank === 0 ? dense(each).norm('frobenius') ** 2 : dense(each).sub(dense(cut)).norm('frobenius') ** 2;
    }
    expect(stored).toBeLessThanOrEqual(budget);
    expect(stored).toBeGreaterThanOrEqual(0.99 * budget);
    expect(error / best(budget)).toBeCloseTo(1, 5);
  });

  it('transforms the moments with the factors: the first as gradients, the second as their squares', () => {
    const { carry } = truncateToBudget(layers, values, 98).wide ?? expect.fail('the widest module lost nothing');
    const { turnA } = singularFactors(tensorAt(factors, 'wide'));
    const moment = drawn('moment', [8, 4]);
    const kept = carry('loraA', moment, 'value').shape[1] ?? NaN;
    const entry = (power: 1 | 2): number =>
      [0, 1, 2, 3].reduce((sum, rank) => sum + (moment.data[rank] ?? NaN) * (turnA.data[rank * 4] ?? NaN) ** power, 0);
    expect(carry('loraA', moment, 'gradient').shape).toEqual([8, kept]);
    expect(carry('loraA', moment, 'gradient').data[0]).toBeCloseTo(entry(1), 5);
    expect(carry('loraA', moment, 'squaredGradient').data[0]).toBeCloseTo(entry(2), 5);
  });
});

describe('selectRanks', () => {
  it('weighs the scores of ranks against their cost', () => {
    const worth = { small: [5, 1, 0], wide: [9, 2, 0, 0], tall: [8, 8, 0, 0] }; // a rank costs 11, 28 and 20
    expect(selectRanks(layers, worth, 40)).toEqual({ small: [], wide: [], tall: [0, 1] });
    expect(selectRanks(layers, worth, 31)).toEqual({ small: [0], wide: [], tall: [0] });
  });
});
