import { assertArgument } from '../config.js';
import type { AdapterLayer, AdapterLayers } from '../contracts/layer.js';
import type { AdapterContents } from '../contracts/method.js';
import { allSites, type Model } from '../contracts/model.js';
import { sizeOf, type HostTensors } from '../tensors.js';
import { isInHead } from '../head.js';
import { aRecord, namedTensors } from '../kinds.js';
import { aPeftModel, activeAdapter, tensorKey, valuesOf, type Adapter, type PeftModel } from './peft-model.js';
import type { SiteKind } from '../contracts/site.js';
import { rankCost } from '../ranks/budget.js';

/** The number of parameters of a model with an adapter, by kind. */
export interface ParameterCount {
  /** Parameters that the adapter trains, head excluded. */
  readonly trainable: number;
  /** Parameters trained in full: the head and `modulesToSave`. */
  readonly saved: number;
  /** Numbers that the adapter stores on disk, head excluded. Budgets count these. */
  readonly stored: number;
  /** Parameters of the frozen network, head excluded. */
  readonly base: number;
}

/**
 * Returns the current parameter counts of a model and its active adapter. @throws ConfigError when no adapter is
 * active.
 */
export function countParameters(peft: PeftModel): ParameterCount {
  const adapter = activeAdapter(peft);
  return {
    trainable: trainableOf(adapter.layers),
    saved: trainableOf(adapter.saved),
    stored: storedParameters(adapter.layers, adapter.values),
    base: baseParameters(peft.model),
  };
}

/** Returns the number of parameters of a model, head excluded. */
export function baseParameters(model: Model): number {
  const outsideHead = Object.entries(model.weights).filter(([name]) => !isInHead(model, name));
  return sum(outsideHead, ([, { shape }]) => sizeOf(shape));
}

/**
 * Returns PEFT's summary line: trainable parameters (head included), all parameters, and the percentage with four
 * decimals.
 */
export function describeParameters(peft: PeftModel): string {
  const { trainable, saved, base } = countParameters(peft);
  const trained = trainable + saved;
  const all = base + trained;
  return `trainable params: ${thousands(trained)} || all params: ${thousands(all)} || trainable%: ${((100 * trained) / all).toFixed(4)}`;
}

/**
 * Returns how many numbers these layers store on disk, given their values (`<path>.<name>`). PEFT has no adapter without
 * modules, so one that has lost every rank stores one rank of its first module, all zeros.
 */
export function storedParameters(layers: AdapterLayers, values: HostTensors): number {
  const all = Object.values(layers);
  const own = sum(all, (layer) => layer.storedParameters(valuesOf(layer, values)));
  const [first] = all;
  return own === 0 && first ? rankCost(first.site) : own + sharedParameters(all);
}

/** Returns how many numbers the layers' files hold once for all modules. */
function sharedParameters(layers: readonly AdapterLayer[]): number {
  const states = layers.flatMap(({ state = {} }) => Object.values(state)).filter(({ inFile }) => inFile);
  return sum([...new Map(states.map((spec) => [spec.shared, spec])).values()], ({ initial }) => sizeOf(initial.shape));
}

/** Returns the number of ranks alive by module path, for layers that have ranks. */
export function activeRanks(layers: AdapterLayers, values: HostTensors): Record<string, number> {
  assertArgument('layers', layers, aRecord);
  assertArgument('values', values, namedTensors);
  const ranks: Record<string, number> = {};
  for (const [path, layer] of Object.entries(layers)) {
    const rank = layer.rank?.(valuesOf(layer, values));
    if (rank !== undefined) ranks[path] = rank;
  }
  return ranks;
}

/** Returns the bytes of AdamW's state for an adapter, head excluded: two float32 moments per trained parameter. */
export function optimizerStateBytes({ layers }: Pick<AdapterContents, 'layers'>): number {
  return 2 * 4 * trainableOf(layers);
}

function trainableOf(layers: AdapterLayers): number {
  return sum(Object.values(layers), (layer: AdapterLayer) =>
    sum(
      Object.values(layer.params).filter((spec) => spec.trainable),
      (spec) => sizeOf(spec.initial.shape),
    ),
  );
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}

function thousands(count: number): string {
  return count.toLocaleString('en-US');
}

/** The state of the adapters of one module. */
export interface LayerStatus {
  /** The module's path. */
  readonly path: string;
  /** The module's kind, e.g. 'linear'. */
  readonly kind: SiteKind;
  /** Whether adapters are enabled on the model. */
  readonly enabled: boolean;
  /** Names of the adapters that adapt this module. */
  readonly availableAdapters: readonly string[];
  /** Those of them that are active, in order. */
  readonly activeAdapters: readonly string[];
  /** Those of them that are merged into the weight. */
  readonly mergedAdapters: readonly string[];
  /** Names of the trained tensors, by adapter. */
  readonly trained: Readonly<Record<string, readonly string[]>>;
}

/** The state of a model and its adapters. */
export interface ModelStatus {
  /** The base model's name. */
  readonly baseModel: string;
  /** Whether adapters are enabled on the model. */
  readonly enabled: boolean;
  /** Names of all adapters. */
  readonly availableAdapters: readonly string[];
  /** Names of the active adapters, in order. */
  readonly activeAdapters: readonly string[];
  /** Names of the adapters that are merged into the weights. */
  readonly mergedAdapters: readonly string[];
  /** The method's name, by adapter. */
  readonly methods: Readonly<Record<string, string>>;
  /** The number of modules that at least one adapter adapts. */
  readonly adaptedModules: number;
  /** The number of parameters that `train` would train, head included: those of the first active adapter. */
  readonly trainableParameters: number;
  /** The number of parameters of the model without its head, plus those of the first active adapter with its head. */
  readonly totalParameters: number;
}

/**
 * Returns the state of every adapted module, in the order of the model. PEFT's "irregular" does not occur here: active,
 * merged and enabled are set for all modules at once.
 */
export function layerStatus(peft: PeftModel): LayerStatus[] {
  assertArgument('peft', peft, aPeftModel);
  const adapters = [...peft.adapters.values()];
  return allSites(peft.model).flatMap(({ path, kind }) => {
    const own = adapters.filter(({ layers }) => path in layers);
    if (own.length === 0) return [];
    const available = own.map(({ name }) => name);
    const among = (names: readonly string[]): string[] => names.filter((name) => available.includes(name));
    return {
      path,
      kind,
      enabled: peft.enabled,
      availableAdapters: available,
      activeAdapters: among(peft.active),
      mergedAdapters: among(peft.merged),
      trained: Object.fromEntries(own.map((adapter) => [adapter.name, trainedNames(adapter, path)])),
    };
  });
}

/** Returns the state of the model and its adapters as a whole. */
export function modelStatus(peft: PeftModel): ModelStatus {
  assertArgument('peft', peft, aPeftModel);
  const { model, enabled, adapters, active, merged } = peft;
  const { trainable, saved } = active.length > 0 ? countParameters(peft) : { trainable: 0, saved: 0 };
  return {
    baseModel: model.name,
    enabled,
    availableAdapters: [...adapters.keys()],
    activeAdapters: active,
    mergedAdapters: merged,
    methods: Object.fromEntries([...adapters].map(([name, { method }]) => [name, method.name])),
    adaptedModules: layerStatus(peft).length,
    trainableParameters: trainable + saved,
    totalParameters: baseParameters(model) + trainable + saved,
  };
}

function trainedNames({ layers }: Adapter, path: string): string[] {
  const layer = layers[path];
  const trained = Object.entries(layer?.params ?? {}).filter(([, { trainable }]) => trainable);
  return layer ? trained.map(([name]) => tensorKey(layer, name)) : [];
}
