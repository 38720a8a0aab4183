import { attach, loadPretrained, mergeAndUnload, type Model, type PeftModel } from '@peftjs/core';
import {
  ConfigError,
  sizeOf,
  UnsupportedError,
  type AttachOptions,
  type ConfiguredMethod,
  type HostTensor,
  type HostTensors,
  type LoadOptions,
  type MergeOptions,
  type TargetConfig,
} from '@peftjs/core/method';
import * as tf from '@tensorflow/tfjs';
import { assertBare, attachmentOf, putOn, type Attachment } from './attachment.js';
import { trainByFit } from './fit.js';
import { layersOf, modulesAmong, type Module, type Placed } from './modules.js';
import type { FitOptions } from './run.js';
import { kernelLayer, replaceMethod, savedWeights, variableOf } from './tfjs-layers.js';

/** How adapters are put on a LayersModel. */
export interface LayersOptions extends FitOptions {
  /** Name of a layer, or of a model inside, that is trained whole and saved beside the adapter, outside its budget. Default none. */
  readonly head?: string;
}

/**
 * Puts a method's adapter on the Dense and Conv2D layers of a model, in place: its `fit` trains the adapter alone, its
 * `predict` runs with it, its `save` writes a copy with it merged. Module paths are the names of the layers. The weights of the
 * model are frozen and stay as they are, bit by bit.
 * @returns the adapter, for `countParameters`, `savePretrained`, `setAdapter` and the other verbs
 * @throws ConfigError when the model has adapters already, or `head` names none of its layers.
 * @throws UnsupportedError when the configuration computes its initial values from data that is not given.
 * @throws TargetModuleError when the configuration matches no layer.
 * @example const peft = attachLayers(model, lora({ r: 4 }));
 */
export function attachLayers<C extends TargetConfig>(
  model: tf.LayersModel,
  configured: ConfiguredMethod<C>,
  { head, plan, rateFactors, ...options }: LayersOptions & AttachOptions = {},
): PeftModel<C> {
  const { view, modules } = adaptable(model, head);
  assertUncalibrated(configured, options);
  const peft = attach(view, configured, options);
  install(model, peft, modules, { ...(plan && { plan }), ...(rateFactors && { rateFactors }) });
  return peft;
}

/**
 * Puts an adapter folder, written by `savePretrained`, on the model it was made for.
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

/** Takes the adapters off a model: it is as it was before, bit by bit. @throws ConfigError when it has none. */
export function detachLayers(model: tf.LayersModel): void {
  attachmentOf(model).detach();
}

/**
 * Folds the adapters into the weights of a model for good and takes them off: it costs nothing from then on.
 * @throws ConfigError when it has none.
 * @throws UnsupportedError when a method cannot be merged; nothing has changed then.
 * @throws CheckpointError when a merged weight is not finite; nothing has changed then.
 */
export function mergeLayers(model: tf.LayersModel, options: MergeOptions = {}): void {
  const attachment = attachmentOf(model);
  mergeIntoLayers(attachment, options);
  attachment.detach();
}

/** The model as the adapter interface sees it. @throws ConfigError when it cannot take adapters, or not with this head. */
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

/** @throws UnsupportedError for initial values that are computed from data: nothing measures them in a LayersModel. */
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

/** Lets a model's own methods work with its adapters, until they are taken off. */
function install(model: tf.LayersModel, peft: PeftModel, modules: readonly Module[], options: FitOptions): void {
  const saved = model.weights.map((weight) => ({ weight, trainable: weight.trainable }));
  const attachment = putOn(model, peft, modules);
  const dispose = model.dispose.bind(model);
  attachment.undoing.push(
    trainByFit(attachment, options),
    saveMerged(attachment, saved),
    replaceMethod(model, 'dispose', () => {
      attachment.detach();
      return dispose();
    }),
  );
}

/** A weight that the model's files hold, and whether it was trained before adapters came. */
interface SavedWeight {
  readonly weight: tf.LayerVariable;
  readonly trainable: boolean;
}

/** Lets `save` of a model write its adapters merged into its weights. @returns what undoes it */
function saveMerged(attachment: Attachment, weights: readonly SavedWeight[]): () => void {
  const { model } = attachment;
  const { save } = model;
  return replaceMethod(model, 'save', async (handler, config) => {
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
    const copy = Object.create(model) as tf.LayersModel;
    savedWeights(copy).getNamedWeights = () => named;
    try {
      return await save.call(copy, handler, config);
    } finally {
      tf.dispose([...merged.values()]);
    }
  });
}

/** Writes the merged weights into the layers. @throws what `mergeAndUnload` throws; nothing has changed then. */
function mergeIntoLayers(attachment: Attachment, options: MergeOptions): void {
  const merged = mergedWeights(attachment, options);
  for (const [weight, value] of merged) {
    variableOf(weight).assign(value);
    value.dispose();
  }
}

/** What merging changes, by the weight whose place it takes; the caller disposes of it. */
function mergedWeights({ peft, modules }: Attachment, options?: MergeOptions): Map<tf.LayerVariable, tf.Tensor> {
  const { weights } = mergeAndUnload(peft, options);
  const changed = (name: string): HostTensor | undefined =>
    weights[name] === (peft.model.weights as Partial<HostTensors>)[name] ? undefined : weights[name];
  return new Map(
    modules.flatMap(({ layer, site: { path } }) => {
      const { kernel, bias } = kernelLayer(layer);
      return [
        [kernel, changed(`${path}.weight`)] as const,
        ...(bias ? [[bias, changed(`${path}.bias`)] as const] : []),
      ].flatMap(([weight, value]) => (value ? [[weight, inShape(value, weight)] as const] : []));
    }),
  );
}

function inShape({ data }: HostTensor, like: tf.LayerVariable): tf.Tensor {
  return tf.tensor(data, like.shape as number[], 'float32');
}

/**
 * A LayersModel as the adapter interface sees it: its Dense and Conv2D layers as sites, every weight at rest. A weight is read
 * when it is first asked for. Its own `fit` and `predict` run it: there is no forward pass through a scope.
 * @param head name of the layer or inner model that is trained whole
 */
function viewOf(model: tf.LayersModel, layers: readonly Placed[], modules: readonly Module[], head?: string): Model {
  const weights = weightsAtRest(layers, modules);
  const sites = modules.map(({ site }) => site);
  return {
    name: model.name,
    get fingerprint() {
      return fingerprintOf(model, weights);
    },
    sites,
    weights,
    head: head === undefined ? [] : [head],
    pretrainedHead: true,
    defaultTargetModules: sites.map(({ path }) => path),
    lookups: [],
    forward() {
      throw new UnsupportedError(
        `'${model.name}' is a tf.LayersModel: train it by its own fit and ask its own predict`,
        model.name,
      );
    },
  };
}

/** `<path>.weight` `[in, out]` and `<path>.bias` of the modules; the weights of other layers under their own names. */
function weightsAtRest(layers: readonly Placed[], modules: readonly Module[]): HostTensors {
  const weights: HostTensors = {};
  const adaptable = new Set(modules.map(({ layer }) => layer));
  for (const { site, layer } of modules) {
    const { kernel, bias } = kernelLayer(layer);
    weights[`${site.path}.weight`] = atRest(kernel, [site.inFeatures, site.outFeatures]);
    if (bias) weights[`${site.path}.bias`] = atRest(bias, [site.outFeatures]);
  }
  for (const { path, layer } of layers) {
    if (adaptable.has(layer)) continue;
    for (const weight of layer.weights) {
      weights[`${path}.${weight.originalName}`] = atRest(weight, weight.shape as number[]);
    }
  }
  return weights;
}

function atRest(weight: tf.LayerVariable, shape: readonly number[]): HostTensor {
  let data: Float32Array | undefined;
  return {
    dtype: 'float32',
    shape,
    get data() {
      return (data ??= weight.read().dataSync<'float32'>());
    },
  };
}

/** Two hashes (FNV-1a) of 32 bits over the architecture and the bits of every weight. */
function fingerprintOf(model: tf.LayersModel, weights: HostTensors): string {
  const hashes = new Uint32Array([0x811c9dc5, 0x9e3779b9]);
  const add = (bytes: Uint8Array): void => {
    for (const byte of bytes)
      hashes.forEach((hash, index) => (hashes[index] = Math.imul(hash ^ byte, 0x01000193 + 2 * index)));
  };
  add(new TextEncoder().encode(JSON.stringify(model.getConfig())));
  for (const { data, shape } of Object.values(weights)) {
    add(new Uint8Array(data.buffer, data.byteOffset, 4 * sizeOf(shape)));
  }
  return [...hashes].map((hash) => hash.toString(16).padStart(8, '0')).join('');
}
