import { CheckpointError } from '@peftjs/core/method';
import type { Network } from '../architecture.js';
import { createChatTemplate, endOfTurnId, MAX_TEMPLATE, type ChatTemplate } from '../chat-template.js';
import type { ModelFolder } from '../folder.js';
import { field, listField, shown } from '../json.js';
import { createTokenizer, type SpecialIds, type Tokenizer, type TokenizerDefinition } from '../tokenizer.js';
import type { ConfigFile } from './config.js';

const TOKENIZER_FILE = 'tokenizer.json';

/** How a model is to write, where it says so itself. */
export const GENERATION_CONFIG_FILE = 'generation_config.json';

/** Files of transformers that belong to a tokenizer, or say when a text ends: those that are read, and what others may ask for. */
export const TOKENIZER_FILES: readonly string[] = [
  TOKENIZER_FILE,
  GENERATION_CONFIG_FILE,
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'chat_template.jinja',
  'merges.txt',
  'sentencepiece.bpe.model',
  'spm.model',
  'tokenizer.model',
  'vocab.json',
  'vocab.txt',
];

const TOKENIZER_BYTES = 64 * 2 ** 20;

/**
 * The tokenizer of tokenizer.json, with the special tokens that the settings beside it name.
 * @throws CheckpointError when it is missing or broken, or has ids beyond the embedding table.
 */
export async function readTokenizer(folder: ModelFolder, network: Network, config: ConfigFile): Promise<Tokenizer> {
  const file = folder.pathOf(TOKENIZER_FILE);
  if (!(await folder.exists(TOKENIZER_FILE))) {
    throw new CheckpointError(
      `there is no ${file}: save the tokenizer with transformers' AutoTokenizer, which writes it from older files`,
      file,
    );
  }
  const definition = await folder.json(TOKENIZER_FILE, TOKENIZER_BYTES);
  const rows = network.sites.find(({ kind }) => kind === 'embedding')?.inFeatures ?? 0;
  const ids = checkedIds(definition, rows, file);
  const { maxTokens } = network;
  const tokenTypes = (await readsTokenTypes(folder)) ? network.tokenTypes : undefined;
  const vocabularySize = 1 + [...ids.values()].reduce((largest, id) => Math.max(largest, id), -1);
  const special = await readSpecialIds(folder, config, { ids, rows });
  return createTokenizer(definition as TokenizerDefinition, { maxTokens, vocabularySize, tokenTypes, special, file });
}

/** Whether the tokenizer gives types of tokens to a network that has some; where it does not, all of them are of type 0. */
async function readsTokenTypes(folder: ModelFolder): Promise<boolean> {
  const [settings] = await readTokenizerSettings(folder);
  const inputs = field(settings, 'model_input_names');
  return !Array.isArray(inputs) || inputs.includes('token_type_ids');
}

/** Every token and its id, which is a row of the embedding table. */
function checkedIds(definition: unknown, rows: number, file: string): Map<string, number> {
  const ids = new Map<string, number>();
  for (const [token, id] of tokenIds(definition, file)) {
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) >= rows) {
      throw new CheckpointError(
        `${file}: the id of ${shown(token)} must be a row of the embedding table, 0 to ${rows - 1}, got ${shown(id)}`,
        file,
      );
    }
    ids.set(String(token), id as number);
  }
  return ids;
}

/** Every token and its id: those of the model, by name or by place, then those that were added to them. */
function tokenIds(definition: unknown, file: string): [token: unknown, id: unknown][] {
  const vocabulary = field(field(definition, 'model'), 'vocab');
  if (typeof vocabulary !== 'object' || vocabulary === null) {
    throw new CheckpointError(`${file}: expected a tokenizer with a 'vocab', got ${shown(definition)}`, file);
  }
  const own = Array.isArray(vocabulary)
    ? vocabulary.map((entry: unknown, id): [unknown, unknown] => [Array.isArray(entry) ? entry[0] : entry, id])
    : Object.entries(vocabulary);
  const added = listField(definition, 'added_tokens', file);
  return [...own, ...added.map((token): [unknown, unknown] => [field(token, 'content'), field(token, 'id')])];
}

/** Which tokens begin, end and fill up a text: by their text in the tokenizer's settings, or by their id in config.json. */

/** Settings of a tokenizer, the later version of transformers first. */
const SETTINGS_FILES = ['tokenizer_config.json', 'special_tokens_map.json'];

/** A template for conversations may be long, and every added token has its lines. */
const SETTINGS_BYTES = 32 * 2 ** 20;

/** The vocabulary that the tokens are of. */
interface Vocabulary {
  /** Ids by token. */
  readonly ids: ReadonlyMap<string, number>;
  /** Rows of the embedding table. */
  readonly rows: number;
}

/**
 * The ids of a folder's special tokens. A token that the vocabulary lacks, or an id without a row in the embedding table, counts as
 * none: what comes next is asked.
 * @throws CheckpointError when settings are too large or no JSON.
 */
async function readSpecialIds(folder: ModelFolder, config: ConfigFile, vocabulary: Vocabulary): Promise<SpecialIds> {
  const settings = await readTokenizerSettings(folder);
  const idOf = (name: string): number | undefined => {
    const contents = settings.map((one) => contentOf(field(one, `${name}_token`)));
    const known = contents.find((content) => content !== undefined && vocabulary.ids.has(content));
    return known === undefined ? idIn(config, `${name}_token_id`, vocabulary) : vocabulary.ids.get(known);
  };
  return { eosTokenId: idOf('eos'), bosTokenId: idOf('bos'), padTokenId: idOf('pad') };
}

/**
 * What tokenizer_config.json and special_tokens_map.json hold; undefined where there is no such file.
 * @throws CheckpointError when one is too large or no JSON.
 */
async function readTokenizerSettings(folder: ModelFolder): Promise<unknown[]> {
  const settings: unknown[] = [];
  for (const file of SETTINGS_FILES) {
    settings.push((await folder.exists(file)) ? await folder.json(file, SETTINGS_BYTES) : undefined);
  }
  return settings;
}

/** A token stands as its text, or as an object with that. */
function contentOf(token: unknown): string | undefined {
  const content = typeof token === 'string' ? token : field(token, 'content');
  return typeof content === 'string' ? content : undefined;
}

/** An id, or the first of several. */
function idIn({ settings }: ConfigFile, name: string, { rows }: Vocabulary): number | undefined {
  const value = field(settings, name);
  const id: unknown = Array.isArray(value) ? value[0] : value;
  return Number.isInteger(id) && (id as number) >= 0 && (id as number) < rows ? (id as number) : undefined;
}

/** A few lines. */
const GENERATION_CONFIG_BYTES = 2 ** 20;

/**
 * The ids of the tokens that end what a model writes: those of generation_config.json, else of config.json, else of the tokenizer, and
 * the one that closes the assistant's turn in its chat template. Ids outside the vocabulary are left out.
 * @throws CheckpointError when generation_config.json is too large or no JSON.
 */
export async function readEosTokenIds(
  folder: ModelFolder,
  { settings }: ConfigFile,
  { words, tokenizer }: { readonly words: number; readonly tokenizer: Tokenizer },
): Promise<number[]> {
  const own = (await folder.exists(GENERATION_CONFIG_FILE))
    ? await folder.json(GENERATION_CONFIG_FILE, GENERATION_CONFIG_BYTES)
    : {};
  const named = field(own, 'eos_token_id') ?? field(settings, 'eos_token_id') ?? tokenizer.eosTokenId;
  const { chatTemplate, specialTokens } = tokenizer;
  const endOfTurn = chatTemplate && endOfTurnId(chatTemplate.render, specialTokens);
  const ids = new Set<unknown>([...(Array.isArray(named) ? (named as unknown[]) : [named]), endOfTurn]);
  return [...ids].filter((id): id is number => Number.isInteger(id) && (id as number) >= 0 && (id as number) < words);
}

/** A template that stands alone; it comes before one in the settings. */
const TEMPLATE_FILE = 'chat_template.jinja';
const SETTINGS_FILE = 'tokenizer_config.json';

/**
 * The chat template of a folder: chat_template.jinja, else `chat_template` of tokenizer_config.json, of several the one that is named
 * 'default'. Undefined where there is none.
 * @throws CheckpointError for a file that is too large or no text, and settings that are no JSON.
 */
export async function readChatTemplate(folder: ModelFolder): Promise<ChatTemplate | undefined> {
  const settings = await readTokenizerSettings(folder);
  const isAlone = await folder.exists(TEMPLATE_FILE);
  const source = isAlone ? await templateFile(folder) : templateIn(field(settings[0], 'chat_template'));
  if (source === undefined) return undefined;
  const file = folder.pathOf(isAlone ? TEMPLATE_FILE : SETTINGS_FILE);
  return createChatTemplate({ source, file, tokens: specialTokens(settings) });
}

async function templateFile(folder: ModelFolder): Promise<string> {
  const file = folder.pathOf(TEMPLATE_FILE);
  const bytes = await folder.bytes(TEMPLATE_FILE);
  if (bytes.length > 4 * MAX_TEMPLATE) {
    throw new CheckpointError(`${file}: expected at most ${4 * MAX_TEMPLATE} bytes, got ${bytes.length}`, file);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new CheckpointError(`${file}: expected text in UTF-8`, file, cause);
  }
}

/** A template, or the default one of a list of `{ name, template }`. */
function templateIn(setting: unknown): string | undefined {
  const chosen: unknown = Array.isArray(setting)
    ? field(
        setting.find((one) => field(one, 'name') === 'default'),
        'template',
      )
    : setting;
  return typeof chosen === 'string' && chosen.trim() !== '' ? chosen : undefined;
}

/** The tokens that settings name, the first settings first. */
function specialTokens(settings: readonly unknown[]): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const one of settings) {
    if (typeof one !== 'object' || one === null) continue;
    for (const [name, token] of Object.entries(one)) {
      const content = contentOf(token);
      if (/^[a-z]+_token$/.test(name) && content !== undefined) tokens[name] ??= content;
    }
  }
  return tokens;
}
