import { activeAdapter, hostTensor, type PeftModel } from '@peftjs/core';
import {
  ConfigError,
  mapValues,
  warnOnce,
  type AdapterLayer,
  type AdapterLayers,
  type HostTensor,
  type HostTensors,
  type StepContext,
  type Tensors,
} from '@peftjs/core/method';
import { valuesOf, type Adapter } from '@peftjs/core/model';
import { activeParts, stepContext, trainedTensors } from '@peftjs/core/runtime';
import * as tf from '@tensorflow/tfjs';
import type { Tensor, Variable } from '@tensorflow/tfjs';
import { layersOf, type Module, type Placed } from './modules.js';
import type { Frozen } from './product.js';
import { kernelLayer, tensorOf, updateTrainableWeights, wrapMethod } from './tfjs-layers.js';

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
  /** Returns the active adapters as variables. */
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
  let mounted = mount(peft);
  const attachment: Attachment = {
    model,
    peft,
    modules,
    step: undefined,
    undoing: [],
    mounted() {
      if (mounted.isCurrent()) return mounted;
      mounted.unmount();
      return (mounted = mount(peft));
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
    ...modules.map((module) => wrapMethod(module.layer, 'call', (call) => callOf(attachment, module, call))),
    ...normalising.map(({ layer }) => wrapMethod(layer, 'call', withKeptStatistics)),
    wrapMethod(model, 'compile', (compile) => (args) => {
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
function withKeptStatistics(call: tf.layers.Layer['call']): tf.layers.Layer['call'] {
  return (inputs, kwargs) => call(inputs, { ...kwargs, training: false });
}

/** Returns the `call` of a Dense or Conv2D layer with adapters, from its own. */
function callOf(
  attachment: Attachment,
  { layer, site, productOf }: Module,
  call: tf.layers.Layer['call'],
): tf.layers.Layer['call'] {
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
      const y = adapterLayer?.forward(rows(), valuesOf(adapterLayer, variables), {
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

/*
 * The active adapters as variables. The adapters in `peft` are replaced as a whole and never changed in place, so that
 * `activeParts` shows whether the variables are up to date. While a single adapter is active, its values are read from
 * the variables, which training changes.
 */

/** The active adapters of a model. */
interface Mounted {
  /** The adapter layers by module path. */
  readonly layers: AdapterLayers;
  /** The variables by `tensorKey`. */
  readonly variables: Readonly<Record<string, Variable>>;
  /** The replacements of frozen weights and biases, by their names. */
  readonly replaced: Tensors;
  /** Whether these are still the active adapters. */
  isCurrent(): boolean;
  /** Removes the variables. */
  unmount(): void;
}

function mount(peft: PeftModel): Mounted {
  const { layers, values, model } = activeParts(peft);
  const trained = trainedAdapter(peft);
  const keys = new Set(trained && trainedTensors(layers).map(({ key }) => key));
  const variables = mapValues(values, (value, key) => tf.tidy(() => tf.variable(tensorOf(value), keys.has(key))));
  const replaced = replacements(peft.model.weights, model.weights, layers);
  const live = trained && liveAdapter(trained, variables);
  if (live) peft.adapters.set(live.name, live);
  const mounted = activeParts(peft);
  return {
    layers,
    variables,
    replaced,
    isCurrent: () => activeParts(peft) === mounted,
    unmount() {
      if (live) settle(peft, live);
      tf.dispose([variables, replaced]);
    },
  };
}

/** Returns the adapter that `fit` would train: the only active one, on unmerged weights. Undefined if there is none. */
export function trainedAdapter({ enabled, active, merged, adapters }: PeftModel): Adapter | undefined {
  const [name, ...others] = active;
  return enabled && name !== undefined && others.length === 0 && merged.length === 0 ? adapters.get(name) : undefined;
}

/** Returns merged weights and the adapter layers' replacements of frozen weights. The caller disposes of them. */
function replacements(frozen: HostTensors, weights: HostTensors, layers: AdapterLayers): Tensors {
  const changed = Object.entries(weights).filter(([name, weight]) => frozen[name] !== weight);
  const put = Object.entries(layers).flatMap(([path, { frozenWeight }]) =>
    frozenWeight ? [[`${path}.weight`, frozenWeight] as const] : [],
  );
  return Object.fromEntries([...changed, ...put].map(([name, value]) => [name, tf.keep(tensorOf(value))]));
}

/** Returns an adapter whose values are read from its variables on access, until these are disposed of. */
function liveAdapter(adapter: Adapter, variables: Mounted['variables']): Adapter {
  let { values } = adapter;
  const read = new Map(Object.entries(variables).map(([key, { dataId }]) => [key, dataId]));
  const current = (): HostTensors => {
    const changed = Object.entries(variables).filter(
      ([key, { isDisposed, dataId }]) => !isDisposed && read.get(key) !== dataId,
    );
    if (changed.length === 0) return values;
    for (const [key, { dataId }] of changed) read.set(key, dataId);
    return (values = {
      ...values,
      ...Object.fromEntries(changed.map(([key, variable]) => [key, onHost(variable)])),
    });
  };
  return {
    ...adapter,
    get values() {
      return current();
    },
  };
}

/** Reads a live adapter's values a last time, and replaces it by a plain one if the model still has it. */
function settle({ adapters }: PeftModel, live: Adapter): void {
  const settled = { ...live };
  if (adapters.get(live.name) === live) adapters.set(live.name, settled);
}

/** Returns the numbers of a tensor, copied from its backend. */
export function onHost(tensor: Tensor): HostTensor {
  return hostTensor(tensor.dataSync<'float32'>(), tensor.shape);
}
