/**
 * The files that sentence-transformers adds to those of transformers: the modules after the network, and their
 * settings.
 */
import { CheckpointError, UnsupportedError, warnOnce, type HostTensor, type HostTensors } from '@peftjs/core/method';
import { firstNames } from '@peftjs/core/model';
import type { Model } from '@peftjs/core';
import { ONLINE, optionalJson, type ModelFolder } from '../folder.js';
import { encodeJson, field, fileError, parseJson, shown } from '../json.js';
import { areModes, modesOf, POOLING_MODES, type EmbeddingModule, type Pooling, type PoolingMode } from '../pooling.js';
import {
  assertField,
  MODULE_READERS,
  moduleFiles,
  readModule,
  SETTINGS_BYTES,
  settingsOf,
} from './embedding-modules.js';
import { limitIn, TOKENIZER_SETTINGS } from './tokenizer.js';

/** The file with the list of modules. */
export const MODULES_FILE = 'modules.json';
const POOLING_FILE = '1_Pooling/config.json';
/** The settings of the network. */
const LENGTH_FILE = 'sentence_bert_config.json';
/** Their possible names, in the order in which they are searched for. */
const LENGTH_FILES = ['bert', 'roberta', 'distilbert', 'camembert', 'albert', 'xlm-roberta', 'xlnet'].map(
  (network) => `sentence_${network}_config.json`,
);
/** Matches the settings and weights of a module after the network. Old models have the network itself in `0_Transformer`. */
const MODULE = /^[1-9]\d*_\w+\/(?:config\.json|model\.safetensors)$/;

/** The file with the prompts. Other versions have them in the tokenizer's settings. */
export const PROMPTS_FILE = 'config_sentence_transformers.json';

/** Whether sentence-transformers has a file of this path in a model's folder besides those of transformers. */
export function isEmbeddingFile(path: string): boolean {
  return [MODULES_FILE, PROMPTS_FILE, ...LENGTH_FILES].includes(path) || MODULE.test(path);
}

/** Prompts: texts put before the text to embed, e.g. `query: `. */
export interface Prompts {
  /** The prompts by name. Default: none. */
  readonly prompts?: Readonly<Record<string, string>>;
  /** The name of the prompt to use if a call names none. Default: no prompt. */
  readonly defaultPromptName?: string;
  /** Whether the pooling includes the tokens of the prompt. Default true. */
  readonly includePrompt?: boolean;
}

/** The embedding settings of a sentence-transformers folder. */
export interface EmbeddingSettings extends Pooling, Prompts {
  /** The maximum number of tokens: longer texts are truncated. Default: the network's. */
  readonly maxTokens?: number;
  /** Whether texts must be lowercased before they are tokenised. Default false. */
  readonly lowercase?: boolean;
  /** The weights of `modules`. */
  readonly weights: HostTensors;
}

/**
 * Reads how the model of a folder embeds texts. Undefined if the folder is not from sentence-transformers.
 * @throws UnsupportedError naming a module or setting that is not supported.
 * @throws CheckpointError for broken settings or weights.
 */
export async function readEmbeddingSettings(folder: ModelFolder): Promise<EmbeddingSettings | undefined> {
  const file = folder.pathOf(MODULES_FILE);
  if (!(await folder.exists(MODULES_FILE))) {
    const hint = `If the model is from sentence-transformers, ${ONLINE}; until then, its pooling and prompts are unknown`;
    if (folder.isFromCache) warnOnce(`${file} is not in the cache. ${hint}`);
    return undefined;
  }
  const list = await folder.json(MODULES_FILE, SETTINGS_BYTES);
  if (!Array.isArray(list)) throw fileError(file, 'expected a list of modules');
  const kinds = list.map((module) => kindOf(module, file));
  const after = kinds.slice(2);
  if (
    kinds[0] !== 'Transformer' ||
    kinds[1] !== 'Pooling' ||
    !after.every((kind) => Object.hasOwn(MODULE_READERS, kind))
  ) {
    throw new UnsupportedError(
      `${file}: expected the modules Transformer, Pooling, then any of ${Object.keys(MODULE_READERS).join(', ')}; got ${firstNames(kinds)}`,
      file,
    );
  }
  const normalize = after.at(-1) === 'Normalize';
  const modules: EmbeddingModule[] = [];
  for (const [index, kind] of (normalize ? after.slice(0, -1) : after).entries()) {
    const path = kind === 'Normalize' ? '' : pathOf(list[index + 2], file);
    modules.push(await MODULE_READERS[kind as keyof typeof MODULE_READERS](folder, path));
  }
  const own = await readPooling(folder, pathOf(list[1], file), modules);
  const weights: Record<string, HostTensor> = {};
  for (const module of modules) Object.assign(weights, await readModule(folder, module));
  return {
    ...own,
    normalize,
    ...(modules.length > 0 && { modules }),
    weights,
    ...(await readLength(folder)),
    ...(await readPrompts(folder)),
  };
}

/**
 * Returns the class name of a module without its Python path, which changes between versions. The classes of other
 * packages may compute anything.
 */
function kindOf(module: unknown, file: string): string {
  const type = field(module, 'type');
  if (typeof type !== 'string') throw fileError(file, `expected modules with a 'type', got ${shown(module)}`);
  const [, kind] = /^sentence_transformers\.(?:.*\.)?(\w+)$/.exec(type) ?? [];
  if (kind !== undefined) return kind;
  throw new UnsupportedError(`${file}: expected modules of sentence_transformers, got ${shown(type)}`, file);
}

/** Returns the folder of a module, which must be directly inside. */
function pathOf(module: unknown, file: string): string {
  const path = field(module, 'path');
  if (typeof path === 'string' && /^[\w-]+$/.test(path)) return path;
  throw fileError(file, `expected a module's 'path' to be a folder here, got ${shown(path)}`);
}

const SWITCHES: Readonly<Record<PoolingMode, string>> = {
  cls: 'pooling_mode_cls_token',
  max: 'pooling_mode_max_tokens',
  mean: 'pooling_mode_mean_tokens',
  mean_sqrt_len_tokens: 'pooling_mode_mean_sqrt_len_tokens',
  weightedmean: 'pooling_mode_weightedmean_tokens',
  lasttoken: 'pooling_mode_lasttoken',
};

/**
 * Reads the pooling. Since version 6, settings name the modes; before, they have a switch for each. Default: the mean.
 */
async function readPooling(
  folder: ModelFolder,
  path: string,
  modules: readonly EmbeddingModule[],
): Promise<Pick<EmbeddingSettings, 'pooling' | 'includePrompt'>> {
  const { file, settings } = await settingsOf(folder, path);
  const switched = POOLING_MODES.filter((mode) => field(settings, SWITCHES[mode]) === true);
  const named = field(settings, 'pooling_mode') ?? (switched.length === 0 ? ['mean'] : switched);
  const modes = [named].flat() as unknown[];
  if (!areModes(modes)) {
    throw new UnsupportedError(
      `${file}: expected pooling modes of ${POOLING_MODES.join(', ')}; got ${firstNames(modes.map(String))}`,
      file,
    );
  }
  const [first, ...others] = modes;
  const width = field(settings, 'embedding_dimension') ?? field(settings, 'word_embedding_dimension');
  checkWidths(typeof width === 'number' ? width * modes.length : undefined, modules, file);
  return {
    pooling: others.length === 0 ? first : [first, ...others],
    ...(field(settings, 'include_prompt') === false && { includePrompt: false }),
  };
}

/** @throws CheckpointError naming the first module whose input width is not the previous module's output width. */
function checkWidths(pooledWidth: number | undefined, modules: readonly EmbeddingModule[], file: string): void {
  let width = pooledWidth;
  for (const module of modules) {
    if (module.kind === 'Normalize') continue;
    const reads = module.kind === 'Dense' ? module.inFeatures : module.features;
    if (width !== undefined && width !== reads) {
      throw new CheckpointError(`${file}: '${module.path}' reads ${reads} features but gets ${width}`, module.path);
    }
    width = module.kind === 'Dense' ? module.outFeatures : width;
  }
}

/**
 * Reads the maximum length: what Python calls the tokenizer with, else what it makes it with, else the tokenizer's own.
 * @throws UnsupportedError for other kinds of networks.
 */
async function readLength(folder: ModelFolder): Promise<Pick<EmbeddingSettings, 'maxTokens' | 'lowercase'>> {
  const name = await lengthFile(folder);
  const own = await optionalJson(folder, name, SETTINGS_BYTES);
  const file = folder.pathOf(name);
  assertField(file, own, 'transformer_task', ['feature-extraction', undefined]);
  assertField(file, own, 'module_output_name', ['token_embeddings', undefined]);
  const output = field(field(field(own, 'modality_config'), 'text'), 'method_output_name');
  assertField(file, { method_output_name: output }, 'method_output_name', ['last_hidden_state', undefined]);
  const ofTokenizer = await optionalJson(folder, TOKENIZER_SETTINGS, 32 * SETTINGS_BYTES);
  const called = field(own, 'processing_kwargs');
  const ofText = field(called, 'text');
  const made = field(own, 'tokenizer_args') ?? field(own, 'processor_kwargs');
  assertOnly(file, called, ['text']);
  assertOnly(file, ofText, ['max_length']);
  assertOnly(file, made, ['model_max_length', 'trust_remote_code']); // Python never reads the latter
  const length =
    field(ofText, 'max_length') ??
    field(made, 'model_max_length') ??
    field(own, 'max_seq_length') ??
    field(ofTokenizer, 'model_max_length');
  const maxTokens = limitIn(length);
  return {
    ...(maxTokens && { maxTokens }),
    ...(field(own, 'do_lower_case') === true && { lowercase: true }),
  };
}

async function lengthFile(folder: ModelFolder): Promise<string> {
  for (const name of LENGTH_FILES) if (await folder.exists(name)) return name;
  return LENGTH_FILE;
}

/** @throws UnsupportedError naming the first other field of an object of settings. */
function assertOnly(file: string, settings: unknown, known: readonly string[]): void {
  const other = Object.keys(settings ?? {}).find((name) => !known.includes(name));
  if (other !== undefined) assertField(file, settings, other, [undefined]);
}

async function readPrompts(folder: ModelFolder): Promise<Prompts> {
  const file = folder.pathOf(PROMPTS_FILE);
  const settings = await optionalJson(folder, PROMPTS_FILE, SETTINGS_BYTES);
  const named = field(settings, 'prompts') ?? {};
  const entries = Object.entries(named).filter(([, prompt]) => prompt !== null);
  if (!entries.every(([, prompt]) => typeof prompt === 'string')) {
    throw fileError(file, `'prompts' must be texts by name, got ${shown(named)}`);
  }
  const prompts = Object.fromEntries(entries) as Record<string, string>;
  const name = field(settings, 'default_prompt_name');
  if (typeof name === 'string' && !Object.hasOwn(named, name)) {
    throw fileError(file, `there is no prompt of the 'default_prompt_name' ${shown(name)}`);
  }
  return {
    ...(entries.length > 0 && { prompts }),
    ...(typeof name === 'string' && Object.hasOwn(prompts, name) && { defaultPromptName: name }),
  };
}

/**
 * Returns the files of an embedding model by name, where possible in a form that all versions of the library read. None
 * for other models.
 * @param others Other files of its source. Settings beside the prompts, such as the similarity of texts, are kept.
 */
export function embeddingFiles(
  model: Pick<Model, 'sites' | 'weights' | 'maxTokens'> & Prompts & { readonly pooling?: Pooling },
  others: ReadonlyMap<string, Uint8Array> = new Map(),
): Map<string, Uint8Array> {
  if (!model.pooling) return new Map();
  const { prompts = {}, defaultPromptName = null } = model;
  const own = others.get(PROMPTS_FILE);
  const { pooling, normalize, modules = [] } = model.pooling;
  const { sites, weights, maxTokens = Infinity, includePrompt } = model;
  const width = sites.findLast(({ kind }) => kind === 'layerNorm')?.outFeatures ?? 0;
  const all = [...modules, ...(normalize ? [{ kind: 'Normalize' } as const] : [])];
  const kinds = ['Transformer', 'Pooling', ...all.map(({ kind }) => kind)];
  const folders = kinds.map((kind, index) => (index === 0 ? '' : `${index}_${kind}`));
  const settings = {
    [MODULES_FILE]: kinds.map((kind, idx) => ({
      idx,
      name: String(idx),
      path: folders[idx],
      type: `sentence_transformers.models.${kind}`,
    })),
    [POOLING_FILE]: poolingSettings(modesOf(pooling), width, includePrompt),
    [LENGTH_FILE]: { max_seq_length: maxTokens, do_lower_case: false },
    [PROMPTS_FILE]: {
      ...(own && (parseJson(own, PROMPTS_FILE) as object)),
      prompts,
      default_prompt_name: defaultPromptName,
    },
  };
  return new Map([
    ...Object.entries(settings).map(([name, value]) => [name, encodeJson(value)] as const),
    ...modules.flatMap((module, index) => moduleFiles(module, folders[index + 2] as string, weights)),
  ]);
}

/**
 * Writes switches, which all versions read. Modes in another order are written by name, which only versions since 6
 * read.
 */
function poolingSettings(modes: readonly PoolingMode[], width: number, includePrompt = true): Record<string, unknown> {
  const isInOrder = modes.join() === POOLING_MODES.filter((mode) => modes.includes(mode)).join();
  const always: readonly PoolingMode[] = ['cls', 'mean', 'max', 'mean_sqrt_len_tokens'];
  const shownModes = [...always, ...modes.filter((mode) => !always.includes(mode))];
  return {
    word_embedding_dimension: width,
    ...(isInOrder
      ? Object.fromEntries(shownModes.map((mode) => [SWITCHES[mode], modes.includes(mode)]))
      : { pooling_mode: modes }),
    ...(!includePrompt && { include_prompt: false }),
  };
}
