import { ShapeError } from '../errors.js';
import type { AdapterLayers } from '../contracts/method.js';
import type { Batch, Model } from '../contracts/model.js';
import { tensorKey } from '../adapter/peft-model.js';
import { scaleOf } from '../adapter/scope.js';
import { isQuantized } from '../quantized.js';
import {
  floats,
  hostTensor,
  sizeOf,
  specOf,
  type HostBytes,
  type HostTensor,
  type HostTensors,
  type TensorSpec,
} from '../tensors.js';

type Specs = Record<string, TensorSpec>;

/**
 * The frozen weights that a forward pass can ask for: no table that is looked up on the host, no module trained whole, and
 * in the place of a weight what its layer puts there.
 */
export function frozenWeights(model: Model, layers: AdapterLayers): HostTensors {
  const replaced = Object.values(layers).filter(({ replacesModule }) => replacesModule);
  const outside = [...hostLookups(model, layers).map(({ site }) => site), ...replaced.map(({ site }) => site.path)];
  const names = new Set(outside.flatMap((path) => [`${path}.weight`, `${path}.bias`]));
  const weights = Object.fromEntries(Object.entries(model.weights).filter(([name]) => !names.has(name)));
  for (const { site, frozenWeight } of Object.values(layers)) {
    if (frozenWeight) weights[`${site.path}.weight`] = frozenWeight;
  }
  return weights;
}

/**
 * Frozen weights as an executor holds them. One in 8 bits is its bytes and, as `scaleOf` its name, its scales; written out as
 * float32 where the executor takes no bytes.
 */
export function heldWeights(weights: HostTensors, takesBytes: boolean): Record<string, HostTensor | HostBytes> {
  return Object.fromEntries(
    Object.entries(weights).flatMap(([name, weight]): [string, HostTensor | HostBytes][] => {
      if (!isQuantized(weight)) return [[name, weight]];
      const { dtype, shape, values, scale } = weight;
      if (!takesBytes) return [[name, { dtype, shape, data: weight.data }]];
      return [
        [name, { dtype: 'int8', shape, data: values }],
        [scaleOf(name), hostTensor(scale, [scale.length])],
      ];
    }),
  );
}

/** What the model reads of a batch: its inputs, and the rows of frozen embeddings under their paths. */
export function modelInputs(model: Model, layers: AdapterLayers, batch: Pick<Batch, 'inputs'>): HostTensors {
  const inputs: HostTensors = { ...batch.inputs };
  for (const { site, ids } of hostLookups(model, layers)) {
    const numbers = batch.inputs[ids];
    if (!numbers) throw new ShapeError(`the model reads '${ids}', which the batch does not have`, ids);
    inputs[site] = gatherRows(model, site, numbers);
  }
  return inputs;
}

/** The specs of the tensors of layers, by `<path>.<name>`: all of them, and the trained ones. */
export function layerSpecs(layers: AdapterLayers): { all: Specs; trained: Specs } {
  const all: Specs = {};
  const trained: Specs = {};
  for (const layer of Object.values(layers)) {
    for (const [name, { initial, trainable }] of Object.entries(layer.params)) {
      all[tensorKey(layer, name)] = specOf(initial);
      if (trainable) trained[tensorKey(layer, name)] = specOf(initial);
    }
    for (const [name, { initial }] of Object.entries(layer.state ?? {})) all[tensorKey(layer, name)] = specOf(initial);
  }
  return { all, trained };
}

/** The specs of tensors at rest. */
export function specsOf(tensors: Readonly<Record<string, TensorSpec>>): Specs {
  return Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, specOf(tensor)]));
}

function hostLookups(model: Model, layers: AdapterLayers): Model['lookups'] {
  return model.lookups.filter(({ site }) => !(site in layers));
}

/** Rows of an embedding table: ids `[..]` -> `[.., dim]`. @throws ShapeError for a row that does not exist. */
function gatherRows(model: Model, site: string, ids: HostTensor): HostTensor {
  const table = model.weights[`${site}.weight`];
  if (!table) throw new ShapeError(`${model.name} has no embedding '${site}'`, site);
  const [count = 0, width = 0] = table.shape;
  const rows = floats(table, site);
  const gathered = new Float32Array(sizeOf(ids.shape) * width);
  ids.data.forEach((id, position) => {
    if (id < 0 || id >= count) {
      throw new ShapeError(
        `row ${id} asked of '${site}', which has ${count} rows; does the tokenizer fit the model?`,
        site,
      );
    }
    gathered.set(rows.subarray(id * width, (id + 1) * width), position * width);
  });
  return hostTensor(gathered, [...ids.shape, width]);
}
