import { hostTensor } from '@peftjs/core';
import {
  createRng,
  floats,
  tensorAt,
  type AdapterLayer,
  type Calibration,
  type ForwardContext,
  type FrozenModule,
  type HostTensor,
  type HostTensors,
  type Site,
  type StepContext,
  type Tensors,
} from '@peftjs/core/method';
import { linearSite } from '@peftjs/core/model';
import { loraDelta, normalValues } from '@peftjs/core/linalg';
import { embedding, linear } from '@peftjs/core/nn';
import { contextOf, initialOf, tensorsOf } from '@peftjs/conformance';
import { lora, type LoraOptions } from '@peftjs/lora';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';

/** A module and its LoRA layer. */
export interface OnModule {
  readonly layer: AdapterLayer;
  readonly frozen: FrozenModule;
}

/** Returns normal values, the same for the same seed. */
export const drawn = (seed: number, shape: readonly number[], std = 1): HostTensor =>
  normalValues(createRng(seed), shape, std);

/** Returns LoRA layers on modules with these frozen tensors, by path, calibrated if the options need it. */
export function layersOn(
  sites: readonly Site[],
  frozen: Readonly<Record<string, FrozenModule>>,
  options: LoraOptions,
  calibration?: Calibration['values'],
): Readonly<Record<string, AdapterLayer>> {
  return lora.adapt(sites, lora.parseConfig(options), {
    rng: createRng(7),
    sites,
    frozen: (path) => tensorAt(frozen, path),
    calibrated: (_kind, path) => tensorAt(calibration ?? {}, path),
  });
}

/** Returns a LoRA layer on one module 'm' with a random weight and bias. */
export function onModule(
  options: LoraOptions = {},
  { shape = [6, 10], site = linearSite('m', shape[0], shape[1]), calibrated }: ModuleOptions = {},
): OnModule {
  const weight = drawn(1, [site.inFeatures, site.outFeatures]);
  const frozen = site.hasBias ? { weight, bias: drawn(2, [site.outFeatures]) } : { weight };
  const layers = layersOn([site], { m: frozen }, options, calibrated && { m: calibrated });
  return { layer: tensorAt(layers, 'm'), frozen };
}

/** The properties of a module. */
interface ModuleOptions {
  readonly shape?: readonly [number, number];
  readonly site?: Site;
  readonly calibrated?: HostTensor;
}

/** Returns values of a layer as after training: those of trained tensors differ from their initial values. */
export function moved(layer: AdapterLayer, std = 0.5): HostTensors {
  const values = initialOf(layer);
  Object.entries(layer.params).forEach(([name, { trainable }], index) => {
    if (!trainable) return;
    const { data, shape } = tensorAt(values, name);
    const noise = floats(drawn(30 + index, shape, std));
    values[name] = hostTensor(
      Float32Array.from(data, (value, at) => value + (noise[at] as number)),
      shape,
    );
  });
  return values;
}

/** Returns the layer's forward context at its module. */
export function contextAt({ layer, frozen }: OnModule, x: tf.Tensor, ctx: StepContext = contextOf()): ForwardContext {
  const { weight, bias } = tensorsOf({ ...frozen, weight: layer.frozenWeight ?? frozen.weight });
  const run: ForwardContext['run'] = (instead) =>
    layer.site.kind === 'embedding'
      ? embedding(instead.weight ?? (weight as tf.Tensor), instead.x ?? x)
      : linear(instead.x ?? x, instead.weight ?? (weight as tf.Tensor), instead.bias ?? bias);
  return { base: () => run({}), run, weight: () => weight as tf.Tensor, bias: () => bias, ctx };
}

/** Returns the output of the layer and its module for x. */
export function outputOn(on: OnModule, p: Tensors, x: tf.Tensor, ctx?: StepContext): tf.Tensor {
  return on.layer.forward(x, p, contextAt(on, x, ctx));
}

/** Returns the module's weight with the layer merged in, [in, out]. */
export function foldedWeight({ layer, frozen }: OnModule, values: HostTensors): number[] {
  const delta = layer.toLora ? loraDelta(layer.toLora(values)) : layer.deltaWeight?.(values, frozen);
  if (!delta) return expect.fail('the layer has no change of its weight');
  return Array.from(floats(frozen.weight), (value, index) => value + (delta[index] as number));
}

/** Returns the values of a tensor. */
export const numbers = (tensor: tf.Tensor | undefined): number[] => [
  ...(tensor ?? expect.fail('no tensor')).dataSync(),
];

/** Returns a host matrix as a tensor. */
export const matrix = ({ data, shape }: HostTensor): tf.Tensor2D => tf.tensor2d(data, shape as [number, number]);
