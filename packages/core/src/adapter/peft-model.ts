import type { AdapterContents, AdapterLayer, AdapterLayers, PeftMethod } from '../contracts/method.js';
import type { Model } from '../contracts/model.js';
import type { TargetConfig, TargetReport } from './targets.js';
import type { HostTensors } from '../tensors.js';

/** A model with an adapter on it. The model stays as it is: everything that training changes is in `adapter`. */
export interface PeftModel<C extends TargetConfig = TargetConfig> {
  readonly model: Model;
  adapter: Adapter<C>;
  /** Which modules the configuration matched, and which of its names matched none. */
  readonly targets: TargetReport;
  /** The seed that the adapter's and the head's initial values came from. */
  readonly seed: number;
}

/** A method's layers on a model, with their values, and the modules that are trained whole beside them. */
export interface Adapter<C extends TargetConfig = TargetConfig> extends AdapterContents<C> {
  readonly name: string;
  readonly method: PeftMethod<C>;
  /** The head and `modulesToSave`: trained and saved with the adapter, left out of its budget. */
  readonly saved: AdapterLayers;
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

/** `<path>.<name>`: what a layer's tensor is called in the adapter. */
export function tensorKey(layer: AdapterLayer, name: string): string {
  return `${layer.site.path}.${name}`;
}

/** The values that layers start from, by `<path>.<name>`. */
export function initialValues(layers: AdapterLayers): HostTensors {
  const values: HostTensors = {};
  for (const layer of Object.values(layers)) {
    for (const [name, spec] of Object.entries({ ...layer.params, ...layer.state })) {
      values[tensorKey(layer, name)] = spec.initial;
    }
  }
  return values;
}
