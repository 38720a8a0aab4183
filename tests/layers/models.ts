import { createRng, type ConfiguredMethod } from '@peftjs/core/method';
import { adalora } from '@peftjs/adalora';
import { bitfit, full, ia3 } from '@peftjs/baselines';
import { lora } from '@peftjs/lora';
import { sora } from '@peftjs/sora';
import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';

/** Rows to train on and their targets. */
export interface Rows {
  readonly x: Tensor;
  readonly y: Tensor;
}

/** The plain JavaScript backend, without its banner. */
export async function onCpu(): Promise<void> {
  tf.env().set('PROD', true);
  await tf.setBackend('cpu');
}

/**
 * A small network of convolutions and dense layers with biases, for images [8, 8, 2] and 3 classes; the same for the
 * same seed.
 */
export function imageModel(seed = 1): tf.Sequential {
  const kernelInitializer = (offset: number) => tf.initializers.glorotNormal({ seed: 10 * seed + offset });
  const biasInitializer = tf.initializers.randomNormal({ stddev: 0.1, seed });
  const options = (offset: number) => ({ kernelInitializer: kernelInitializer(offset), biasInitializer });
  return tf.sequential({
    name: 'images',
    layers: [
      tf.layers.conv2d({
        ...options(1),
        name: 'conv1',
        filters: 4,
        kernelSize: 3,
        strides: 2,
        padding: 'same',
        activation: 'relu',
        inputShape: [8, 8, 2],
      }),
      tf.layers.conv2d({ ...options(2), name: 'conv2', filters: 6, kernelSize: [3, 2] }),
      tf.layers.flatten({ name: 'flatten' }),
      tf.layers.dense({ ...options(3), name: 'dense1', units: 8, activation: 'tanh' }),
      tf.layers.dense({ ...options(4), name: 'dense2', units: 3 }),
    ],
  });
}

/** Random images, with the classes that another network of the same shape gives them. */
export function imageRows(count: number, seed = 1): Rows {
  const x = tf.tensor(randomValues(count * 8 * 8 * 2, seed), [count, 8, 8, 2]);
  const teacher = imageModel(90 + seed);
  const y = tf.tidy(() => tf.oneHot(tf.argMax(teacher.predict(x) as Tensor, 1), 3).toFloat());
  teacher.dispose();
  return { x, y };
}

/** Normally distributed numbers, the same for the same seed. */
export function randomValues(count: number, seed: number): Float32Array {
  const rng = createRng(seed);
  return Float32Array.from({ length: count }, () => rng.normal());
}

/** The loss of logits, as in `train`. */
export function crossEntropyOf(labels: Tensor, logits: Tensor): Tensor {
  return tf.losses.softmaxCrossEntropy(labels, logits);
}

/** Compiles a model for logits. */
export function compileFor(model: tf.LayersModel, optimizer: tf.Optimizer = tf.train.adam(1e-2)): void {
  model.compile({ optimizer, loss: crossEntropyOf });
}

/** The output values of a model. */
export function outputsOf(model: tf.LayersModel, x: Tensor): Float32Array {
  return tf.tidy(() => (model.predict(x) as Tensor).dataSync<'float32'>().slice());
}

/** The values of every weight of a model, by name. */
export function weightsOf(model: tf.LayersModel): Record<string, Float32Array> {
  return Object.fromEntries(
    model.weights.map((weight) => [weight.originalName, weight.read().dataSync<'float32'>().slice()]),
  );
}

/** A model saved and loaded again. */
export async function savedAndLoaded(model: tf.LayersModel): Promise<tf.LayersModel> {
  return tf.loadLayersModel(tf.io.fromMemory(await artifactsOf(model)));
}

/** The files that `save` of a model writes. */
export async function artifactsOf(model: tf.LayersModel, config?: tf.io.SaveConfig): Promise<tf.io.ModelArtifacts> {
  let written: tf.io.ModelArtifacts | undefined;
  const handler = tf.io.withSaveHandler((artifacts) => {
    written = artifacts;
    return Promise.resolve({ modelArtifactsInfo: { dateSaved: new Date(0), modelTopologyType: 'JSON' } });
  });
  await model.save(handler, config);
  return written as tf.io.ModelArtifacts;
}

/** Methods with different rules, states and files, on every layer of a model. */
export const methods: Record<string, ConfiguredMethod> = {
  lora: lora({ r: 2 }),
  'lora with dropout': lora({ r: 2, loraDropout: 0.3 }),
  'lora+ with biases': lora({ r: 2, loraplusLrRatio: 4, loraBias: true, bias: 'lora_only' }),
  'lora-fa': lora({ r: 2, loraFa: true }),
  dora: lora({ r: 2, useDora: true }),
  pissa: lora({ r: 2, initLoraWeights: 'pissa' }),
  adalora: adalora({ initR: 4, targetR: 2, deltaT: 3 }),
  'adalora of doublets': adalora({ parametrization: 'lora', initR: 4, targetR: 2, allocator: 'released', deltaT: 3 }),
  sora: sora({ r: 4, sparseLambda: 2, gateInit: 'normal' }),
  'sora with a budget and dropout': sora({ r: 4, budget: 45, loraDropout: 0.2 }),
  full: full(),
  bitfit: bitfit({ targetModules: 'all-linear' }),
  ia3: ia3({ targetModules: 'all-linear', feedforwardModules: '.*1' }),
};
