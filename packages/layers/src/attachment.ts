import { activeAdapter, hostTensor, type PeftModel } from '@peftjs/core';
import {
  ConfigError,
  warnOnce,
  type AdapterLayer,
  type AdapterLayers,
  type HostTensor,
  type HostTensors,
  type StepContext,
  type Tensors,
} from '@peftjs/core/method';
import { tensorKey, valuesOf, type Adapter } from '@peftjs/core/model';
import { activeParts, stepContext } from '@peftjs/core/runtime';
import * as tf from '@tensorflow/tfjs';
import type { Tensor, Variable } from '@tensorflow/tfjs';
import { layersOf, type Module, type Placed } from './modules.js';
import type { Frozen } from './product.js';
import {
  kernelLayer,
  replaceMethod,
  tensorOf,
  updateTrainableWeights,
  variableOf,
  weightLists,
} from './tfjs-layers.js';

/** A model with adapters, between `attachLayers` and `detachLayers`. */
export interface Attachment {
  /** The model. */
  readonly model: tf.LayersModel;
  /** Its adapters. */
  readonly peft: PeftModel;
  /** The layers that adapters can act on. */
  readonly modules: readonly Module[];
  /** The context of the current training step; undefined outside of a step. */
  step: StepContext | undefined;
  /** Returns the active adapters as variables of the layers. */
  mounted(): Mounted;
  /** Functions that restore the model. */
  readonly undoing: (() => void)[];
  /** Restores the model. */
  detach(): void;
}

const attachments = new WeakMap<tf.LayersModel, Attachment>();
const adaptedLayers = new WeakSet<tf.layers.Layer>();

/** Returns the adapters on a model. @throws ConfigError when it has none. */
export function attachmentOf(model: tf.LayersModel): Attachment {
  const found = attachments.get(model);
  if (found) return found;
  throw new ConfigError(`'${model.name}' has no adapters: call attachLayers first`, model.name);
}

/** @throws ConfigError when a model, or one that shares its layers, already has adapters. */
export function assertBare({ name }: tf.LayersModel, modules: readonly Module[]): void {
  const adapted = modules.find(({ layer }) => adaptedLayers.has(layer));
  if (!adapted) return;
  throw new ConfigError(
    `'${name}' has adapters already, for example on '${adapted.site.path}': add another one with addAdapter, or call detachLayers`,
    name,
  );
}

/** Applies the adapters of `peft` in the layers of a model and freezes the model's own weights. */
export function attachTo(model: tf.LayersModel, peft: PeftModel, modules: readonly Module[]): Attachment {
  const layers = layersOf(model);
  const frozen = frozenWeights(layers);
  const compile = model.compile.bind(model);
  let mounted = mount(peft, modules);
  const attachment: Attachment = {
    model,
    peft,
    modules,
    step: undefined,
    undoing: [],
    mounted() {
      if (mounted.isCurrent()) return mounted;
      mounted.unmount();
      return (mounted = mount(peft, modules));
    },
    detach() {
      for (const undo of attachment.undoing) undo();
      mounted.unmount();
      frozen.thaw();
      updateTrainableWeights(model);
      attachments.delete(model);
      for (const { layer } of modules) adaptedLayers.delete(layer);
    },
  };
  const normalising = layers.filter(({ layer }) => layer.getClassName() === 'BatchNormalization');
  attachment.undoing.push(
    ...modules.map((module) => replaceMethod(module.layer, 'call', callOf(attachment, module))),
    ...normalising.map(({ layer }) => keepStatistics(layer)),
    replaceMethod(model, 'compile', (args) => {
      compile(args); // a Sequential makes every weight trainable again
      frozen.freeze();
      updateTrainableWeights(model);
    }),
  );
  updateTrainableWeights(model);
  attachments.set(model, attachment);
  for (const { layer } of modules) adaptedLayers.add(layer);
  return attachment;
}

/** Freezes all weights. `thaw` restores the `trainable` of each. */
function frozenWeights(layers: readonly Placed[]): { freeze: () => void; thaw: () => void } {
  const before = layers.flatMap(({ layer }) => layer.weights).map((weight) => [weight, weight.trainable] as const);
  const freeze = (): void => {
    for (const [weight] of before) weight.trainable = false;
  };
  freeze();
  return {
    freeze,
    thaw() {
      for (const [weight, trainable] of before) weight.trainable = trainable;
    },
  };
}

/** Freezes the running statistics of a batch norm: it normalises in training as in inference. */
function keepStatistics(layer: tf.layers.Layer): () => void {
  const call = layer.call.bind(layer);
  return replaceMethod(layer, 'call', (inputs, kwargs) => call(inputs, { ...kwargs, training: false }));
}

/** Returns the `call` of a Dense or Conv2D layer with adapters. */
function callOf(attachment: Attachment, { layer, site, productOf }: Module): tf.layers.Layer['call'] {
  const call = layer.call.bind(layer);
  const internals = kernelLayer(layer);
  const names = { weight: `${site.path}.weight`, bias: `${site.path}.bias` };
  return (inputs, kwargs) => {
    const { layers, variables, replaced } = attachment.mounted();
    const adapterLayer = layers[site.path];
    const isUnchanged = !adapterLayer && !(names.weight in replaced) && !(names.bias in replaced);
    // In training, the layer's own fused product would also compute the gradient of its frozen kernel.
    if (isUnchanged && !attachment.step) return call(inputs, kwargs);
    if (adapterLayer && !attachment.step) warnOfLostRules(attachment, adapterLayer);
    return tf.tidy(() => {
      const frozen: Frozen = {
        weight: replaced[names.weight] ?? tf.reshape(internals.kernel.read(), [site.inFeatures, site.outFeatures]),
        bias: replaced[names.bias] ?? internals.bias?.read(),
      };
      const { run, rows, output } = productOf((Array.isArray(inputs) ? inputs[0] : inputs) as Tensor, frozen);
      const y = adapterLayer?.forward(rows(), read(valuesOf(adapterLayer, variables)), {
        base: () => run({}),
        run,
        weight: () => frozen.weight,
        bias: () => frozen.bias,
        ctx: attachment.step ?? stepContext({}, 0, false),
      });
      return internals.activation.apply(output(y ?? run({})));
    });
  };
}

/**
 * Warns of gradients outside the model's own `fit`: they do not apply the method's rules, or do not train the adapter.
 */
function warnOfLostRules({ model, peft }: Attachment, { loss, update }: AdapterLayer): void {
  if (tf.engine().state.gradientDepth === 0 || !(loss ?? update)) return;
  warnOnce(
    `gradients go through '${model.name}' outside its own fit: the loss terms and rules of ${activeAdapter(peft).method.name} do not apply`,
  );
}

/** Returns the variables as tensors. */
export function read(variables: Mounted['variables']): Record<string, Variable> {
  return Object.fromEntries(Object.entries(variables).map(([key, variable]) => [key, variableOf(variable)]));
}

/*
 * The active adapters as variables of their layers. The adapters in `peft` are replaced as a whole and never changed in
 * place, so their identity shows whether the variables are up to date. While a single adapter is active, its values are
 * read from the variables, which training changes.
 */

/** The active adapters of a model. */
interface Mounted {
  /** The adapter layers by module path. */
  readonly layers: AdapterLayers;
  /** The variables by `tensorKey`. */
  readonly variables: Readonly<Record<string, tf.LayerVariable>>;
  /** The replacements of frozen weights and biases, by their names. */
  readonly replaced: Tensors;
  /** Whether these are still the active adapters. */
  isCurrent(): boolean;
  /** Removes the variables from the layers. */
  unmount(): void;
}

/** Adds the variables of the active adapters to their layers. */
function mount(peft: PeftModel, modules: readonly Module[]): Mounted {
  const { layers, values, model } = activeParts(peft);
  const trained = trainedAdapter(peft);
  const variables: Record<string, tf.LayerVariable> = {};
  const undo = modules.flatMap(({ layer, site: { path } }) => {
    const adapterLayer = layers[path];
    if (!adapterLayer) return [];
    const names = Object.keys({ ...adapterLayer.params, ...adapterLayer.state });
    return names.flatMap((name) => {
      const key = tensorKey(adapterLayer, name);
      if (key in variables) return []; // shared with an earlier module
      const trainable = trained !== undefined && (adapterLayer.params[name]?.trainable ?? false);
      const variable = variableFor(values[key] as HostTensor, `${path}/${name}`, trainable);
      variables[key] = variable;
      return [addTo(layer, variable)];
    });
  });
  const replaced = replacements(peft.model.weights, model.weights, layers);
  const live = trained && liveAdapter(trained, variables);
  if (live) peft.adapters.set(live.adapter.name, live.adapter);
  const before = stampOf(peft);
  return {
    layers,
    variables,
    replaced,
    isCurrent: () => {
      const now = stampOf(peft);
      return now.length === before.length && now.every((part, index) => part === before[index]);
    },
    unmount() {
      live?.settle();
      for (const each of undo) each();
      tf.dispose([Object.values(variables).map((variable) => variable.read()), replaced]);
    },
  };
}

/** Returns the adapter that `fit` would train: the only active one, on unmerged weights. Undefined if there is none. */
export function trainedAdapter({ enabled, active, merged, adapters }: PeftModel): Adapter | undefined {
  const [name, ...others] = active;
  return enabled && name !== undefined && others.length === 0 && merged.length === 0 ? adapters.get(name) : undefined;
}

/** Returns everything that the mounted adapters depend on. */
function stampOf({ enabled, active, merged, adapters }: PeftModel): unknown[] {
  return [enabled, ...merged, ...active.flatMap((name) => [name, adapters.get(name)])];
}

function variableFor(value: HostTensor, name: string, trainable: boolean): tf.LayerVariable {
  const initial = tensorOf(value);
  const variable = new tf.LayerVariable(initial, 'float32', name, trainable);
  initial.dispose();
  return variable;
}

/** Adds a variable to a layer's weights. @returns A function that removes it. */
function addTo(layer: tf.layers.Layer, variable: tf.LayerVariable): () => void {
  const lists = weightLists(layer);
  const list = variable.trainable ? lists._trainableWeights : lists._nonTrainableWeights;
  list.push(variable);
  return () => void list.splice(list.indexOf(variable), 1);
}

/** Returns merged weights and the adapter layers' replacements of frozen weights. The caller disposes of them. */
function replacements(frozen: HostTensors, weights: HostTensors, layers: AdapterLayers): Tensors {
  const changed = Object.entries(weights).filter(([name, weight]) => frozen[name] !== weight);
  const put = Object.entries(layers).flatMap(([path, { frozenWeight }]) =>
    frozenWeight ? [[`${path}.weight`, frozenWeight] as const] : [],
  );
  return Object.fromEntries([...changed, ...put].map(([name, value]) => [name, tf.keep(tensorOf(value))]));
}

/** Returns an adapter whose values are read from its variables on access. */
function liveAdapter(adapter: Adapter, variables: Mounted['variables']): { adapter: Adapter; settle: () => void } {
  let values = adapter.values;
  const read = new Map(Object.entries(variables).map(([key, variable]) => [key, variableOf(variable).dataId]));
  let settled = false;
  const current = (): HostTensors => {
    if (settled) return values;
    const changed = Object.entries(variables).filter(
      ([key, variable]) => read.get(key) !== variableOf(variable).dataId,
    );
    for (const [key, variable] of changed) read.set(key, variableOf(variable).dataId);
    if (changed.length > 0)
      values = { ...values, ...Object.fromEntries(changed.map(([key, at]) => [key, onHost(at)])) };
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

function onHost(variable: tf.LayerVariable): HostTensor {
  return hostTensor(variable.read().dataSync<'float32'>(), variable.shape as number[]);
}
