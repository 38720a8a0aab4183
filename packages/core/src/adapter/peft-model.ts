import { assertArgument, describe } from '../config.js';
import { ConfigError } from '../errors.js';
import type { AdapterLayer, AdapterLayers, ParamSpec, StateSpec } from '../contracts/layer.js';
import type { AdapterContents, PeftMethod, TargetConfig } from '../contracts/method.js';
import type { Model } from '../contracts/model.js';
import type { OutputMeaning } from '../head.js';
import * as v from 'valibot';
import { aModel, objectLike } from '../kinds.js';
import type { TargetReport } from './targets.js';
import type { HostTensors } from '../tensors.js';

/** Names the model without any adapter, in lists of adapter names. No adapter may have this name. */
export const BASE = '__base__';

/**
 * A model with adapters, as plain data. The model itself never changes: everything that training changes is in the
 * adapters. An independent copy is `{ ...peft, adapters: new Map(peft.adapters) }`.
 */
export interface PeftModel<C extends TargetConfig = TargetConfig> {
  /** The frozen network. */
  readonly model: Model;
  /** The seed of the first adapter, of its head and of its dropout. */
  readonly seed: number;
  /** Every adapter by name, in the order in which they were added. */
  readonly adapters: Map<string, Adapter<C>>;
  /** Names of the active adapters, in order; the first one is trained. Change it through `setAdapter`. */
  active: readonly string[];
  /** Whether adapters act. False while `disableAdapter` runs: the model is then the frozen one. */
  enabled: boolean;
  /** Names of the adapters that are merged into the weights. Change it through `mergeAdapter`. */
  merged: readonly string[];
  /** Weights that replace the model's own while adapters are merged, by name. */
  mergedWeights: HostTensors;
}

/** A schema for models with adapters. */
export const aPeftModel = objectLike<PeftModel>('a model with adapters, as attach returns', { adapters: 'map' });

/** A schema for models with or without adapters. */
export const anyModel = objectLike<Model | PeftModel>(
  'a model of fromPretrained, or one with adapters, as attach returns',
  {},
  (value) => v.is(aPeftModel, value) || v.is(aModel, value),
);

/**
 * An adapter on a model: a method's layers with their values, and the modules that are trained in full. The meaning of
 * its outputs comes from the model it was attached to, or from its file.
 */
export interface Adapter<C extends TargetConfig = TargetConfig> extends AdapterContents<C>, OutputMeaning {
  /** The adapter's name, unique in its model. */
  readonly name: string;
  /** The method that made its layers. */
  readonly method: PeftMethod<C>;
  /**
   * The layers of the head, `modulesToSave` and trained tokens: trained and saved with the adapter, excluded from its
   * budget.
   */
  readonly saved: AdapterLayers;
  /** The modules that the configuration matched, and its names that matched none. */
  readonly targets: TargetReport;
}

/** Returns a new model with one adapter on it, active. */
export function peftModel<C extends TargetConfig>(model: Model, seed: number, adapter: Adapter<C>): PeftModel<C> {
  const adapters = new Map([[adapter.name, adapter]]);
  return { model, seed, adapters, active: [adapter.name], enabled: true, merged: [], mergedWeights: {} };
}

/**
 * Returns a new model that has only the active adapter, with these parts replaced. `peft` is not changed.
 * @throws ConfigError when none is active.
 */
export function withAdapter<C extends TargetConfig>(peft: PeftModel<C>, parts: Partial<Adapter<C>>): PeftModel<C> {
  const adapter = { ...activeAdapter(peft), ...parts };
  return peftModel(peft.model, peft.seed, adapter);
}

/** Returns the first active adapter: the one that is trained. @throws ConfigError when none is active. */
export function activeAdapter<C extends TargetConfig>(peft: Pick<PeftModel<C>, 'adapters' | 'active'>): Adapter<C> {
  assertArgument('peft', peft, aPeftModel);
  const [name] = peft.active;
  if (name !== undefined) return adapterNamed(peft, name);
  throw new ConfigError(`no adapter is active; the model has ${namesOf(peft.adapters)}: call setAdapter`, 'active');
}

/**
 * Replaces parts of an adapter of `peft`, the first active one by default, in place. The adapter keeps its name, but not
 * its temperature, which was fitted to its outputs.
 * @throws ConfigError when there is none.
 */
export function replaceAdapter<C extends TargetConfig>(
  peft: PeftModel<C>,
  parts: Partial<Omit<Adapter<C>, 'name'>>,
  adapterName?: string,
): void {
  const { temperature: _, ...adapter } = adapterNamed(peft, adapterName);
  peft.adapters.set(adapter.name, { ...adapter, ...parts, name: adapter.name });
}

/** Returns an adapter by name, by default the first active one. @throws ConfigError when there is none. */
export function adapterNamed<C extends TargetConfig>(
  peft: Pick<PeftModel<C>, 'adapters' | 'active'>,
  name?: string,
): Adapter<C> {
  if (name === undefined) return activeAdapter(peft);
  assertArgument('peft', peft, aPeftModel);
  const { adapters } = peft;
  const found = adapters.get(name);
  if (found) return found;
  throw new ConfigError(`there is no adapter ${describe(name)}; the model has ${namesOf(adapters)}`, 'adapterName');
}

function namesOf(adapters: PeftModel['adapters']): string {
  return [...adapters.keys()].join(', ') || 'none';
}

/** Returns the adapter's layers, resized where needed to fit these values. */
export function fitLayers(adapter: Adapter, values: HostTensors): AdapterLayers {
  return adapter.method.resumedLayers?.({ ...adapter, values }) ?? adapter.layers;
}

/** Returns every layer of an adapter, saved modules included, by module path. */
export function allLayers(adapter: Pick<Adapter, 'layers' | 'saved'>): AdapterLayers {
  return { ...adapter.layers, ...adapter.saved };
}

/** Returns the tensors of one layer, by their names within the layer. */
export function valuesOf<T>(layer: AdapterLayer, values: Readonly<Record<string, T>>): Record<string, T> {
  const own: Record<string, T> = {};
  for (const name of tensorNames(layer)) {
    const value = values[tensorKey(layer, name)];
    if (value !== undefined) own[name] = value;
  }
  return own;
}

/** Returns the names of a layer's tensors: its parameters and its state. */
export function tensorNames(layer: AdapterLayer): string[] {
  return [...Object.keys(layer.params), ...Object.keys(layer.state ?? {})];
}

/** Returns the name of a layer's tensor within the adapter: `<path>.<name>`, or its shared name. */
export function tensorKey({ site, state }: AdapterLayer, name: string): string {
  return state?.[name]?.shared ?? `${site.path}.${name}`;
}

/** A tensor of a layer. */
export interface LayerTensor {
  /** Its name within the adapter: see `tensorKey`. */
  readonly key: string;
  /** Its name within the layer. */
  readonly name: string;
  /** The layer. */
  readonly layer: AdapterLayer;
  /** What it is: a parameter, or state. */
  readonly spec: ParamSpec | StateSpec;
}

/** Returns the tensors of these layers, each layer's parameters before its state. */
export function tensorsOf(layers: AdapterLayers): LayerTensor[] {
  return Object.values(layers).flatMap((layer) =>
    Object.entries({ ...layer.params, ...layer.state }).map(([name, spec]) => {
      return { key: tensorKey(layer, name), name, layer, spec };
    }),
  );
}

/** Returns the initial values of all tensors of these layers, by `tensorKey`. */
export function initialValues(layers: AdapterLayers): HostTensors {
  return Object.fromEntries(tensorsOf(layers).map(({ key, spec }) => [key, spec.initial]));
}

/** Picks the values of these layers' tensors from those of an adapter. */
export function valuesIn(layers: AdapterLayers, values: HostTensors): HostTensors {
  const keys = new Set(tensorsOf(layers).map(({ key }) => key));
  return Object.fromEntries(Object.entries(values).filter(([key]) => keys.has(key)));
}
