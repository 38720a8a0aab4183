/**
 * The files of an exported folder other than weights and settings: those copied from the model's source, and the model
 * card.
 */
import { diskStorage, type Model, type Storage } from '@peftjs/core';
import {
  aModel,
  anything,
  aReadStorage,
  assertArgument,
  aStorage,
  aText,
  cardHeader,
  shownName,
  writeFolders,
} from '@peftjs/core/model';
import * as v from 'valibot';
import type { SourceFiles } from '../checkpoint.js';
import { joined, modelFolder } from '../folder.js';
import { encodeJson, field, fileError, parseJson } from '../json.js';
import type { PretrainedModel } from '../pretrained.js';
import { locate, sourceEntries, type SourceOptions } from '../source.js';
import { CONFIG_FILE, type ConfigFile } from '../transformers/config.js';
import { embeddingFiles, PROMPTS_FILE } from '../transformers/sentence-transformers.js';
import { GENERATION_CONFIG_FILE } from '../transformers/tokenizer.js';
import { settingsOf } from './settings.js';

/** Options of an export. */
export interface ExportOptions extends SourceOptions {
  /** The model's source, from which settings and tokenizer are copied. Default: the model's name. */
  readonly source?: string;
  /** The storage of the source. Default: the disk. */
  readonly sourceStorage?: Storage;
  /** The storage of the exported folder. Default: the disk. */
  readonly storage?: Storage;
  /** The names of the classes, in the order of the outputs. Default: the model's, or LABEL_0, LABEL_1, .. */
  readonly labels?: readonly string[];
}

const exportEntries = {
  ...sourceEntries,
  source: v.optional(aText),
  sourceStorage: v.optional(aReadStorage),
  storage: v.optional(aStorage),
  labels: anything,
} satisfies Record<keyof ExportOptions, unknown>;

/**
 * Checks the arguments of an export. Options may have other fields, so that a model can be passed for its own.
 * @param own the fields of the options besides `ExportOptions`
 * @param name what the path is called
 * @throws ConfigError naming the argument or the field.
 */
export function assertExport(
  model: Model,
  path: string,
  options: ExportOptions,
  own: v.ObjectEntries = {},
  name = 'folder',
): void {
  assertArgument('model', model, aModel);
  assertArgument(name, path, aText);
  assertArgument('options', options, v.object({ ...exportEntries, ...own }));
}

/**
 * Reads the files that an exported model copies from its source.
 * @throws CheckpointError when the folder is missing, broken or of an unknown format.
 * @throws HubError when the model is from the hub and the hub cannot be reached.
 */
export async function readSource(
  model: Model & Partial<Pick<PretrainedModel, 'subfolder' | 'commit'>>,
  { source, sourceStorage, storage: _, ...given }: ExportOptions,
): Promise<SourceFiles> {
  const { name, revision: asked, commit: revision = asked, subfolder } = model;
  const where = { ...(revision !== undefined && { revision }), ...(subfolder !== undefined && { subfolder }) };
  const options = { ...(source === undefined && where), ...given };
  const { path, format, storage } = await locate(
    source ?? name,
    sourceStorage ? { ...options, storage: sourceStorage } : options,
  );
  if (!format.files) throw fileError(path, `models of ${format.name} cannot be exported`);
  const files = untied(await format.files(modelFolder(path, storage), model), model);
  const tokenizer = new Map([...files.tokenizer, ...endings(files.tokenizer, model, files.transformers?.config)]);
  if (model.task !== 'feature-extraction') tokenizer.delete(PROMPTS_FILE);
  return { ...files, tokenizer };
}

/** Turns `tie_word_embeddings` off if merging has replaced the tied embedding table by a separate head. */
export function untied(files: SourceFiles, { tied }: Pick<Model, 'tied'>): SourceFiles {
  const { transformers } = files;
  if (!transformers || tied?.length !== 0) return files;
  const settings = { ...settingsOf(transformers.config), tie_word_embeddings: false };
  return { ...files, transformers: { ...transformers, config: { ...transformers.config, settings } } };
}

/**
 * Returns the generation_config.json of a model with a chat template, with the same end tokens as `generate`, including
 * the end of the assistant's turn. Empty for other models.
 */
function endings(files: SourceFiles['tokenizer'], model: Model, config?: ConfigFile): SourceFiles['tokenizer'] {
  const { eosTokenIds = [], tokenizer } = model as Partial<PretrainedModel>;
  if (model.task !== 'causal-lm' || !tokenizer?.chatTemplate || eosTokenIds.length === 0) return new Map();
  const bytes = files.get(GENERATION_CONFIG_FILE);
  const own = bytes ? parseJson(bytes, GENERATION_CONFIG_FILE) : generationDefaults(config);
  const [only, ...others] = eosTokenIds;
  const settings = { ...(own as object), eos_token_id: others.length === 0 ? only : eosTokenIds };
  return new Map([[GENERATION_CONFIG_FILE, encodeJson(settings)]]);
}

/** The settings that transformers reads from config.json only if there is no generation_config.json. */
function generationDefaults(config?: ConfigFile): Record<string, unknown> {
  const ids = ['bos_token_id', 'pad_token_id'].map((name) => [name, field(config?.settings, name)] as const);
  return Object.fromEntries(ids.filter(([, id]) => typeof id === 'number'));
}

/** What an export writes besides the files that every export has. */
interface Export {
  readonly library: 'transformers' | 'transformers.js';
  readonly source: SourceFiles;
  /** The content of config.json. */
  readonly config: Readonly<Record<string, unknown>>;
  /** The export's own files by name. */
  readonly own: ReadonlyMap<string, Uint8Array>;
}

/** Writes the folder of an exported model, with the files of its source, of sentence-transformers and a model card. */
export async function writeExport(
  model: Model,
  folder: string,
  { storage = diskStorage() }: ExportOptions,
  { library, source, config, own }: Export,
): Promise<void> {
  const card = ['README.md', cardOf(model, library)] as const;
  const files = new Map([...own, ...source.tokenizer, ...embeddingFiles(model, source.tokenizer), card]);
  await writeFolders(storage, [
    {
      config: {
        path: joined(folder, CONFIG_FILE),
        bytes: encodeJson(config, source.transformers?.config.floats),
      },
      others: Array.from(files, ([file, bytes]) => ({ path: joined(folder, file), bytes })),
    },
  ]);
}

/** Returns the model card, which the hub shows and indexes. */
function cardOf(model: Model, library: Export['library']): Uint8Array {
  const text = `${cardHeader(model, { library })}# ${shownName(model.name)}, adapted

Made with peftjs, for ${library}.
`;
  return new TextEncoder().encode(text);
}
