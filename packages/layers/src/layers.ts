import { attach, loadPretrained, mergeAndUnload, type Model, type PeftModel } from '@peftjs/core';
import {
  ConfigError,
  UnsupportedError,
  type ConfiguredMethod,
  type HostTensor,
  type HostTensors,
  type TargetConfig,
} from '@peftjs/core/method';
import type { AttachOptions, LoadOptions, MergeOptions } from '@peftjs/core/model';
import * as tf from '@tensorflow/tfjs';
import { assertBare, attachmentOf, attachTo, type Attachment } from './attachment.js';
import { trainByFit } from './fit.js';
import { layersOf, modulesAmong, type Module, type Placed } from './modules.js';
import type { FitOptions } from './run.js';
import { assign, kernelLayer, savedAs, tensorOf, wrapMethod } from './tfjs-layers.js';

/** Options of adapters on a LayersModel. */
export interface LayersOptions extends FitOptions {
  /**
   * The name of a layer, or of an inner model, to train fully and save with the adapter. It does not count against the
   * budget. Default: none.
   */
  readonly head?: string;
}

/**
 * Attaches a method's adapter to the Dense and Conv2D layers of a model, in place: `fit` trains only the adapter,
 * `predict` uses it, and `save` writes a copy with the adapter merged. Module paths are the names of the layers. The
 * weights of the model are frozen and stay the same bit by bit.
 * @returns The adapter, for `countParameters`, `savePretrained`, `setAdapter` and the other functions.
 * @throws ConfigError when the model has adapters already, or `head` names none of its layers.
 * @throws UnsupportedError when the configuration computes its initial values from data and no `calibration` is given.
 * @throws TargetModuleError when the configuration matches no layer.
 * @example const peft = attachLayers(model, lora({ r: 4 }));
 */
export function attachLayers<M extends ConfiguredMethod>(
  model: tf.LayersModel,
  configured: M,
  { head, plan, rateFactors, ...options }: LayersOptions & AttachOptions = {},
): PeftModel<M['config']> {
  const { view, modules } = adaptable(model, head);
  assertUncalibrated(configured, options);
  const peft = attach(view, configured, options);
  install(model, peft, modules, { ...(plan && { plan }), ...(rateFactors && { rateFactors }) });
  return peft;
}

/**
 * Loads an adapter folder, written by `savePretrained`, onto the model it was made for.
 * @throws ConfigError when the model has adapters already, or `head` names none of its layers.
 * @throws CheckpointError naming the file, tensor or field at fault.
 */
export async function loadLayers(
  model: tf.LayersModel,
  folder: string,
  { head, plan, rateFactors, ...options }: LayersOptions & LoadOptions,
): Promise<PeftModel> {
  const { view, modules } = adaptable(model, head);
  const peft = await loadPretrained(view, folder, options);
  install(model, peft, modules, { ...(plan && { plan }), ...(rateFactors && { rateFactors }) });
  return peft;
}

/** Removes the adapters from a model and restores it bit by bit. @throws ConfigError when it has none. */
export function detachLayers(model: tf.LayersModel): void {
  attachmentOf(model).detach();
}

/**
 * Merges the adapters into the weights of a model permanently and removes them. The object that `attachLayers` returned
 * reads these weights as the frozen ones, so merging it afterwards would count the adapters twice.
 * @throws ConfigError when it has none.
 * @throws UnsupportedError when a method cannot be merged; nothing has changed then.
 * @throws CheckpointError when a merged weight is not finite; nothing has changed then.
 */
export function mergeLayers(model: tf.LayersModel, options: MergeOptions = {}): void {
  const attachment = attachmentOf(model);
  for (const [weight, value] of mergedWeights(attachment, options)) {
    assign(weight, value);
    value.dispose();
  }
  attachment.detach();
}

/**
 * Returns the model for the adapter interface.
 * @throws ConfigError when it already has adapters, or has no such head.
 */
function adaptable(model: tf.LayersModel, head?: string): { view: Model; modules: Module[] } {
  const layers = layersOf(model);
  const modules = modulesAmong(layers, head);
  assertBare(model, modules);
  if (head !== undefined && !modules.some(({ site }) => site.role === 'head')) {
    const paths = modules.map(({ site }) => site.path);
    throw new ConfigError(
      `head is '${head}'; the Dense and Conv2D layers of '${model.name}' are ${paths.join(', ') || 'none'}`,
      'head',
    );
  }
  return { view: viewOf(model, layers, modules, head), modules };
}

/** @throws UnsupportedError for initial values computed from data, which are not measured in a LayersModel. */
function assertUncalibrated<C extends TargetConfig>(
  { method, config }: ConfiguredMethod<C>,
  { calibration }: AttachOptions,
): void {
  const kind = calibration ? null : method.calibration?.(config);
  if (!kind) return;
  throw new UnsupportedError(
    `${method.name}: this configuration computes its initial values from ${kind}, which are not measured in a tf.LayersModel; choose others, or pass a calibration`,
    'calibration',
  );
}

/** Makes a model's own methods work with its adapters until they are removed. */
function install(model: tf.LayersModel, peft: PeftModel, modules: readonly Module[], options: FitOptions): void {
  const saved = model.weights.map((weight) => ({ weight, trainable: weight.trainable }));
  const attachment = attachTo(model, peft, modules);
  attachment.undoing.push(
    ...trainByFit(attachment, options),
    saveMerged(attachment, saved),
    wrapMethod(model, 'dispose', (dispose) => () => {
      attachment.detach();
      return dispose();
    }),
  );
}

/** A weight that the model saves, and whether it was trainable without adapters. */
interface SavedWeight {
  readonly weight: tf.LayerVariable;
  readonly trainable: boolean;
}

/** Makes `save` of a model write weights with the adapters merged. @returns A function that undoes it. */
function saveMerged(attachment: Attachment, weights: readonly SavedWeight[]): () => void {
  const { model } = attachment;
  const { save } = model;
  return wrapMethod(model, 'save', () => async (handler, config) => {
    if (config?.includeOptimizer) {
      throw new UnsupportedError(
        "the optimizer's state is that of the adapters, which a merged model does not have: save without includeOptimizer",
        'includeOptimizer',
      );
    }
    const merged = mergedWeights(attachment);
    const wanted = weights.filter(({ trainable }) => trainable || !config?.trainableOnly);
    const named = wanted.map(({ weight }) => ({
      name: weight.originalName,
      tensor: merged.get(weight) ?? weight.read(),
    }));
    try {
      return await save.call(savedAs(model, named), handler, config);
    } finally {
      tf.dispose([...merged.values()]);
    }
  });
}

/** Returns the weights that merging changes, by the original weight. The caller disposes of them. */
function mergedWeights({ peft, modules }: Attachment, options?: MergeOptions): Map<tf.LayerVariable, tf.Tensor> {
  const { weights } = mergeAndUnload(peft, options);
  const added = modules.find(({ layer, site: { path } }) => !kernelLayer(layer).bias && weights[`${path}.bias`]);
  if (added) {
    const { path } = added.site;
    throw new UnsupportedError(`the adapter of '${path}' adds a bias, and the layer has none to merge it into`, path);
  }
  const changed = (name: string): HostTensor | undefined =>
    weights[name] === (peft.model.weights as Partial<HostTensors>)[name] ? undefined : weights[name];
  return new Map(
    modules.flatMap(({ layer, site: { path } }) => {
      const { kernel, bias } = kernelLayer(layer);
      return [
        [kernel, changed(`${path}.weight`)] as const,
        ...(bias ? [[bias, changed(`${path}.bias`)] as const] : []),
      ].flatMap(([weight, value]) =>
        value ? [[weight, tensorOf({ ...value, shape: weight.shape as number[] })] as const] : [],
      );
    }),
  );
}

/**
 * Presents a LayersModel to the adapter interface: its Dense and Conv2D layers are sites, and weights are read when they
 * are needed. It has no forward pass through a scope: its own `fit` and `predict` run it.
 * @param head The name of the layer or inner model that is fully trained.
 */
function viewOf(model: tf.LayersModel, layers: readonly Placed[], modules: readonly Module[], head?: string): Model {
  const weights = weightsAtRest(layers, modules);
  const sites = modules.map(({ site }) => site);
  return {
    name: model.name,
    fingerprint: model.name, // only `train` compares it, which cannot train this model
    sites,
    weights,
    head: head === undefined ? [] : [head],
    pretrainedHead: true,
    defaultTargetModules: sites.map(({ path }) => path),
    lookups: [],
    forward() {
      throw new UnsupportedError(`'${model.name}' is a tf.LayersModel: use its own fit and predict`, model.name);
    },
  };
}

/**
 * Returns `<path>.weight` `[in, out]` and `<path>.bias` of the modules, and the weights of other layers under their own
 * names.
 */
function weightsAtRest(layers: readonly Placed[], modules: readonly Module[]): HostTensors {
  const weights: HostTensors = {};
  const adaptable = new Set(modules.map(({ layer }) => layer));
  for (const { site, layer } of modules) {
    const { kernel, bias } = kernelLayer(layer);
    weights[`${site.path}.weight`] = onHost(kernel, [site.inFeatures, site.outFeatures]);
    if (bias) weights[`${site.path}.bias`] = onHost(bias, [site.outFeatures]);
  }
  for (const { path, layer } of layers) {
    if (adaptable.has(layer)) continue;
    for (const weight of layer.weights) {
      weights[`${path}.${weight.originalName}`] = onHost(weight, weight.shape as number[]);
    }
  }
  return weights;
}

/** Returns a weight, which is read when it is first needed, and again after it was assigned. */
function onHost(weight: tf.LayerVariable, shape: readonly number[]): HostTensor {
  let [from, data]: [object?, Float32Array?] = [];
  return {
    dtype: 'float32',
    shape,
    get data() {
      const tensor = weight.read();
      if (data === undefined || tensor.dataId !== from) [from, data] = [tensor.dataId, tensor.dataSync<'float32'>()];
      return data;
    },
  };
}
