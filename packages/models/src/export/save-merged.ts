/** Writes a model as `save_pretrained` of transformers does. */
import {
  assertFullPrecision,
  diskStorage,
  floats,
  specOf,
  tensorAt,
  transposed,
  UnsupportedError,
  writeFolder,
} from '@peftjs/core';
import type { HostTensor, HostTensors, Model, Site } from '@peftjs/core';
import { writeSafetensors, type StoredTensor } from '@peftjs/safetensors';
import { checkFinite, checkShapes, weightShapes } from '../architecture.js';
import { joined } from '../folder.js';
import { field } from '../json.js';
import { CONFIG_FILE } from '../transformers/config.js';
import { WEIGHTS_FILE } from '../transformers/weights.js';
import { className, described, headSettings, isDecoder, type Described } from './config.js';
import { encodeJson, readSource, settingsOf, type ExportOptions, type SourceFiles } from './source-files.js';

/**
 * Writes a model, e.g. what `mergeAndUnload` gives, as a folder that transformers opens: model.safetensors in float32 under the
 * keys of transformers, config.json with the class and the labels of the head, and the files of the tokenizer. A save that is
 * cut short leaves a folder that says so when it is opened, never files of two saves.
 *
 * @throws UnsupportedError for a model that transformers does not know, or whose weights are held in 8 bits.
 * @throws ConfigError for labels that are not as many as the outputs.
 * @throws CheckpointError when the files that the model came from are not its own any more, or nothing can be written.
 * @example
 * await saveMerged(mergeAndUnload(peft), 'merged', { labels: ['bad', 'good'] });
 */
export async function saveMerged(model: Model, folder: string, options: ExportOptions = {}): Promise<void> {
  const { storage = diskStorage() } = options;
  assertFullPrecision(model);
  checkFinite(model.weights, model.name);
  const { tokenizer, transformers } = await readSource(model, options);
  if (transformers === undefined) {
    throw new UnsupportedError(`transformers knows no model like '${model.name}'; export it as ONNX`, model.name);
  }
  const head = described(model, options.labels);
  const config = encodeJson(mergedSettings(transformers, head));
  const weights = storedWeights(model, transformers, head);
  await writeFolder(storage, {
    config: { path: joined(folder, CONFIG_FILE), bytes: config },
    others: [[WEIGHTS_FILE, writeSafetensors(weights, { format: 'pt' })] as const, ...tokenizer].map(
      ([file, bytes]) => ({
        path: joined(folder, file),
        bytes,
      }),
    ),
  });
}

type Transformers = NonNullable<SourceFiles['transformers']>;

/** The settings of the source, with the head that the model has now and the type of its weights. */
export function mergedSettings({ config, type }: Transformers, head: Described): Record<string, unknown> {
  const { _name_or_path: _, torch_dtype: __, ...settings } = settingsOf(config);
  return {
    ...settings,
    architectures: [className(type, head.task)],
    dtype: 'float32',
    ...headSettings(head),
    ...(isDecoder(type) && head.task === 'sequence-classification' && paddingSettings(settings)),
  };
}

/** The last token of a text is the one before padding: transformers must know which that is. */
function paddingSettings(settings: unknown): Record<string, unknown> {
  const end = field(settings, 'eos_token_id');
  const id: unknown = field(settings, 'pad_token_id') ?? (Array.isArray(end) ? end[0] : end);
  return { pad_token_id: id ?? null };
}

/** The weights as torch holds them. @throws CheckpointError when the settings are those of another model. */
function storedWeights(
  { weights }: Model,
  { config, type }: Transformers,
  { task, outputs }: Described,
): Map<string, StoredTensor> {
  const { head, ...network } = type.architecture(config, task);
  const sites = [...network.sites, ...head.sites(outputs)];
  checkShapes({ ...network, sites }, specsOf(weights), config.file);
  return new Map(
    sites.flatMap((site) =>
      Object.keys(weightShapes({ sites: [site], encodeOnly: [] })).map((name) => [
        name,
        stored(site, name, tensorAt(weights, name)),
      ]),
    ),
  );
}

function specsOf(weights: HostTensors): Record<string, ReturnType<typeof specOf>> {
  return Object.fromEntries(Object.entries(weights).map(([name, weight]) => [name, specOf(weight)]));
}

/** [in, out] -> [out, in] for the weight of a linear module, but in transformers' Conv1D. */
function stored({ path, kind, fanInFanOut }: Site, name: string, tensor: HostTensor): StoredTensor {
  const isTurned = kind === 'linear' && !fanInFanOut && name === `${path}.weight`;
  const { shape, ...turned } = isTurned ? transposed(tensor) : tensor;
  return { dtype: 'F32', shape, data: floats({ shape, ...turned }, name) };
}
