import {
  actingParts,
  hostTensor,
  tensorKey,
  type Adapter,
  type AdapterLayers,
  type HostTensor,
  type HostTensors,
  type PeftModel,
  type Tensors,
} from '@peftjs/core';
import * as tf from '@tensorflow/tfjs';
import type { Module } from './modules.js';
import { variableOf, weightLists } from './tfjs-layers.js';

/*
 * The adapters that act, as variables of the layers they act on. `peft` says which adapters these are and what they hold; its
 * adapters are replaced as a whole and never changed in place, so that a look at their identity tells whether the variables
 * still stand for them. While one adapter acts, its values are read from the variables, which training moves.
 */

/** What acts on the layers of a model. */
export interface Mounted {
  /** By module path. */
  readonly layers: AdapterLayers;
  /** By `tensorKey`. */
  readonly variables: Readonly<Record<string, tf.LayerVariable>>;
  /** What stands in the place of frozen weights and biases, by their names. */
  readonly instead: Tensors;
  /** Whether they are still what acts. */
  isCurrent(): boolean;
  /** Takes the variables off the layers. */
  unmount(): void;
}

/** Puts what acts on the layers. */
export function mount(peft: PeftModel, modules: readonly Module[]): Mounted {
  const { layers, values, model } = actingParts(peft);
  const trained = trainedAdapter(peft);
  const variables: Record<string, tf.LayerVariable> = {};
  const undo = modules.flatMap(({ layer, site: { path } }) => {
    const acting = layers[path];
    if (!acting) return [];
    const names = Object.keys({ ...acting.params, ...acting.state });
    return names.flatMap((name) => {
      const key = tensorKey(acting, name);
      if (key in variables) return []; // shared with a module before
      const trainable = trained !== undefined && (acting.params[name]?.trainable ?? false);
      const variable = variableFor(values[key] as HostTensor, `${path}/${name}`, trainable);
      variables[key] = variable;
      return [addTo(layer, variable)];
    });
  });
  const instead = standIns(peft.model.weights, model.weights, layers);
  const live = trained && liveAdapter(trained, variables);
  if (live) peft.adapters.set(live.adapter.name, live.adapter);
  const before = stampOf(peft);
  return {
    layers,
    variables,
    instead,
    isCurrent: () => {
      const now = stampOf(peft);
      return now.length === before.length && now.every((part, index) => part === before[index]);
    },
    unmount() {
      live?.settle();
      for (const each of undo) each();
      tf.dispose([Object.values(variables).map((variable) => variable.read()), instead]);
    },
  };
}

/** The adapter that `fit` would train: the only one that acts, on the weights that the model came with. */
export function trainedAdapter({ enabled, active, merged, adapters }: PeftModel): Adapter | undefined {
  const [name, ...others] = active;
  return enabled && name !== undefined && others.length === 0 && merged.length === 0 ? adapters.get(name) : undefined;
}

/** Everything that what acts depends on. */
function stampOf({ enabled, active, merged, adapters }: PeftModel): unknown[] {
  return [enabled, ...merged, ...active.flatMap((name) => [name, adapters.get(name)])];
}

function variableFor({ data, shape }: HostTensor, name: string, trainable: boolean): tf.LayerVariable {
  const initial = tf.tensor(data, [...shape], 'float32');
  const variable = new tf.LayerVariable(initial, 'float32', name, trainable);
  initial.dispose();
  return variable;
}

/** Makes a variable one of a layer's weights. @returns what takes it off again */
function addTo(layer: tf.layers.Layer, variable: tf.LayerVariable): () => void {
  const lists = weightLists(layer);
  const list = variable.trainable ? lists._trainableWeights : lists._nonTrainableWeights;
  list.push(variable);
  return () => void list.splice(list.indexOf(variable), 1);
}

/** Merged weights, and what layers put in the place of frozen ones; the caller disposes of them. */
function standIns(frozen: HostTensors, weights: HostTensors, layers: AdapterLayers): Tensors {
  const changed = Object.entries(weights).filter(([name, weight]) => frozen[name] !== weight);
  const put = Object.entries(layers).flatMap(([path, { frozenWeight }]) =>
    frozenWeight ? [[`${path}.weight`, frozenWeight] as const] : [],
  );
  return Object.fromEntries(
    [...changed, ...put].map(([name, { data, shape }]) => [name, tf.keep(tf.tensor(data, [...shape], 'float32'))]),
  );
}

/** An adapter whose values are those of its variables, read when they are asked for. */
function liveAdapter(adapter: Adapter, variables: Mounted['variables']): { adapter: Adapter; settle: () => void } {
  let values = adapter.values;
  const read = new Map(Object.entries(variables).map(([key, variable]) => [key, variableOf(variable).dataId]));
  let settled = false;
  const current = (): HostTensors => {
    if (settled) return values;
    const moved = Object.entries(variables).filter(([key, variable]) => read.get(key) !== variableOf(variable).dataId);
    for (const [key, variable] of moved) read.set(key, variableOf(variable).dataId);
    if (moved.length > 0) values = { ...values, ...Object.fromEntries(moved.map(([key, at]) => [key, atRest(at)])) };
    return values;
  };
  return {
    adapter: {
      ...adapter,
      get values() {
        return current();
      },
    },
    settle() {
      values = current();
      settled = true;
    },
  };
}

function atRest(variable: tf.LayerVariable): HostTensor {
  return hostTensor(variable.read().dataSync<'float32'>(), variable.shape as number[]);
}
