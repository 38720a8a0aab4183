import { assertFreeName, insertAdapter } from '../adapter/adapters.js';
import { adapterNamed, allLayers, valuesOf, type Adapter, type PeftModel } from '../adapter/peft-model.js';
import { ConfigError, ShapeError, UnsupportedError } from '../errors.js';
import { allSites } from '../contracts/model.js';
import type { AdapterLayer, LoraFactors } from '../contracts/layer.js';
import { loraAdapter, type ModuleFactors } from './convert.js';
import { floats, hostTensor, type HostTensor } from '../tensors.js';
import { joinFactors, loraDelta, nearestFactors, scaled } from '../adapter/factors.js';

/** Options of `addWeightedAdapter`. */
export interface WeightedAdapterOptions extends Partial<Pick<CombinationOptions, 'majoritySignMethod'>> {
  /** Names of the adapters to combine. */
  readonly adapters: readonly string[];
  /** A weight for each of them; may be negative. */
  readonly weights: readonly number[];
  /** The name of the new adapter. */
  readonly adapterName: string;
  /** How to combine them. Default 'svd', as in PEFT. */
  readonly combinationType?: CombinationType;
  /** The rank that 'svd' keeps. Default: the highest rank among the adapters. */
  readonly svdRank?: number;
  /** The share of the entries that 'ties' keeps, from 0 to 1; required for 'ties'. */
  readonly density?: number;
  /**
   * The adapter whose head and `modulesToSave` the new one gets. Required where they differ, because they are not
   * combined.
   */
  readonly modulesFrom?: string;
}

/**
 * Adds a LoRA adapter that combines several others to `peft`, in place: PEFT's `add_weighted_adapter`. A module that
 * only some of them adapt is combined from those. It stays inactive until `setAdapter` activates it.
 * @throws ConfigError when a name is unknown or in use, an option is missing or impossible, or heads differ.
 * @throws UnsupportedError when an adapter is more than a low-rank change of weights.
 * @throws ShapeError when 'linear' or 'ties' gets adapters of different ranks.
 */
export function addWeightedAdapter(peft: PeftModel, options: WeightedAdapterOptions): void {
  const { adapterName: name, combinationType = 'svd' } = options;
  assertFreeName(peft, name);
  const adapters = options.adapters.map((each) => adapterNamed(peft, each));
  assertWeights(options);
  const [first] = adapters as [Adapter, ...Adapter[]];
  const savedFrom =
    options.modulesFrom === undefined ? sharedModules(adapters) : adapterNamed(peft, options.modulesFrom);
  const factors = adapters.map((adapter) => factorsOf(adapter));
  const combination = combinationOptions(options, factors);
  const modules = allSites(peft.model).flatMap((site): ModuleFactors[] => {
    const parts = factors.flatMap((own, index) => {
      const each = own.get(site.path);
      return each ? [{ factors: each, weight: options.weights[index] as number }] : [];
    });
    return parts.length === 0 ? [] : [{ site, factors: combined(combinationType, parts, combination) }];
  });
  insertAdapter(peft, loraAdapter(peft.model, peft.seed, modules, { name, method: first.method, savedFrom }));
}

function assertWeights({ adapters, weights, combinationType, density }: WeightedAdapterOptions): void {
  if (adapters.length === 0) throw new ConfigError('adapters names none: give at least one', 'adapters');
  if (weights.length !== adapters.length || !weights.every(Number.isFinite)) {
    throw new ConfigError(
      `weights are [${weights.join(', ')}]; expected a number for each of the ${adapters.length} adapters`,
      'weights',
    );
  }
  if (combinationType === 'ties' && !(density !== undefined && density >= 0 && density <= 1)) {
    throw new ConfigError(`density is ${density ?? 'missing'}; 'ties' needs a share from 0 to 1`, 'density');
  }
}

function combinationOptions(
  { svdRank, density = 1, majoritySignMethod = 'total' }: WeightedAdapterOptions,
  factors: readonly ReadonlyMap<string, LoraFactors>[],
): CombinationOptions {
  const ranks = factors.flatMap((own) => [...own.values()].map(({ loraA }) => loraA.shape[1] as number));
  return { rank: svdRank ?? Math.max(1, ...ranks), density, majoritySignMethod };
}

/** Returns the factors of every module of an adapter. @throws UnsupportedError when it is more than that. */
function factorsOf({ name, layers, values }: Adapter): Map<string, LoraFactors> {
  return new Map(
    Object.entries(layers).map(([path, layer]) => {
      if (layer.toLora && !layer.mergedBias) return [path, layer.toLora(valuesOf(layer, values))];
      throw new UnsupportedError(
        `the adapter '${name}' is more than a low-rank change of '${path}'; use convertToLora first`,
        path,
      );
    }),
  );
}

/** Returns the first adapter if all have equal modules trained in full. @throws ConfigError when they differ. */
function sharedModules(adapters: readonly Adapter[]): Adapter {
  const [first, ...others] = adapters as [Adapter, ...Adapter[]];
  for (const other of others) {
    const differing = Object.values(allLayers({ layers: {}, saved: { ...first.saved, ...other.saved } })).find(
      (layer) => !sameValues(layer, first, other),
    );
    if (!differing) continue;
    throw new ConfigError(
      `'${differing.site.path}' is trained in full by '${first.name}' and '${other.name}' and cannot be combined: choose one with modulesFrom`,
      'modulesFrom',
    );
  }
  return first;
}

function sameValues(layer: AdapterLayer, a: Adapter, b: Adapter): boolean {
  const [mine, theirs] = [valuesOf(layer, a.values), valuesOf(layer, b.values)];
  return Object.keys({ ...mine, ...theirs }).every((name) => {
    const [data, other] = [mine[name]?.data, theirs[name]?.data];
    return data?.length === other?.length && !!data?.every((value, index) => value === other?.[index]);
  });
}

/*
 * Several changes of one weight, s_i A_i B_i with weights w_i, combined into one change A B:
 *
 *   cat      A = [w_1 s_1 A_1, w_2 s_2 A_2, ..], B = [B_1; B_2; ..]           exact, of rank r_1 + r_2 + ..
 *   svd      the best approximation of sum w_i s_i A_i B_i of a given rank    Eckart and Young, 1936
 *   linear   A = sum a_i A_i, B = sum b_i B_i                                 |a_i| = b_i = sqrt|w_i s_i|; a_i has the
 *                                                                             sign of w_i
 *   ties     the same after TIES (Yadav et al., 2023, arXiv 2306.01708) on the A's and on the B's: the `density`
 *            largest entries of each stay; the sign of their sum is elected; entries of that sign are weighted and
 *            averaged
 *
 * The results of `linear` and `ties` also contain products A_i B_j of different adapters: neither is the weighted sum
 * of the changes.
 */

/** How changes are combined. */
export type CombinationType = 'linear' | 'cat' | 'ties' | 'svd';

/** A change of a weight, with its weight in the combination. */
export interface WeightedFactors {
  /** The low-rank factors of the change. */
  readonly factors: LoraFactors;
  /** The weight; may be negative. */
  readonly weight: number;
}

/** Options of single combination types. */
export interface CombinationOptions {
  /** The rank that `svd` keeps. */
  readonly rank: number;
  /** The share of the entries that `ties` keeps, 0 to 1. */
  readonly density: number;
  /**
   * Whether `ties` elects a sign by the sum of the entries ('total') or by their number ('frequency'). Default 'total'.
   */
  readonly majoritySignMethod: 'total' | 'frequency';
}

/** Combines several changes of one weight. @throws ShapeError when `linear` or `ties` gets different ranks. */
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

/** Returns the tensor with all but its largest entries set to zero; of equal entries the first ones stay. */
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
