import { assertFreeName, insertAdapter } from '../adapter/adapters.js';
import { adapterNamed, valuesOf, type Adapter, type PeftModel } from '../adapter/peft-model.js';
import * as v from 'valibot';
import {
  combinationTypes,
  combined,
  leastDensity,
  majoritySignMethods,
  type CombinationOptions,
  type CombinationType,
} from '../adapter/combination.js';
import { describe, integerFrom, parseOptions } from '../config.js';
import { ConfigError, UnsupportedError } from '../errors.js';
import { allSites } from '../contracts/model.js';
import type { AdapterLayer, LoraFactors } from '../contracts/layer.js';
import { anInteger, aNumberList, aText, aTextList } from '../kinds.js';
import { createRng } from '../rng.js';
import { loraAdapter, type ModuleFactors } from './convert.js';
import { LORA, readsLora } from './lora-file.js';

/** Options of `addWeightedAdapter`. */
export interface WeightedAdapterOptions {
  /** Names of the adapters to combine. */
  readonly adapters: readonly string[];
  /** A weight for each of them; may be negative. */
  readonly weights: readonly number[];
  /** The name of the new adapter. */
  readonly adapterName: string;
  /** How to combine them. Default 'svd', as in PEFT. A single adapter is combined by 'linear', whatever the type. */
  readonly combinationType?: CombinationType;
  /** The rank that 'svd' and the types that end in it keep. Default: the highest rank among the adapters. */
  readonly svdRank?: number;
  /**
   * For the same types: the quantile of all entries of A and B, from 0 to 1, to which the entries of both are limited.
   * The quantile depends on the signs of the singular vectors, which are chosen such that the largest entry of each
   * column of A is positive. Default: no limit.
   */
  readonly svdClamp?: number;
  /** The share of the entries that a type with 'ties', 'dare' or 'prune' in its name keeps, 0 to 1; required there. */
  readonly density?: number;
  /**
   * Whether the types with 'ties' in their name elect a sign by the sum of the entries ('total') or by their number
   * ('frequency'). Default 'total'.
   */
  readonly majoritySignMethod?: 'total' | 'frequency';
  /** The seed of the entries that the types with 'dare' in their name keep. Default 0. */
  readonly seed?: number;
  /**
   * The adapter whose head and `modulesToSave` the new one gets. Required where they differ, because they are not
   * combined.
   */
  readonly modulesFrom?: string;
}

const share = v.pipe(v.number(), v.minValue(0), v.maxValue(1));

const entries = {
  adapters: v.pipe(aTextList, v.nonEmpty()),
  weights: aNumberList,
  adapterName: aText,
  combinationType: v.optional(v.picklist(combinationTypes), 'svd'),
  svdRank: v.optional(integerFrom(1)),
  svdClamp: v.optional(share),
  density: v.optional(share),
  majoritySignMethod: v.optional(v.picklist(majoritySignMethods), 'total'),
  seed: v.optional(anInteger, 0),
  modulesFrom: v.optional(aText),
} satisfies Record<keyof WeightedAdapterOptions, unknown>;

/**
 * Adds a LoRA adapter that combines several others to `peft`, in place: PEFT's `add_weighted_adapter`. A module that
 * only some of them adapt is combined from those. It stays inactive until `setAdapter` activates it.
 * @throws ConfigError when a name is unknown or in use, an option is missing or impossible, or heads differ.
 * @throws UnsupportedError when an adapter is more than a low-rank change of weights.
 * @throws ShapeError when a type that combines A and B, such as 'linear' or 'ties', gets adapters of different ranks.
 */
export function addWeightedAdapter(peft: PeftModel, options: WeightedAdapterOptions): void {
  const { adapterName: name, ...parsed } = parseOptions('addWeightedAdapter', entries, options);
  const { weights, modulesFrom } = parsed;
  const adapters = parsed.adapters.map((each) => adapterNamed(peft, each));
  assertFreeName(peft, name);
  if (weights.length !== adapters.length) {
    throw new ConfigError(
      `weights are [${weights.join(', ')}]; expected a number for each of the ${adapters.length} adapters`,
      'weights',
    );
  }
  const type = adapters.length === 1 ? 'linear' : parsed.combinationType;
  const density = densityFor(type, parsed.density);
  const method = methodOf(adapters);
  const savedFrom = modulesFrom === undefined ? sharedModules(adapters) : adapterNamed(peft, modulesFrom);
  const factors = adapters.map((adapter) => factorsOf(adapter));
  const ranks = factors.flatMap((own) => [...own.values()].map(({ loraA }) => loraA.shape[1] as number));
  const { svdRank: rank = Math.max(1, ...ranks), svdClamp: clamp, majoritySignMethod } = parsed;
  const combination: Omit<CombinationOptions, 'rng'> = { rank, clamp, density, majoritySignMethod };
  const rng = createRng(parsed.seed);
  const modules = allSites(peft.model).flatMap((site): ModuleFactors[] => {
    const parts = factors.flatMap((own, index) => {
      const each = own.get(site.path);
      return each ? [{ factors: each, weight: weights[index] as number }] : [];
    });
    if (parts.length === 0) return [];
    assertNotSaved(site.path, savedFrom);
    return [{ site, factors: combined(type, parts, { ...combination, rng: rng.fork(site.path) }) }];
  });
  insertAdapter(peft, loraAdapter(peft.model, peft.seed, modules, { name, method, savedFrom }));
}

/** @throws ConfigError when a module that others change by low rank is trained in full by `savedFrom`. */
function assertNotSaved(path: string, { name, saved }: Adapter): void {
  if (!(path in saved)) return;
  throw new ConfigError(
    `'${path}' is trained in full by '${name}' and cannot be combined with a low-rank change of it by another adapter`,
    'adapters',
  );
}

/**
 * Returns the share of the entries to keep. @throws ConfigError when the type needs one that is missing or impossible.
 */
function densityFor(type: CombinationType, density: number | undefined): number {
  const least = leastDensity(type);
  if (least === undefined || (density !== undefined && density >= least)) return density ?? 1;
  const bounds = `${least > 0 ? 'above' : 'from'} 0 to 1`;
  throw new ConfigError(`density is ${describe(density)}; '${type}' needs a share ${bounds}`, 'density');
}

/** Returns the first method that makes a LoRA of the factors. @throws UnsupportedError when there is none. */
function methodOf(adapters: readonly Adapter[]): Adapter['method'] {
  const found = adapters.find(({ method }) => readsLora(method));
  if (found) return found.method;
  throw new UnsupportedError(
    `none of ${adapters.map(({ name }) => `'${name}'`).join(', ')} can be written as PEFT's ${LORA}, which a sum is: include an adapter that can`,
    'adapters',
  );
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
    const saved = Object.values({ ...first.saved, ...other.saved });
    const differing = saved.find((layer) => !sameValues(layer, first, other));
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
