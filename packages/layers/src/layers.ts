import {
  attach,
  ConfigError,
  loadPretrained,
  UnsupportedError,
  type AttachOptions,
  type ConfiguredMethod,
  type LoadOptions,
  type MergeOptions,
  type Model,
  type PeftModel,
  type TargetConfig,
} from '@peftjs/core';
import type * as tf from '@tensorflow/tfjs';
import { assertBare, attachmentOf, putOn } from './attachment.js';
import { trainByFit } from './fit.js';
import { mergeIntoLayers, saveMerged } from './merged.js';
import { layersOf, modulesAmong, type Module } from './modules.js';
import type { FitOptions } from './run.js';
import { replaceMethod } from './tfjs-layers.js';
import { viewOf } from './view.js';

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
