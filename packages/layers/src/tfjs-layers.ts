import * as tf from '@tensorflow/tfjs';
import type { Optimizer, Scalar, Tensor, Variable } from '@tensorflow/tfjs';

/*
 * What this package works with in tfjs-layers 4.22 and its types keep to themselves. It is all in this file; the tests train,
 * save and load real models with it.
 */

/** Dense and Conv2D: a kernel, perhaps a bias, then an activation. */
export interface KernelLayer {
  readonly kernel: tf.LayerVariable;
  readonly bias: tf.LayerVariable | null;
  readonly activation: { apply(x: Tensor): Tensor };
}

/** A layer's own lists: `trainable` of each variable sorts them further. */
export interface WeightLists {
  _trainableWeights: tf.LayerVariable[];
  _nonTrainableWeights: tf.LayerVariable[];
}

/** The model that runs a training step: the one inside a Sequential, or the model itself. */
export interface Trainer {
  optimizer_: Pick<Optimizer, 'minimize'>;
  collectedTrainableWeights: tf.LayerVariable[] | null;
  makeTrainFunction(): (data: Tensor[]) => Scalar[];
}

/** A model's weights under the names that its files give them. */
export interface SavedWeights {
  getNamedWeights(config?: tf.io.SaveConfig): { name: string; tensor: Tensor }[];
}

/** The kernel, bias and activation of a Dense or Conv2D layer. */
export function kernelLayer(layer: tf.layers.Layer): KernelLayer {
  return layer as unknown as KernelLayer;
}

/** The lists of weights of a layer. */
export function weightLists(layer: tf.layers.Layer): WeightLists {
  return layer as unknown as WeightLists;
}

/** The model that runs the training steps of a model; undefined for a Sequential that has never been compiled. */
export function trainerOf(model: tf.LayersModel): Trainer | undefined {
  const trainer = model instanceof tf.Sequential ? (model as unknown as { model?: tf.LayersModel }).model : model;
  return trainer as unknown as Trainer | undefined;
}

/** Tells a compiled model which weights are trainable now, as compiling it again would. */
export function collectAgain(model: tf.LayersModel): void {
  const trainer = trainerOf(model);
  if (trainer?.collectedTrainableWeights) trainer.collectedTrainableWeights = model.trainableWeights;
}

/** The weights of a model as its files name them. */
export function savedWeights(model: tf.LayersModel): SavedWeights {
  return model as unknown as SavedWeights;
}

/** The variable of a layer's weight. */
export function variableOf(weight: tf.LayerVariable): Variable {
  return (weight as unknown as { readonly val: Variable }).val;
}

/** Puts a method in the place of an object's own. @returns what puts everything back */
export function replaceMethod<T extends object, K extends keyof T>(owner: T, name: K, method: T[K]): () => void {
  const before = Object.getOwnPropertyDescriptor(owner, name);
  owner[name] = method;
  return () => {
    if (before) Object.defineProperty(owner, name, before);
    else Reflect.deleteProperty(owner, name);
  };
}

/** Lets an optimizer begin anew: it makes its moments again at its next step, and counts its steps from there. */
export function restartOptimizer(optimizer: Optimizer): void {
  const own = optimizer as unknown as Record<string, unknown>;
  for (const [name, value] of Object.entries(own)) {
    if (!Array.isArray(value)) continue;
    for (const { variable } of value as { variable: Variable }[]) variable.dispose();
    own[name] = [];
  }
  // Powers of the decay rates, and Adamax's count: what corrects the bias of the first steps.
  const starts = { accBeta1: own.beta1, accBeta2: own.beta2, iteration: 0 };
  for (const [name, start] of Object.entries(starts)) {
    if (own[name] instanceof tf.Variable) tf.tidy(() => (own[name] as Variable).assign(tf.scalar(start as number)));
  }
}
