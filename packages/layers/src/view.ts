import { sizeOf, UnsupportedError, type HostTensor, type HostTensors, type Model } from '@peftjs/core';
import type * as tf from '@tensorflow/tfjs';
import type { Module, Placed } from './modules.js';
import { kernelLayer } from './tfjs-layers.js';

/**
 * A LayersModel as the adapter interface sees it: its Dense and Conv2D layers as sites, every weight at rest. A weight is read
 * when it is first asked for. Its own `fit` and `predict` run it: there is no forward pass through a scope.
 * @param head name of the layer or inner model that is trained whole
 */
export function viewOf(
  model: tf.LayersModel,
  layers: readonly Placed[],
  modules: readonly Module[],
  head?: string,
): Model {
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
