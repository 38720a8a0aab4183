import {
  createRng,
  hostTensor,
  hostZeros,
  normalValues,
  tensorAt,
  type AdapterLayer,
  type AdapterLayers,
  type HostTensors,
  type Site,
  type StepContext,
  type Tensors,
} from '@peftjs/core';
import { sora, type SoraConfig } from '@peftjs/sora';
import * as tf from '@tensorflow/tfjs';

export const site = (path: string, inFeatures: number, outFeatures: number): Site => ({
  path,
  kind: 'linear',
  role: 'other',
  inFeatures,
  outFeatures,
  hasBias: true,
});

export const layersOf = (sites: readonly Site[], options: Partial<SoraConfig> = {}): AdapterLayers =>
  sora.adapt(sites, sora.parseConfig(options), { rng: createRng(7), frozen: () => ({ weight: hostZeros([1, 1]) }) });

export const layerOf = (options: Partial<SoraConfig> = {}, shape: readonly [number, number] = [6, 10]): AdapterLayer =>
  tensorAt(layersOf([site('m', ...shape)], options), 'm');

export const initialOf = (layer: AdapterLayer): HostTensors =>
  Object.fromEntries(Object.entries({ ...layer.params, ...layer.state }).map(([name, { initial }]) => [name, initial]));

/** Values as training might leave them, with these gates. */
export const trainedOf = (layer: AdapterLayer, gates: readonly number[]): HostTensors => {
  const initial = initialOf(layer);
  const loraB = normalValues(createRng(3), tensorAt(initial, 'loraB').shape, 1);
  return { ...initial, loraB, gate: hostTensor(Float32Array.from(gates), [gates.length]) };
};

export const tensorsIn = (values: HostTensors): Tensors =>
  Object.fromEntries(Object.entries(values).map(([name, { data, shape }]) => [name, tf.tensor(data, [...shape])]));

export const contextOf = (scalars: Readonly<Record<string, number>> = {}): StepContext => ({
  training: true,
  layers: 1,
  scalar: (name) => tf.scalar(tensorAt(scalars, name)),
});

export const forwardOf = (layer: AdapterLayer, p: Tensors, x: tf.Tensor, base: tf.Tensor): tf.Tensor =>
  layer.forward(x, p, { base: () => base, weight: () => base, bias: () => undefined, ctx: contextOf() });

/** The layer's rule after an optimizer that proposes `gates`. */
export const updatedGates = (
  layer: AdapterLayer,
  gates: readonly number[],
  threshold: number,
  mask: readonly number[] = gates.map(() => 1),
): number[] =>
  tf.tidy(() => {
    const proposed = { gate: tf.tensor1d([...gates]) };
    const previous = { ...proposed, mask: tf.tensor1d([...mask]) };
    const changed = layer.update?.(proposed, { previous, gradient: {}, ctx: contextOf({ threshold }) }) ?? {};
    return [...tensorAt(changed, 'gate').dataSync()];
  });
