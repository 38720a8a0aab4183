import { activeAdapter, hostTensor, type PeftModel } from '@peftjs/core';
import {
  ConfigError,
  tensorKey,
  valuesOf,
  warnOnce,
  type Adapter,
  type AdapterLayer,
  type AdapterLayers,
  type HostTensor,
  type HostTensors,
  type StepContext,
  type Tensors,
} from '@peftjs/core/method';
import { actingParts, stepContext } from '@peftjs/core/runtime';
import * as tf from '@tensorflow/tfjs';
import type { Tensor, Variable } from '@tensorflow/tfjs';
import { layersOf, type Module, type Placed } from './modules.js';
import type { Frozen } from './product.js';
import { collectAgain, kernelLayer, replaceMethod, variableOf, weightLists } from './tfjs-layers.js';

/** A model with adapters on it, between `attachLayers` and `detachLayers`. */
export interface Attachment {
  readonly model: tf.LayersModel;
  readonly peft: PeftModel;
  readonly modules: readonly Module[];
  /** The context of the training step under way. */
  step: StepContext | undefined;
  /** What acts just now. */
  mounted(): Mounted;
  /** What puts the model back as it was. */
  readonly undoing: (() => void)[];
  /** Takes everything off the model again. */
  detach(): void;
}

const attachments = new WeakMap<tf.LayersModel, Attachment>();
const adaptedLayers = new WeakSet<tf.layers.Layer>();

/** The adapters on a model. @throws ConfigError when it has none. */
export function attachmentOf(model: tf.LayersModel): Attachment {
  const found = attachments.get(model);
  if (found) return found;
  throw new ConfigError(`'${model.name}' has no adapters: call attachLayers first`, model.name);
}

/** @throws ConfigError when a model, one inside it or one around it has adapters already. */
export function assertBare({ name }: tf.LayersModel, modules: readonly Module[]): void {
  const taken = modules.find(({ layer }) => adaptedLayers.has(layer));
  if (!taken) return;
  throw new ConfigError(
    `'${name}' has adapters already, for example on '${taken.site.path}': add another one by addAdapter, or call detachLayers first`,
    name,
  );
}

/** Lets the adapters of `peft` act in the layers of a model, whose own weights are frozen from now on. */
export function putOn(model: tf.LayersModel, peft: PeftModel, modules: readonly Module[]): Attachment {
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
      collectAgain(model);
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
      collectAgain(model);
    }),
  );
  collectAgain(model);
  attachments.set(model, attachment);
  for (const { layer } of modules) adaptedLayers.add(layer);
  return attachment;
}

/** Freezes every weight. `thaw` gives each its own `trainable` back. */
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

/** Averages over batches are weights, too: frozen, they normalise in training as they do in inference. */
function keepStatistics(layer: tf.layers.Layer): () => void {
  const call = layer.call.bind(layer);
  return replaceMethod(layer, 'call', (inputs, kwargs) => call(inputs, { ...kwargs, training: false }));
}

/** What a Dense or Conv2D layer computes while adapters are on its model. */
function callOf(attachment: Attachment, { layer, site, productOf }: Module): tf.layers.Layer['call'] {
  const call = layer.call.bind(layer);
  const internals = kernelLayer(layer);
  const names = { weight: `${site.path}.weight`, bias: `${site.path}.bias` };
  return (inputs, kwargs) => {
    const { layers, variables, instead } = attachment.mounted();
    const acting = layers[site.path];
    const asItIs = !acting && !(names.weight in instead) && !(names.bias in instead);
    // In a gradient the layer's own fused product would compute that of its frozen kernel as well.
    if (asItIs && !attachment.step) return call(inputs, kwargs);
    if (acting && !attachment.step) warnOfLostRules(attachment, acting);
    return tf.tidy(() => {
      const frozen: Frozen = {
        weight: instead[names.weight] ?? tf.reshape(internals.kernel.read(), [site.inFeatures, site.outFeatures]),
        bias: instead[names.bias] ?? internals.bias?.read(),
      };
      const { run, rows, output } = productOf((Array.isArray(inputs) ? inputs[0] : inputs) as Tensor, frozen);
      const y = acting?.forward(rows(), read(valuesOf(acting, variables)), {
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

/** Gradients that anything but the model's own `fit` takes train an adapter without its method's rules, or do not train it. */
function warnOfLostRules({ model, peft }: Attachment, { loss, update }: AdapterLayer): void {
  if (tf.engine().state.gradientDepth === 0 || !(loss ?? update)) return;
  warnOnce(
    `gradients go through '${model.name}' outside its own fit: the loss terms and rules of ${activeAdapter(peft).method.name} do not run there`,
  );
}

/** Variables as tensors of the step. */
export function read(variables: Mounted['variables']): Record<string, Variable> {
  return Object.fromEntries(Object.entries(variables).map(([key, variable]) => [key, variableOf(variable)]));
}

/*
 * The adapters that act, as variables of the layers they act on. `peft` says which adapters these are and what they hold; its
 * adapters are replaced as a whole and never changed in place, so that a look at their identity tells whether the variables
 * still stand for them. While one adapter acts, its values are read from the variables, which training moves.
 */

/** What acts on the layers of a model. */
interface Mounted {
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
function mount(peft: PeftModel, modules: readonly Module[]): Mounted {
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
