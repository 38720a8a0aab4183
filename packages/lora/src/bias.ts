import {
  biasLayer,
  ConfigError,
  floats,
  hostTensor,
  hostZeros,
  isWithin,
  tensorAt,
  type AdapterLayer,
  type AdapterLayers,
  type HostTensor,
  type Init,
  type ParamSpec,
} from '@peftjs/core';
import * as tf from '@tensorflow/tfjs';
import type { LoraConfig } from './config.js';
import type { LoraLayer } from './layer.js';

/*
 * Biases beside A and B, in row vectors:
 *
 *   y = x W0 + b + c(x') + s d          `loraBias`                   d [out] trained, from zero
 *   y = x W0 + b' + c(x')               `bias`: 'lora_only', 'all'   b' [out] trained, from b
 *   and b' at every other module with a bias                         `bias: 'all'`
 */

/** The layer with a bias of B's own. @throws ConfigError for an embedding, as in PEFT. */
export function withOwnBias(layer: LoraLayer): LoraLayer {
  const { site, scaling, upRate } = layer;
  if (site.kind === 'embedding') {
    throw new ConfigError(`lora: loraBias is for linear modules, '${site.path}' is an embedding`, 'loraBias');
  }
  return {
    ...layer,
    params: { ...layer.params, loraBias: biasSpec(hostZeros([site.outFeatures]), upRate) },
    forward: (x, p, at) => tf.add(layer.forward(x, p, at), tf.mul(tensorAt(p, 'loraBias'), scaling)),
    mergedBias(values, { bias }) {
      const own = floats(tensorAt(values, 'loraBias')).map((value) => scaling * value);
      return hostTensor(bias ? own.map((value, index) => value + (floats(bias)[index] as number)) : own, [own.length]);
    },
    storedParameters: (values) => layer.storedParameters(values) + site.outFeatures,
  };
}

/** The layer with the module's own bias trained. */
export function withTrainedBias(layer: LoraLayer, initial: HostTensor): LoraLayer {
  return {
    ...layer,
    params: { ...layer.params, bias: biasSpec(initial, layer.upRate) },
    startsAnew: true,
    forward: (x, p, at) => layer.forward(x, p, { ...at, base: () => at.run({ bias: tensorAt(p, 'bias') }) }),
    mergedBias(values, module) {
      const bias = tensorAt(values, 'bias');
      return layer.mergedBias?.(values, { ...module, bias }) ?? bias;
    },
    storedParameters: (values) => layer.storedParameters(values) + layer.site.outFeatures,
  };
}

/** A layer for the bias of every module that is neither adapted nor trained whole. */
export function biasLayers(adapted: AdapterLayers, config: LoraConfig, init: Init): AdapterLayers {
  const saved = (path: string): boolean => (config.modulesToSave ?? []).some((name) => isWithin(path, name));
  const layers: Record<string, AdapterLayer> = {};
  for (const site of init.sites) {
    if (!site.hasBias || site.path in adapted || saved(site.path)) continue;
    const { params, ...layer } = biasLayer(site, init.frozen(site.path), 'default');
    layers[site.path] = {
      ...layer,
      params: { bias: { ...tensorAt(params, 'bias'), rateFactor: config.loraplusLrRatio } },
    };
  }
  return layers;
}

function biasSpec(initial: HostTensor, rateFactor: number): ParamSpec {
  return { initial, trainable: true, group: 'default', decay: false, rateFactor };
}
