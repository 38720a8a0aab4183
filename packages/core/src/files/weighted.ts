import { assertFreeName, insertAdapter } from '../adapter/adapters.js';
import { combined, type CombinationOptions, type CombinationType } from '../adapter/combine.js';
import { adapterNamed, allLayers, valuesOf, type Adapter, type PeftModel } from '../adapter/peft-model.js';
import { ConfigError, UnsupportedError } from '../errors.js';
import type { AdapterLayer, LoraFactors } from '../contracts/method.js';
import { loraAdapter, type ModuleFactors } from './lora-adapter.js';

/** Which adapters are combined, and how. */
export interface WeightedAdapterOptions extends Partial<Pick<CombinationOptions, 'majoritySignMethod'>> {
  /** Names of the adapters. */
  readonly adapters: readonly string[];
  /** A weight for each, negative ones among them. */
  readonly weights: readonly number[];
  /** Name of the new one. */
  readonly adapterName: string;
  /** Default 'svd', as in PEFT. */
  readonly combinationType?: CombinationType;
  /** Ranks of 'svd'. Default: the highest rank among the adapters. */
  readonly svdRank?: number;
  /** Share of the entries that 'ties' keeps, from 0 to 1; it has no default. */
  readonly density?: number;
  /** The adapter whose head and `modulesToSave` the new one gets. Needed where they differ; they are not combined. */
  readonly modulesFrom?: string;
}

/**
 * Changes `peft` in place: a LoRA adapter that combines several stands beside them, PEFT's `add_weighted_adapter`. Modules that only
 * some of them adapt are combined of those. It does not act until `setAdapter` says so.
 * @throws ConfigError when a name is unknown or taken, an option is missing or impossible, or heads differ.
 * @throws UnsupportedError when an adapter is more than a low-rank change of weights.
 * @throws ShapeError when 'linear' or 'ties' meets adapters of different ranks.
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
  const modules = peft.model.sites.flatMap((site): ModuleFactors[] => {
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

/** The factors of every module of an adapter. @throws UnsupportedError when it is more than that. */
function factorsOf({ name, layers, values }: Adapter): Map<string, LoraFactors> {
  return new Map(
    Object.entries(layers).map(([path, layer]) => {
      if (layer.toLora && !layer.mergedBias) return [path, layer.toLora(valuesOf(layer, values))];
      throw new UnsupportedError(
        `the adapter '${name}' is more than a low-rank change of '${path}'; convertToLora makes one of it`,
        path,
      );
    }),
  );
}

/** One of the adapters, whose modules trained whole are those of all. @throws ConfigError when they differ. */
function sharedModules(adapters: readonly Adapter[]): Adapter {
  const [first, ...others] = adapters as [Adapter, ...Adapter[]];
  for (const other of others) {
    const differing = Object.values(allLayers({ layers: {}, saved: { ...first.saved, ...other.saved } })).find(
      (layer) => !sameValues(layer, first, other),
    );
    if (!differing) continue;
    throw new ConfigError(
      `'${differing.site.path}' is trained whole by '${first.name}' and '${other.name}' and cannot be combined: say whose to take by modulesFrom`,
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
