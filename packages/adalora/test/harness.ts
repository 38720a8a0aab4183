import {
  createRng,
  hostZeros,
  tensorAt,
  type AdapterLayer,
  type AdapterLayers,
  type HostTensors,
  type Site,
  type StepContext,
  type Tensors,
} from '@peftjs/core';
import { adalora, type AdaloraConfig } from '@peftjs/adalora';
import * as tf from '@tensorflow/tfjs';

export const site = (path: string, inFeatures: number, outFeatures: number): Site => ({
  path,
  kind: 'linear',
  role: 'other',
  inFeatures,
  outFeatures,
  hasBias: true,
});

export const layersOf = (sites: readonly Site[], options: Partial<AdaloraConfig> = {}): AdapterLayers =>
  adalora.adapt(sites, adalora.parseConfig(options), {
    rng: createRng(7),
    frozen: () => ({ weight: hostZeros([1, 1]) }),
  });

export const layerOf = (
  options: Partial<AdaloraConfig> = {},
  shape: readonly [number, number] = [6, 10],
): AdapterLayer => tensorAt(layersOf([site('m', ...shape)], options), 'm');

export const initialOf = (layer: AdapterLayer): HostTensors =>
  Object.fromEntries(Object.entries({ ...layer.params, ...layer.state }).map(([name, { initial }]) => [name, initial]));

export const tensorsIn = (values: HostTensors): Tensors =>
  Object.fromEntries(Object.entries(values).map(([name, { data, shape }]) => [name, tf.tensor(data, [...shape])]));

export const contextOf = (scalars: Readonly<Record<string, number>> = {}, layers = 1): StepContext => ({
  training: true,
  layers,
  scalar: (name) => tf.scalar(tensorAt(scalars, name)),
});
