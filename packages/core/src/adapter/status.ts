import type { SiteKind } from '../contracts/site.js';
import { baseParameters, countParameters } from './accounting.js';
import { tensorKey, type Adapter, type PeftModel } from './peft-model.js';

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
  return peft.model.sites.flatMap(({ path, kind }) => {
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
