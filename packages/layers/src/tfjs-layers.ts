import type { HostTensor } from '@peftjs/core/method';
import * as tf from '@tensorflow/tfjs';
import type { Optimizer, Tensor, Variable } from '@tensorflow/tfjs';

/*
 * All uses of private members of tfjs-layers 4.22, which its types do not declare. The tests train, save and load real
 * models with them.
 */

/** The parts of a Dense or Conv2D layer. */
export interface KernelLayer {
  /** The weight: [in, out], or [height, width, channels, out]. */
  readonly kernel: tf.LayerVariable;
  /** The bias [out]; null if there is none. */
  readonly bias: tf.LayerVariable | null;
  /** The activation after the bias. */
  readonly activation: { apply(x: Tensor): Tensor };
}

/** The model that runs training steps: the inner model of a Sequential, or the model itself. */
interface Trainer {
  /** The optimizer that it was compiled with, if it was. */
  readonly optimizer_?: Optimizer;
  /** The weights that the optimizer trains; null until they are collected. */
  collectedTrainableWeights: tf.LayerVariable[] | null;
}

/** Returns the kernel, bias and activation of a Dense or Conv2D layer. */
export function kernelLayer(layer: tf.layers.Layer): KernelLayer {
  return layer as unknown as KernelLayer;
}

/** Returns the model that runs the training steps of a model; undefined for a Sequential that was never compiled. */
export function trainerOf(model: tf.LayersModel): Trainer | undefined {
  const trainer = model instanceof tf.Sequential ? (model as unknown as { model?: tf.LayersModel }).model : model;
  return trainer as unknown as Trainer | undefined;
}

/** Updates a compiled model's list of trainable weights, as compiling it again would. */
export function updateTrainableWeights(model: tf.LayersModel): void {
  const trainer = trainerOf(model);
  if (trainer?.collectedTrainableWeights) trainer.collectedTrainableWeights = model.trainableWeights;
}

/** Returns a model that saves these weights, by their names in its files. */
export function savedAs(model: tf.LayersModel, named: readonly { name: string; tensor: Tensor }[]): tf.LayersModel {
  return Object.assign(Object.create(model) as tf.LayersModel, { getNamedWeights: () => named });
}

/** Sets a layer's weight, whatever constraint it has. */
export function assign(weight: tf.LayerVariable, value: Tensor): void {
  (weight as unknown as { readonly val: Variable }).val.assign(value);
}

/** Returns a float32 tensor of TensorFlow.js with the numbers of one on the host. */
export function tensorOf({ data, shape }: HostTensor): Tensor {
  return tf.tensor(data, [...shape], 'float32');
}

/**
 * Replaces a method of an object.
 * @param wrap returns the new method, which may call the one before
 * @returns A function that restores it.
 */
export function wrapMethod<T extends object, K extends keyof T>(
  owner: T,
  name: K,
  wrap: (before: T[K]) => T[K],
): () => void {
  const own = Object.getOwnPropertyDescriptor(owner, name);
  const method = owner[name] as { bind(owner: T): T[K] };
  owner[name] = wrap(method.bind(owner));
  return () => {
    if (own) Object.defineProperty(owner, name, own);
    else Reflect.deleteProperty(owner, name);
  };
}

/** Resets an optimizer: it creates new moments at its next step and counts steps from there. */
export function restartOptimizer(optimizer: Optimizer): void {
  const own = optimizer as unknown as Record<string, unknown>;
  for (const [name, value] of Object.entries(own)) {
    if (!Array.isArray(value)) continue;
    for (const { variable } of value as { variable: Variable }[]) variable.dispose();
    own[name] = [];
  }
  // The powers of the decay rates and Adamax's step count correct the bias of the first steps.
  const starts = { accBeta1: own.beta1, accBeta2: own.beta2, iteration: 0 };
  for (const [name, start] of Object.entries(starts)) {
    if (own[name] instanceof tf.Variable) tf.tidy(() => (own[name] as Variable).assign(tf.scalar(start as number)));
  }
}
