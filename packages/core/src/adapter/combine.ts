import { ShapeError } from '../errors.js';
import type { LoraFactors } from '../contracts/method.js';
import { floats, hostTensor, type HostTensor } from '../tensors.js';
import { joinFactors, loraDelta, scaled } from './factors.js';
import { nearestFactors } from './low-rank.js';

/*
 * Several changes of one weight, s_i A_i B_i with weights w_i, as one change A B:
 *
 *   cat      A = [w_1 s_1 A_1, w_2 s_2 A_2, ..], B = [B_1; B_2; ..]           exact, of rank r_1 + r_2 + ..
 *   svd      the best approximation of sum w_i s_i A_i B_i by so many ranks    Eckart and Young, 1936
 *   linear   A = sum a_i A_i, B = sum b_i B_i                                  |a_i| = b_i = sqrt|w_i s_i|, a_i has w_i's sign
 *   ties     the same after TIES (Yadav et al., 2023, arXiv 2306.01708) on the A's and on the B's: of each the `density`
 *            largest entries stay; the sign of their sum is elected; entries of that sign are weighed and averaged
 *
 * The products A_i B_j of different adapters are in what `linear` and `ties` give: neither is the weighted sum of the changes.
 */

/** How changes are combined. */
export type CombinationType = 'linear' | 'cat' | 'ties' | 'svd';

/** A change of a weight and how much it counts. */
export interface WeightedFactors {
  readonly factors: LoraFactors;
  /** May be negative. */
  readonly weight: number;
}

/** Options of single combination types. */
export interface CombinationOptions {
  /** Ranks of `svd`. */
  readonly rank: number;
  /** Share of the entries that `ties` keeps, 0 to 1. */
  readonly density: number;
  /** Whether `ties` elects a sign by the sum of the entries or by their number. */
  readonly majoritySignMethod: 'total' | 'frequency';
}

/** One change from several of the same weight. @throws ShapeError when `linear` or `ties` is given different ranks. */
export function combined(
  type: CombinationType,
  parts: readonly WeightedFactors[],
  options: CombinationOptions,
): LoraFactors {
  switch (type) {
    case 'cat':
      return sideBySide(parts);
    case 'svd': {
      const { loraA, loraB } = sideBySide(parts);
      const sum = loraDelta({ loraA, loraB, scaling: 1 });
      return nearestFactors(hostTensor(sum, [loraA.shape[0] as number, loraB.shape[1] as number]), options);
    }
    case 'linear':
      return ofEachFactor(parts, (tensors, weights) => weightedSum(tensors, weights));
    case 'ties':
      return ofEachFactor(parts, (tensors, weights) => tiesMerged(tensors, weights, options));
  }
}

function sideBySide(parts: readonly WeightedFactors[]): LoraFactors {
  const weighed = parts.map(({ factors, weight }) => ({
    loraA: scaled(factors.loraA, weight * factors.scaling),
    loraB: factors.loraB,
    scaling: 1,
  }));
  return weighed.reduce(joinFactors);
}

function ofEachFactor(
  parts: readonly WeightedFactors[],
  merge: (tensors: readonly HostTensor[], weights: readonly number[]) => HostTensor,
): LoraFactors {
  const sizes = parts.map(({ weight, factors }) => Math.sqrt(Math.abs(weight * factors.scaling)));
  const signed = sizes.map((size, index) => ((parts[index]?.weight ?? 0) < 0 ? -size : size));
  const loraA = merge(
    parts.map(({ factors }) => factors.loraA),
    signed,
  );
  const loraB = merge(
    parts.map(({ factors }) => factors.loraB),
    sizes,
  );
  return { loraA, loraB, scaling: 1 };
}

function weightedSum(tensors: readonly HostTensor[], weights: readonly number[]): HostTensor {
  return elementwise(tensors, (values) =>
    values.reduce((sum, value, index) => sum + (weights[index] as number) * value, 0),
  );
}

function tiesMerged(
  tensors: readonly HostTensor[],
  weights: readonly number[],
  { density, majoritySignMethod }: CombinationOptions,
): HostTensor {
  return elementwise(
    tensors.map((tensor) => largestEntries(tensor, density)),
    (values) => {
      const votes = majoritySignMethod === 'total' ? values : values.map(Math.sign);
      const elected = votes.reduce((sum, vote) => sum + vote, 0) >= 0 ? 1 : -1;
      const agreeing = values.map((value) => Math.sign(value) === elected);
      const weighed = values.reduce(
        (sum, value, index) => sum + (agreeing[index] ? (weights[index] as number) * value : 0),
        0,
      );
      return weighed / Math.max(1, agreeing.filter(Boolean).length);
    },
  );
}

/** The tensor with zeros but for the largest of its entries, the first ones among equals. */
function largestEntries(tensor: HostTensor, density: number): HostTensor {
  const values = floats(tensor);
  const count = Math.floor(density * values.length);
  const order = [...values.keys()].sort(
    (a, b) => Math.abs(values[b] as number) - Math.abs(values[a] as number) || a - b,
  );
  const kept = new Set(order.slice(0, count));
  return hostTensor(
    values.map((value, index) => (kept.has(index) ? value : 0)),
    tensor.shape,
  );
}

function elementwise(tensors: readonly HostTensor[], merge: (values: readonly number[]) => number): HostTensor {
  const [first, ...others] = tensors as readonly [HostTensor, ...HostTensor[]];
  const other = others.find(({ shape }) => shape.join() !== first.shape.join());
  if (other) {
    throw new ShapeError(
      `factors of shapes [${first.shape.join(', ')}] and [${other.shape.join(', ')}] cannot be added: combine by 'cat' or 'svd'`,
      'combinationType',
    );
  }
  const all = tensors.map((tensor) => floats(tensor));
  return hostTensor(
    floats(first).map((_, index) => merge(all.map((values) => values[index] as number))),
    first.shape,
  );
}
