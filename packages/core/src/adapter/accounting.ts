import type { AdapterContents, AdapterLayer, AdapterLayers } from '../contracts/method.js';
import { allSites, type Model } from '../contracts/model.js';
import { sizeOf, type HostTensors } from '../tensors.js';
import { isOfHead } from '../head.js';
import { activeAdapter, tensorKey, valuesOf, type Adapter, type PeftModel } from './peft-model.js';
import type { SiteKind } from '../contracts/site.js';

/** How many parameters a model with an adapter has, by what happens to them. */
export interface ParameterCount {
  /** Trained by the adapter, head left out. */
  readonly trainable: number;
  /** Trained beside it: the head and `modulesToSave`. */
  readonly saved: number;
  /** Scalars that the adapter needs on disk, head left out: what budgets are counted in. */
  readonly stored: number;
  /** The frozen network, head left out. */
  readonly base: number;
}

/** Returns how many parameters a model and its active adapter have now. @throws ConfigError when no adapter is active. */
export function countParameters(peft: PeftModel): ParameterCount {
  const { model } = peft;
  const adapter = activeAdapter(peft);
  return {
    trainable: trainableOf(adapter.layers),
    saved: trainableOf(adapter.saved),
    stored: storedParameters(adapter.layers, adapter.values),
    base: baseParameters(model),
  };
}

/** Returns the parameters of a model, its head left out. */
export function baseParameters(model: Model): number {
  const outsideHead = Object.entries(model.weights).filter(([name]) => !isOfHead(model, name));
  return sum(outsideHead, ([, { shape }]) => sizeOf(shape));
}

/** Returns PEFT's line: trainable (head included), all, and the share in percent with four decimals. */
export function describeParameters(peft: PeftModel): string {
  const { trainable, saved, base } = countParameters(peft);
  const trained = trainable + saved;
  const all = base + trained;
  return `trainable params: ${thousands(trained)} || all params: ${thousands(all)} || trainable%: ${((100 * trained) / all).toFixed(4)}`;
}

/** Returns the scalars on disk of these layers with these values (`<path>.<name>`). */
export function storedParameters(layers: AdapterLayers, values: HostTensors): number {
  return sum(Object.values(layers), (layer) => layer.storedParameters(valuesOf(layer, values)));
}

/** Returns the ranks that are alive, by module path, for the layers that have one. */
export function activeRanks(layers: AdapterLayers, values: HostTensors): Record<string, number> {
  const ranks: Record<string, number> = {};
  for (const [path, layer] of Object.entries(layers)) {
    const rank = layer.rank?.(valuesOf(layer, values));
    if (rank !== undefined) ranks[path] = rank;
  }
  return ranks;
}

/** Returns the bytes of AdamW's state for what an adapter trains: two float32 moments of every scalar, head left out. */
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

/** How the adapters stand at one module. */
export interface LayerStatus {
  readonly path: string;
  readonly kind: SiteKind;
  /** Whether adapters act at all. */
  readonly enabled: boolean;
  /** Names of the adapters that the module has. */
  readonly availableAdapters: readonly string[];
  /** Those of them that act, in order. */
  readonly activeAdapters: readonly string[];
  /** Those of them that are folded into the weight. */
  readonly mergedAdapters: readonly string[];
  /** The names of each one's trained tensors. */
  readonly trained: Readonly<Record<string, readonly string[]>>;
}

/** How a model and its adapters stand. */
export interface ModelStatus {
  readonly baseModel: string;
  readonly enabled: boolean;
  readonly availableAdapters: readonly string[];
  readonly activeAdapters: readonly string[];
  readonly mergedAdapters: readonly string[];
  /** The method of every adapter. */
  readonly methods: Readonly<Record<string, string>>;
  /** Number of modules that any adapter acts on. */
  readonly adaptedModules: number;
  /** Parameters that `train` would train, head included: those of the first active adapter. */
  readonly trainableParameters: number;
  /** Parameters of the model without its head, and those of the first active adapter with its head. */
  readonly totalParameters: number;
}

/**
 * Returns how every adapted module stands, in the order of the model. PEFT's "irregular" cannot come up: what is active, merged or
 * enabled is said once, for all modules.
 */
export function layerStatus(peft: PeftModel): LayerStatus[] {
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

/** Returns how the model and its adapters stand as a whole. */
export function modelStatus(peft: PeftModel): ModelStatus {
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
