import { ConfigError } from '../errors.js';
import type { AdapterContents, AdapterLayer, AdapterLayers, PeftMethod, TargetConfig } from '../contracts/method.js';
import type { Model } from '../contracts/model.js';
import type { OutputMeaning } from '../head.js';
import type { TargetReport } from './targets.js';
import type { HostTensors } from '../tensors.js';

/** What stands for the model without any adapter where adapters are named; none may be called so. */
export const BASE = '__base__';

/**
 * A model with adapters on it: plain data, so that a copy by `{ ...peft }` is one. The model stays as it is: everything that training
 * changes is in the adapters.
 */
export interface PeftModel<C extends TargetConfig = TargetConfig> {
  readonly model: Model;
  /** The seed of the first adapter, its head and its dropout. */
  readonly seed: number;
  /** Every adapter by name, in the order in which they were added. */
  readonly adapters: Map<string, Adapter<C>>;
  /** Names of the adapters that act, in order; the first of them is trained. Change it through `setAdapter`. */
  active: readonly string[];
  /** False while `disableAdapter` runs: the model is then the frozen one. */
  enabled: boolean;
  /** Names of the adapters whose change is folded into the weights. Change it through `mergeAdapter`. */
  merged: readonly string[];
  /** What stands in the place of the model's own weights while adapters are merged, by the weights' names. */
  mergedWeights: HostTensors;
}

/**
 * A method's layers on a model, with their values, and the modules that are trained whole beside them. What its outputs mean is what
 * the model it was put on says, or its file.
 */
export interface Adapter<C extends TargetConfig = TargetConfig> extends AdapterContents<C>, OutputMeaning {
  readonly name: string;
  readonly method: PeftMethod<C>;
  /** The head and `modulesToSave`: trained and saved with the adapter, left out of its budget. */
  readonly saved: AdapterLayers;
  /** Which modules the configuration matched, and which of its names matched none. */
  readonly targets: TargetReport;
}

/** Returns a new model with one adapter on it, active. */
export function peftModel<C extends TargetConfig>(model: Model, seed: number, adapter: Adapter<C>): PeftModel<C> {
  const adapters = new Map([[adapter.name, adapter]]);
  return { model, seed, adapters, active: [adapter.name], enabled: true, merged: [], mergedWeights: {} };
}

/**
 * Returns a new model that has the active adapter alone, with these parts in the place of its own; `peft` stays as it is.
 * @throws ConfigError when none is active.
 */
export function withAdapter<C extends TargetConfig>(peft: PeftModel<C>, parts: Partial<Adapter<C>>): PeftModel<C> {
  return peftModel(peft.model, peft.seed, { ...activeAdapter(peft), ...parts });
}

/** Returns the first active adapter: the one that is trained. @throws ConfigError when none is active. */
export function activeAdapter<C extends TargetConfig>(peft: Pick<PeftModel<C>, 'adapters' | 'active'>): Adapter<C> {
  const [name] = peft.active;
  if (name !== undefined) return adapterNamed(peft, name);
  throw new ConfigError(`no adapter is active; the model has ${namesOf(peft.adapters)}: call setAdapter`, 'active');
}

/**
 * Changes `peft` in place: its first active adapter has these parts from now on. The name stays.
 * @throws ConfigError when none is active.
 */
export function replaceAdapter<C extends TargetConfig>(
  peft: PeftModel<C>,
  parts: Partial<Omit<Adapter<C>, 'name'>>,
): void {
  const { name, ...own } = activeAdapter(peft);
  peft.adapters.set(name, { ...own, ...parts, name });
}

/** Returns an adapter by name. @throws ConfigError when there is none. */
export function adapterNamed<C extends TargetConfig>(
  { adapters }: Pick<PeftModel<C>, 'adapters'>,
  name: string,
): Adapter<C> {
  const found = adapters.get(name);
  if (found) return found;
  throw new ConfigError(`there is no adapter '${name}'; the model has ${namesOf(adapters)}`, 'adapterName');
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
