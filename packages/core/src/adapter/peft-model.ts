import { ConfigError } from '../errors.js';
import type { AdapterContents, AdapterLayer, AdapterLayers, PeftMethod } from '../contracts/method.js';
import type { Model } from '../contracts/model.js';
import type { TargetConfig, TargetReport } from './targets.js';
import type { HostTensors } from '../tensors.js';

/** What stands for the model without any adapter where adapters are named; none may be called so. */
export const BASE = '__base__';

/** A model with adapters on it. The model stays as it is: everything that training changes is in the adapters. */
export interface PeftModel<C extends TargetConfig = TargetConfig> {
  readonly model: Model;
  /** The seed of the first adapter, its head and its dropout. */
  readonly seed: number;
  /** Every adapter by name, in the order in which they were added. */
  readonly adapters: Map<string, Adapter>;
  /** Names of the adapters that act, in order. Change it through `setAdapter`. */
  active: readonly string[];
  /** False while `disableAdapters` holds: the model is then the frozen one. */
  enabled: boolean;
  /** Names of the adapters whose change is folded into the weights. Change it through `mergeAdapter`. */
  merged: readonly string[];
  /** What stands in the place of the model's own weights while adapters are merged, by the weights' names. */
  mergedWeights: HostTensors;
  /** The first active adapter: the one that is trained and saved. */
  adapter: Adapter<C>;
}

/** A method's layers on a model, with their values, and the modules that are trained whole beside them. */
export interface Adapter<C extends TargetConfig = TargetConfig> extends AdapterContents<C> {
  readonly name: string;
  readonly method: PeftMethod<C>;
  /** The head and `modulesToSave`: trained and saved with the adapter, left out of its budget. */
  readonly saved: AdapterLayers;
  /** Which modules the configuration matched, and which of its names matched none. */
  readonly targets: TargetReport;
  /** Names of the classes that its head tells apart, in the order of the outputs; those of the model it was put on, or its file's. */
  readonly labels?: readonly string[];
}

/** A model with one adapter on it, active. */
export function peftModel<C extends TargetConfig>(model: Model, seed: number, adapter: Adapter<C>): PeftModel<C> {
  const adapters = new Map<string, Adapter>([[adapter.name, adapter]]);
  return {
    model,
    seed,
    adapters,
    active: [adapter.name],
    enabled: true,
    merged: [],
    mergedWeights: {},
    get adapter() {
      return firstActive(this) as Adapter<C>;
    },
    set adapter(next) {
      adapters.set(this.active[0] ?? next.name, next);
    },
  };
}

/** The same model with these parts in the place of the active adapter's; the one given stays as it is. */
export function withAdapter<C extends TargetConfig>(peft: PeftModel<C>, parts: Partial<Adapter<C>>): PeftModel<C> {
  return peftModel(peft.model, peft.seed, { ...peft.adapter, ...parts });
}

/** The first active adapter: the one that is trained and saved. @throws ConfigError when none is active. */
export function activeAdapter<C extends TargetConfig>(peft: PeftModel<C>): Adapter<C> {
  return firstActive(peft) as Adapter<C>;
}

/** Changes `peft` in place: these parts take the place of the active adapter's. @throws ConfigError when none is active. */
export function replaceAdapter<C extends TargetConfig>(peft: PeftModel<C>, parts: Partial<Adapter<C>>): void {
  const adapter = activeAdapter(peft);
  peft.adapters.set(adapter.name, { ...adapter, ...parts } as unknown as Adapter);
}

/** An adapter by name. @throws ConfigError when there is none. */
export function adapterNamed({ adapters }: Pick<PeftModel, 'adapters'>, name: string): Adapter {
  const found = adapters.get(name);
  if (found) return found;
  throw new ConfigError(`there is no adapter '${name}'; the model has ${namesOf(adapters)}`, 'adapterName');
}

/** The first active adapter. @throws ConfigError when none is active. */
export function firstActive({ adapters, active }: Pick<PeftModel, 'adapters' | 'active'>): Adapter {
  const [name] = active;
  if (name !== undefined) return adapterNamed({ adapters }, name);
  throw new ConfigError(`no adapter is active; the model has ${namesOf(adapters)}: call setAdapter`, 'active');
}

function namesOf(adapters: PeftModel['adapters']): string {
  return [...adapters.keys()].join(', ') || 'none';
}

/** The layers that an adapter has when its values are these. */
export function layersFitting(adapter: Adapter, values: HostTensors): AdapterLayers {
  return adapter.method.resumedLayers?.({ ...adapter, values }) ?? adapter.layers;
}

/** Every layer of an adapter, the saved modules included, by module path. */
export function allLayers(adapter: Pick<Adapter, 'layers' | 'saved'>): AdapterLayers {
  return { ...adapter.layers, ...adapter.saved };
}

/** The tensors that belong to one layer, by the layer's own names. */
export function valuesOf<T>(layer: AdapterLayer, values: Readonly<Record<string, T>>): Record<string, T> {
  const own: Record<string, T> = {};
  for (const name of tensorNames(layer)) {
    const value = values[tensorKey(layer, name)];
    if (value !== undefined) own[name] = value;
  }
  return own;
}

/** The names of a layer's trained and untrained tensors. */
export function tensorNames(layer: AdapterLayer): string[] {
  return [...Object.keys(layer.params), ...Object.keys(layer.state ?? {})];
}

/** What a layer's tensor is called in the adapter: `<path>.<name>`, or what it is shared as. */
export function tensorKey({ site, state }: AdapterLayer, name: string): string {
  return state?.[name]?.shared ?? `${site.path}.${name}`;
}

/** The values that layers start from, by `tensorKey`. */
export function initialValues(layers: AdapterLayers): HostTensors {
  const values: HostTensors = {};
  for (const layer of Object.values(layers)) {
    for (const [name, spec] of Object.entries({ ...layer.params, ...layer.state })) {
      values[tensorKey(layer, name)] = spec.initial;
    }
  }
  return values;
}
