/**
 * The files of an exported folder other than weights and settings: those copied from the model's source, and the model
 * card.
 */
import type { Model, Storage } from '@peftjs/core';
import {
  anything,
  assertArgument,
  aModel,
  aReadStorage,
  aStorage,
  aText,
  cardHeader,
  CheckpointError,
} from '@peftjs/core/method';
import * as v from 'valibot';
import type { SourceFiles } from '../checkpoint.js';
import { modelFolder } from '../folder.js';
import { encodeJson, field, parseJson } from '../json.js';
import type { PretrainedModel } from '../pretrained.js';
import { locate, sourceEntries, type SourceOptions } from '../source.js';
import type { ConfigFile } from '../transformers/config.js';
import { embeddingFiles, PROMPTS_FILE, type Prompts } from '../transformers/sentence-transformers.js';
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
 * @throws ConfigError naming the argument or the field.
 */
export function assertExport(model: Model, folder: string, options: ExportOptions, own: v.ObjectEntries = {}): void {
  assertArgument('model', model, aModel);
  assertArgument('folder', folder, aText);
  assertArgument('options', options, v.object({ ...exportEntries, ...own }));
}

/**
 * Reads the files that an exported model copies from its source.
 * @throws CheckpointError when the folder is missing, broken or of an unknown format.
 * @throws HubError when the model is from the hub and the hub cannot be reached.
 */
export async function readSource(
  model: Pick<Model, 'name' | 'sites' | 'task' | 'tied'>,
  { source = model.name, sourceStorage, storage: _, ...options }: ExportOptions,
): Promise<SourceFiles> {
  const from = sourceStorage ? { ...options, storage: sourceStorage } : options;
  const { path, format, storage } = await locate(source, from);
  const folder = modelFolder(path, storage);
  if (format.files) return ofTask(untied(await format.files(folder, model), model), model.task);
  throw new CheckpointError(`${path}: models of ${format.name} cannot be exported`, path);
}

/** Turns `tie_word_embeddings` off if merging has replaced the tied embedding table by a separate head. */
function untied(files: SourceFiles, { tied }: Pick<Model, 'tied'>): SourceFiles {
  const { transformers } = files;
  if (!transformers || tied?.length !== 0) return files;
  const settings = { ...settingsOf(transformers.config), tie_word_embeddings: false };
  return { ...files, transformers: { ...transformers, config: { ...transformers.config, settings } } };
}

/** Drops the prompts unless the model computes embeddings. */
function ofTask(files: SourceFiles, task: Model['task']): SourceFiles {
  if (task === 'feature-extraction') return files;
  return { ...files, tokenizer: new Map([...files.tokenizer].filter(([file]) => file !== PROMPTS_FILE)) };
}

/**
 * Returns the tokenizer's files. For a model with a chat template, generation_config.json gets the same end tokens as
 * `generate`, including the end of the assistant's turn.
 */
export function withEndings(
  files: SourceFiles['tokenizer'],
  model: Model,
  config?: ConfigFile,
): SourceFiles['tokenizer'] {
  const { eosTokenIds = [], tokenizer } = model as Partial<PretrainedModel>;
  if (model.task !== 'causal-lm' || !tokenizer?.chatTemplate || eosTokenIds.length === 0) return files;
  const bytes = files.get(GENERATION_CONFIG_FILE);
  const own = bytes ? parseJson(bytes, GENERATION_CONFIG_FILE) : generationDefaults(config);
  const [only, ...others] = eosTokenIds;
  const settings = { ...(own as object), eos_token_id: others.length === 0 ? only : eosTokenIds };
  return new Map(files).set(GENERATION_CONFIG_FILE, encodeJson(settings));
}

/** The settings that transformers reads from config.json only if there is no generation_config.json. */
function generationDefaults(config?: ConfigFile): Record<string, unknown> {
  const ids = ['bos_token_id', 'pad_token_id'].map((name) => [name, field(config?.settings, name)] as const);
  return Object.fromEntries(ids.filter(([, id]) => typeof id === 'number'));
}

/** The model card: the hub shows it and indexes folders by it. */
export const CARD_FILE = 'README.md';

/** Returns the model card of an exported model. */
export function cardOf({ name, task }: Model, library: 'transformers' | 'transformers.js'): Uint8Array {
  const text = `${cardHeader({ baseModel: name, library, task })}# ${name}, adapted

Made with peftjs, for ${library}.
`;
  return new TextEncoder().encode(text);
}

/** Returns the files that sentence-transformers reads, for an embedding model. Empty for other models. */
export function sentenceFiles(
  model: Model & Partial<Pick<PretrainedModel, 'pooling' | keyof Prompts>>,
): Map<string, Uint8Array> {
  const { pooling, includePrompt = true, sites, weights, maxTokens = Infinity } = model;
  if (!pooling) return new Map();
  const width = sites.findLast(({ kind }) => kind === 'layerNorm')?.outFeatures ?? 0;
  return embeddingFiles({ ...pooling, includePrompt, width, maxTokens, weights });
}
