import { CheckpointError, type Model, type Storage } from '@peftjs/core';
import { modelFolder, type ModelFolder } from '../folder.js';
import { field } from '../json.js';
import { locate, type SourceOptions } from '../source.js';
import { modelTypeOf, transformersFormat } from '../transformers/checkpoint.js';
import { readConfig, type ConfigFile } from '../transformers/config.js';
import type { ModelType } from '../transformers/model-type.js';
import { TOKENIZER_FILES } from '../transformers/tokenizer.js';
import { useLiteFormat } from '../use-lite/checkpoint.js';
import { PADDING_TOKEN, readDefinition } from '../use-lite/vocabulary.js';

/** Where a model is written, and what of it comes from where it was loaded. */
export interface ExportOptions extends SourceOptions {
  /** What the model was loaded from: settings and tokenizer are taken from there. Default: its name. */
  readonly source?: string;
  /** Where that folder is read. Default: the disk. */
  readonly sourceStorage?: Storage;
  /** Where the new folder is written. Default: the disk. */
  readonly storage?: Storage;
  /** Names of the classes, in the order of the outputs. Default: those of the model, else LABEL_0, .. */
  readonly labels?: readonly string[];
}

/** What a model's own folder holds besides its weights. */
export interface SourceFiles {
  /** The files of the tokenizer by name; tokenizer.json is among them. */
  readonly tokenizer: ReadonlyMap<string, Uint8Array>;
  /** For a folder of transformers. */
  readonly transformers?: { readonly config: ConfigFile; readonly type: ModelType };
}

/**
 * Reads what an exported model takes from where it came from.
 * @throws CheckpointError when the folder is gone, broken or unknown.
 * @throws HubError when the model is of the hub, which cannot be reached.
 */
export async function readSource(
  model: Pick<Model, 'name' | 'sites'>,
  { source = model.name, sourceStorage, storage: _, ...options }: ExportOptions,
): Promise<SourceFiles> {
  const from = sourceStorage ? { ...options, storage: sourceStorage } : options;
  const { path, format, storage } = await locate(source, from);
  const folder = modelFolder(path, storage);
  if (format === transformersFormat) return transformersFiles(folder);
  if (format === useLiteFormat) return useLiteFiles(folder, model);
  throw new CheckpointError(`${path}: models of ${format.name} cannot be exported`, path);
}

async function transformersFiles(folder: ModelFolder): Promise<SourceFiles> {
  const config = await readConfig(folder);
  const tokenizer = new Map<string, Uint8Array>();
  for (const file of TOKENIZER_FILES) {
    if (await folder.exists(file)) tokenizer.set(file, await folder.bytes(file));
  }
  return { tokenizer, transformers: { config, type: modelTypeOf(config) } };
}

async function useLiteFiles(folder: ModelFolder, model: Pick<Model, 'sites'>): Promise<SourceFiles> {
  const { definition } = await readDefinition(folder, model);
  const settings = { tokenizer_class: 'PreTrainedTokenizer', pad_token: PADDING_TOKEN };
  return {
    tokenizer: new Map([
      ['tokenizer.json', encodeJson(definition)],
      ['tokenizer_config.json', encodeJson(settings)],
    ]),
  };
}

/** A value as a JSON file. */
export function encodeJson(value: unknown): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`);
}

/** The settings of a config.json. @throws CheckpointError when it holds something else. */
export function settingsOf({ file, settings }: ConfigFile): Record<string, unknown> {
  if (field(settings, 'model_type') !== undefined) return { ...(settings as Record<string, unknown>) };
  throw new CheckpointError(`${file}: expected settings with a 'model_type'`, file);
}
