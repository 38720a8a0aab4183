import { CheckpointError, UnsupportedError } from '../errors.js';
import { loraDelta } from './factors.js';
import type { AdapterLayer, FrozenModule } from '../contracts/method.js';
import type { Model } from '../contracts/model.js';
import { floats, hostTensor, type HostTensor, type HostTensors } from '../tensors.js';
import { frozenModule } from './attach.js';
import { allLayers, valuesOf, type PeftModel } from './peft-model.js';

/** How an adapter is folded into the weights. */
export interface MergeOptions {
  /** Refuse a merged weight that is not finite. Default true. */
  readonly safeMerge?: boolean;
}

/**
 * The model with its adapter folded into the weights: W0 + dW and the new bias at every adapted module, and the trained head.
 * The model that was given stays as it is.
 * @throws UnsupportedError when the method cannot be merged.
 * @throws CheckpointError when a merged weight is not finite.
 */
export function mergeAndUnload({ model, adapter }: PeftModel, { safeMerge = true }: MergeOptions = {}): Model {
  if (!adapter.method.capabilities.mergeable) {
    throw new UnsupportedError(`${adapter.method.name} cannot be merged: it is more than a change of weights`);
  }
  const weights: HostTensors = { ...model.weights };
  for (const [path, layer] of Object.entries(allLayers(adapter))) {
    const merged = mergedModule(model, layer, valuesOf(layer, adapter.values));
    if (safeMerge) assertFinite(merged, path);
    weights[`${path}.weight`] = merged.weight;
    if (merged.bias) weights[`${path}.bias`] = merged.bias;
  }
  return { ...model, weights, pretrainedHead: true };
}

/** The change of a layer's weight, `[in, out]`. @throws UnsupportedError when the layer does not have one. */
export function deltaWeight(model: Model, layer: AdapterLayer, values: HostTensors): Float32Array {
  if (layer.toLora) return loraDelta(layer.toLora(values));
  if (layer.deltaWeight) return layer.deltaWeight(values, frozenModule(model, layer.site.path));
  throw new UnsupportedError(`the adapter of '${layer.site.path}' is no change of a weight`, layer.site.path);
}

/** A module's weight and bias with its layer folded in. */
function mergedModule(model: Model, layer: AdapterLayer, values: HostTensors): FrozenModule {
  const frozen = frozenModule(model, layer.site.path);
  const bias = layer.mergedBias?.(values, frozen) ?? frozen.bias;
  const changesWeight = layer.toLora ?? layer.deltaWeight ?? !layer.mergedBias;
  const weight = changesWeight ? addedTo(frozen.weight, deltaWeight(model, layer, values)) : frozen.weight;
  return bias ? { weight, bias } : { weight };
}

function addedTo(weight: HostTensor, delta: Float32Array): HostTensor {
  return hostTensor(
    floats(weight).map((value, index) => value + (delta[index] as number)),
    weight.shape,
  ); // [in, out]
}

function assertFinite({ weight, bias }: FrozenModule, path: string): void {
  if ([weight, ...(bias ? [bias] : [])].every((tensor) => floats(tensor).every(Number.isFinite))) return;
  throw new CheckpointError(
    `the merged weight of '${path}' is not finite; the adapter is broken, nothing was merged`,
    path,
  );
}
