/** What an exported folder holds beside weights and settings: what comes from where the model was loaded, and the model card. */
import type { Model, Storage } from '@peftjs/core';
import { cardHeader, CheckpointError } from '@peftjs/core/method';
import type { SourceFiles } from '../checkpoint.js';
import { modelFolder } from '../folder.js';
import { encodeJson, field, parseJson } from '../json.js';
import type { PretrainedModel } from '../pretrained.js';
import { locate, type SourceOptions } from '../source.js';
import type { ConfigFile } from '../transformers/config.js';
import { embeddingFiles, PROMPTS_FILE, type Prompts } from '../transformers/sentence-transformers.js';
import { GENERATION_CONFIG_FILE } from '../transformers/tokenizer.js';
import { settingsOf } from './settings.js';

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

/**
 * Reads what an exported model takes from where it came from.
 * @throws CheckpointError when the folder is gone, broken or unknown.
 * @throws HubError when the model is of the hub, which cannot be reached.
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

/** The files with settings of a head of its own, where merging has given the model one in the place of the table of words. */
function untied(files: SourceFiles, { tied }: Pick<Model, 'tied'>): SourceFiles {
  const { transformers } = files;
  if (!transformers || tied?.length !== 0) return files;
  const settings = { ...settingsOf(transformers.config), tie_word_embeddings: false };
  return { ...files, transformers: { ...transformers, config: { ...transformers.config, settings } } };
}

/** Without the prompts, where a model embeds nothing. */
function ofTask(files: SourceFiles, task: Model['task']): SourceFiles {
  if (task === 'feature-extraction') return files;
  return { ...files, tokenizer: new Map([...files.tokenizer].filter(([file]) => file !== PROMPTS_FILE)) };
}

/**
 * The files of a tokenizer. For a model with a chat template their generation_config.json ends a text where `generate` ends it, so also
 * at the end of the assistant's turn.
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

/** What transformers takes from config.json where there is no generation_config.json, and does not look for where there is one. */
function generationDefaults(config?: ConfigFile): Record<string, unknown> {
  const ids = ['bos_token_id', 'pad_token_id'].map((name) => [name, field(config?.settings, name)] as const);
  return Object.fromEntries(ids.filter(([, id]) => typeof id === 'number'));
}

/** The model card, which the hub shows and finds a folder by. */
export const CARD_FILE = 'README.md';

export function cardOf({ name, task }: Model, library: 'transformers' | 'transformers.js'): Uint8Array {
  const text = `${cardHeader({ baseModel: name, library, task })}# ${name}, adapted

Made with peftjs, for ${library}.
`;
  return new TextEncoder().encode(text);
}

/** What sentence-transformers reads of a model for embeddings; nothing of others. */
export function sentenceFiles(
  model: Model & Partial<Pick<PretrainedModel, 'pooling' | keyof Prompts>>,
): Map<string, Uint8Array> {
  const { pooling, includePrompt = true, sites, weights, maxTokens = Infinity } = model;
  if (!pooling) return new Map();
  const width = sites.findLast(({ kind }) => kind === 'layerNorm')?.outFeatures ?? 0;
  return embeddingFiles({ ...pooling, includePrompt, width, maxTokens, weights });
}
