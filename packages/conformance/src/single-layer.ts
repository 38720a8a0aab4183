import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { hostTensor } from '@peftjs/core';
import {
  ConfigError,
  createRng,
  hostZeros,
  mapValues,
  tensorAt,
  type AdapterLayer,
  type AdapterLayers,
  type Controller,
  type HostTensor,
  type HostTensors,
  type PeftMethod,
  type Site,
  type StepContext,
  type TargetConfig,
  type Tensors,
  type TrainPlan,
} from '@peftjs/core/method';
import { linearSite } from '@peftjs/core/model';

/** Returns a method's layers on some sites without a model: frozen weights are zeros. */
export function layersOf<C extends TargetConfig>(
  method: PeftMethod<C>,
  sites: readonly Site[],
  options: Partial<C> = {},
): AdapterLayers {
  const frozen = (path: string) => {
    const { inFeatures, outFeatures } = sites.find((site) => site.path === path) ?? linearSite(path, 1, 1);
    return { weight: hostZeros([inFeatures, outFeatures]) };
  };
  const calibrated = (kind: string, path: string): never => {
    throw new ConfigError(`a layer apart from any model has no ${kind} of '${path}'`, 'calibration');
  };
  return method.adapt(sites, method.parseConfig(options), { rng: createRng(7), sites, frozen, calibrated });
}

/** Returns a method's layer on one linear module 'm' of `[in, out]`. */
export function layerOf<C extends TargetConfig>(
  method: PeftMethod<C>,
  options: Partial<C> = {},
  [inFeatures, outFeatures]: readonly [number, number] = [6, 10],
): AdapterLayer {
  return tensorAt(layersOf(method, [linearSite('m', inFeatures, outFeatures)], options), 'm');
}

/** Returns a method's controller of these layers. @throws ConfigError when it has none. */
export function controllerOf<C extends TargetConfig>(
  method: PeftMethod<C>,
  layers: AdapterLayers,
  options: Partial<C>,
  plan: TrainPlan,
): Controller {
  const controller = method.controller?.(layers, method.parseConfig(options), plan);
  if (controller) return controller;
  throw new ConfigError(`${method.name} has no controller with these options`);
}

/** Returns the initial values of a layer, by their names within the layer. */
export function initialOf(layer: AdapterLayer): HostTensors {
  return mapValues({ ...layer.params, ...layer.state }, ({ initial }) => initial);
}

/** Returns the tensors of several layers as an adapter holds them, by `<path>.<name>`. */
export function adapterValues(layers: Readonly<Record<string, HostTensors>>): HostTensors {
  return Object.fromEntries(
    Object.entries(layers).flatMap(([path, own]) =>
      Object.entries(own).map(([name, value]) => [`${path}.${name}`, value] as const),
    ),
  );
}

/** Makes a host tensor `[length]`. */
export function hostVector(values: ArrayLike<number>): HostTensor {
  return hostTensor(Float32Array.from(values), [values.length]);
}

/** Makes a host tensor `[rows, columns]`. */
export function hostMatrix(rows: readonly (readonly number[])[]): HostTensor {
  return hostTensor(Float32Array.from(rows.flat()), [rows.length, rows[0]?.length ?? 0]);
}

/** Converts host tensors to TensorFlow.js tensors. */
export function tensorsOf(values: HostTensors): Tensors {
  return mapValues(values, ({ data, shape, dtype }) => tf.tensor(data, [...shape], dtype));
}

/** Makes a training step's context with these scalars and without dropout. */
export function contextOf(scalars: Readonly<Record<string, number>> = {}, layers = 1): StepContext {
  return {
    training: true,
    layers,
    scalar: (name) => tf.scalar(tensorAt(scalars, name)),
    dropout: (_name, x) => x,
    networkDropout: {},
    rowsOf: () => tf.ones([1, 1]),
  };
}

/** Returns a layer's output for x `[rows, in]` over a frozen module that always outputs `base` `[rows, out]`. */
export function forwardOf(layer: AdapterLayer, p: Tensors, x: Tensor, base: Tensor, ctx = contextOf()): Tensor {
  return layer.forward(x, p, { base: () => base, run: () => base, weight: () => base, bias: () => undefined, ctx });
}
