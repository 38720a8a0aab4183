/** Writes a model like `save_pretrained` in transformers. */
import type { Model } from '@peftjs/core';
import { floats, mapValues, tensorAt, UnsupportedError, type HostTensor, type Site } from '@peftjs/core/method';
import { assertFullPrecision, specOf } from '@peftjs/core/model';
import { transposed } from '@peftjs/core/linalg';
import { writeSafetensors, type StoredTensor } from '@peftjs/safetensors';
import { checkFinite, checkShapes, weightShapes } from '../architecture.js';
import { architectureFor } from '../transformers/bare.js';
import { WEIGHTS_FILE } from '../transformers/weights.js';
import { described, mergedSettings, type Described, type Transformers } from './settings.js';
import { assertExport, readSource, writeExport, type ExportOptions } from './files.js';

/**
 * Writes a model, e.g. from `mergeAndUnload`, as a folder that transformers opens: model.safetensors in float32 with
 * the keys of transformers, config.json with the class and the labels of the head, and the tokenizer's files. A
 * save that fails or is killed leaves the old files or the new ones, as `savePretrained` does.
 *
 * @throws UnsupportedError for a model that transformers does not support, and for weights held in 8 or 4 bits.
 * @throws ConfigError when the number of labels is not the number of outputs.
 * @throws CheckpointError when the source's files no longer match the model, or writing fails.
 * @example
 * await saveMerged(mergeAndUnload(peft), 'merged', { labels: ['bad', 'good'] });
 */
export async function saveMerged(model: Model, folder: string, options: ExportOptions = {}): Promise<void> {
  assertExport(model, folder, options);
  assertFullPrecision(model);
  checkFinite(model.weights, model.name);
  const source = await readSource(model, options);
  const { transformers } = source;
  if (transformers === undefined) {
    throw new UnsupportedError(`transformers does not support '${model.name}'; export it as ONNX`, model.name);
  }
  const head = described(model, options.labels);
  const config = mergedSettings(transformers, head);
  const weights = writeSafetensors(new Map(storedWeights(model, transformers, head)), { format: 'pt' });
  const own = new Map([[WEIGHTS_FILE, weights]]);
  await writeExport(model, folder, options, { library: 'transformers', source, config, own });
}

/**
 * Yields the weights in PyTorch's layout.
 * @throws CheckpointError when the settings do not match the model.
 * @throws UnsupportedError for a bias that they have no place for.
 */
export function* storedWeights(
  { weights }: Model,
  { config, type }: Transformers,
  { task, outputs }: Described,
): Generator<[name: string, tensor: StoredWeight]> {
  const { head, pooler, ...network } = architectureFor(type, config, task);
  const carried = pooler && weights[`${pooler.path}.weight`] && task === 'feature-extraction' ? [pooler] : [];
  const sites = [...network.sites, ...carried, ...head.sites(outputs)];
  checkShapes({ ...network, sites }, mapValues(weights, specOf), config.file);
  const added = sites.find(({ path, hasBias }) => !hasBias && weights[`${path}.bias`]);
  if (added) refuseAddedBias(added.path);
  for (const site of sites) {
    for (const name of Object.keys(weightShapes({ sites: [site], encodeOnly: [] }))) {
      yield [name, stored(site, name, tensorAt(weights, name))];
    }
  }
}

/** @throws UnsupportedError for a bias that the model's files have no place for. */
export function refuseAddedBias(path: string): never {
  throw new UnsupportedError(`an adapter of '${path}' adds a bias, and this model stores none there`, `${path}.bias`);
}

type StoredWeight = StoredTensor & { readonly dtype: 'F32' };

/** Transposes [in, out] -> [out, in] for the weight of a linear module, except transformers' Conv1D. */
function stored({ path, kind, fanInFanOut }: Site, name: string, tensor: HostTensor): StoredWeight {
  const isTurned = kind === 'linear' && !fanInFanOut && name === `${path}.weight`;
  const { shape, ...turned } = isTurned ? transposed(tensor) : tensor;
  return { dtype: 'F32', shape, data: floats({ shape, ...turned }, name) };
}
