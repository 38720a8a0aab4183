import { CheckpointError, warnOnce } from '@peftjs/core/method';
import { firstNames } from '@peftjs/core/model';
import type { Network } from '../architecture.js';
import { createChatTemplate, endOfTurnId, MAX_TEMPLATE, type ChatTemplate } from '../chat-template.js';
import { optionalJson, type ModelFolder } from '../folder.js';
import { field, fileError, listField, shown } from '../json.js';
import { createTokenizer, type SpecialIds, type Tokenizer, type TokenizerDefinition } from '../tokenizer.js';
import type { ConfigFile } from './config.js';

/** The file with the whole definition of a tokenizer. */
export const TOKENIZER_FILE = 'tokenizer.json';

/** The newer file of tokenizer settings. */
export const TOKENIZER_SETTINGS = 'tokenizer_config.json';

/** The file with a model's generation settings. */
export const GENERATION_CONFIG_FILE = 'generation_config.json';

/**
 * The files of transformers that belong to a tokenizer or define the end of a text. Some are only for other libraries.
 */
export const TOKENIZER_FILES: readonly string[] = [
  TOKENIZER_FILE,
  GENERATION_CONFIG_FILE,
  TOKENIZER_SETTINGS,
  'special_tokens_map.json',
  'added_tokens.json',
  'chat_template.jinja',
  'additional_chat_templates/tool_use.jinja',
  'merges.txt',
  'sentencepiece.bpe.model',
  'spm.model',
  'tokenizer.model',
  'vocab.json',
  'vocab.txt',
];

/** The maximum size of tokenizer.json in bytes. */
export const TOKENIZER_BYTES = 64 * 2 ** 20;

/**
 * Reads the tokenizer of tokenizer.json, with the special tokens named in the other settings.
 * @throws CheckpointError when it is missing or broken, or has IDs outside the embedding table.
 */
export async function readTokenizer(
  folder: ModelFolder,
  network: Network,
  config: ConfigFile,
  settings: readonly unknown[],
): Promise<Tokenizer> {
  const file = folder.pathOf(TOKENIZER_FILE);
  if (!(await folder.exists(TOKENIZER_FILE))) {
    throw new CheckpointError(
      `there is no ${file}: save the tokenizer with transformers' AutoTokenizer, which writes it from older files`,
      file,
    );
  }
  const rows = network.sites.find(({ kind }) => kind === 'embedding')?.inFeatures ?? 0;
  const definition = withinTable(await folder.json(TOKENIZER_FILE, TOKENIZER_BYTES), rows);
  warnOfOtherNormalizer(field(definition, 'normalizer'), settings[0], file);
  const ids = checkedIds(definition, rows, file);
  const { maxTokens } = network;
  const inputs = field(settings[0], 'model_input_names');
  // A tokenizer may return no token types: then all tokens have type 0.
  const tokenTypes = !Array.isArray(inputs) || inputs.includes('token_type_ids') ? network.tokenTypes : undefined;
  const vocabularySize = 1 + [...ids.values()].reduce((largest, id) => Math.max(largest, id), -1);
  const special = specialIds(settings, config, { ids, rows });
  const keepsEnd = field(settings[0], 'truncation_side') === 'left';
  // As in transformers 5, add_bos_token and add_eos_token are not read: the post-processor of tokenizer.json decides.
  const limits = { maxTokens, vocabularySize, tokenTypes, special, keepsEnd, file };
  return createTokenizer(definition as TokenizerDefinition, limits);
}

/** Options of BERT's normalizer in tokenizer.json, by their names in the settings. */
const NORMALIZER = {
  do_lower_case: 'lowercase',
  tokenize_chinese_chars: 'handle_chinese_chars',
  strip_accents: 'strip_accents',
};

/** Warns where the settings contradict tokenizer.json: transformers follows them, other libraries do not. */
function warnOfOtherNormalizer(normalizer: unknown, settings: unknown, file: string): void {
  const isFollowed = !/^(PreTrainedTokenizerFast|TokenizersBackend)$/.test(String(field(settings, 'tokenizer_class')));
  if (!isFollowed || field(normalizer, 'type') !== 'BertNormalizer') return;
  for (const [name, own] of Object.entries(NORMALIZER)) {
    const [asked = null, has] = [field(settings, name), field(normalizer, own)];
    if (asked === null || asked === has) continue;
    warnOnce(
      `${file} has '${own}' ${shown(has)}, as it is read here, but ${TOKENIZER_SETTINGS} has '${name}' ${shown(asked)}, which transformers follows: save the tokenizer with AutoTokenizer`,
    );
  }
}

/**
 * Leaves out special tokens without a row in the embedding table, such as the one for images in Gemma 3's text models.
 * Their text is then read like any other.
 */
export function withinTable(definition: unknown, rows: number): unknown {
  const added = field(definition, 'added_tokens');
  if (!Array.isArray(added)) return definition;
  const isOutside = (token: unknown): boolean => field(token, 'special') === true && Number(field(token, 'id')) >= rows;
  const outside: unknown[] = added.filter(isOutside);
  if (outside.length === 0) return definition;
  const names = firstNames(outside.map((token) => shown(field(token, 'content'))));
  warnOnce(`the model has no embedding of the special tokens ${names}: their text is read like any other`);
  return { ...(definition as object), added_tokens: added.filter((token) => !isOutside(token)) };
}

/** The maximum length of a token. Published ones have up to a few hundred characters, of blanks or dashes. */
const MAX_TOKEN = 2 ** 14;

/** Returns the IDs of all tokens. @throws CheckpointError for an ID outside the embedding table, and a long token. */
function checkedIds(definition: unknown, rows: number, file: string): Map<string, number> {
  const ids = new Map<string, number>();
  for (const [token, id] of tokenIds(definition, file)) {
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) >= rows) {
      throw fileError(
        file,
        `the id of ${shown(token)} must be a row of the embedding table, 0 to ${rows - 1}, got ${shown(id)}`,
      );
    }
    const text = String(token);
    if (text.length > MAX_TOKEN) {
      throw fileError(file, `the token of id ${shown(id)} has more than ${MAX_TOKEN} characters`);
    }
    ids.set(text, id as number);
  }
  return ids;
}

/** Returns every token with its ID: the model's tokens, by name or by position, then the added ones. */
function tokenIds(definition: unknown, file: string): [token: unknown, id: unknown][] {
  const vocabulary = field(field(definition, 'model'), 'vocab');
  if (typeof vocabulary !== 'object' || vocabulary === null) {
    throw fileError(file, `expected a tokenizer with a 'vocab', got ${shown(definition)}`);
  }
  const own = Array.isArray(vocabulary)
    ? vocabulary.map((entry: unknown, id): [unknown, unknown] => [Array.isArray(entry) ? entry[0] : entry, id])
    : Object.entries(vocabulary);
  const added = listField(definition, 'added_tokens', file);
  return [...own, ...added.map((token): [unknown, unknown] => [field(token, 'content'), field(token, 'id')])];
}

/** The maximum size of tokenizer settings: a chat template may be long, and each added token takes several lines. */
const SETTINGS_BYTES = 32 * 2 ** 20;

/** The vocabulary of the tokens. */
interface Vocabulary {
  /** The IDs by token. */
  readonly ids: ReadonlyMap<string, number>;
  /** The number of rows of the embedding table. */
  readonly rows: number;
}

/**
 * Returns the IDs of the start, end and padding tokens: by text in the tokenizer's settings, or by ID in config.json. A
 * token outside the vocabulary, or an ID outside the embedding table, is ignored, and the next file is tried.
 */
function specialIds(settings: readonly unknown[], config: ConfigFile, vocabulary: Vocabulary): SpecialIds {
  const idOf = (name: string): number | undefined => {
    const contents = settings.map((one) => contentOf(field(one, `${name}_token`)));
    const known = contents.find((content) => content !== undefined && vocabulary.ids.has(content));
    return known === undefined ? idIn(config, `${name}_token_id`, vocabulary.rows) : vocabulary.ids.get(known);
  };
  return { eosTokenId: idOf('eos'), bosTokenId: idOf('bos'), padTokenId: idOf('pad') };
}

/**
 * Reads tokenizer_config.json and special_tokens_map.json; undefined for a missing file.
 * @throws CheckpointError when one is too large or not JSON.
 */
export async function readTokenizerSettings(folder: ModelFolder): Promise<unknown[]> {
  const settings: unknown[] = [];
  for (const file of [TOKENIZER_SETTINGS, 'special_tokens_map.json']) {
    settings.push(await optionalJson(folder, file, SETTINGS_BYTES));
  }
  return settings;
}

/** Returns a limit of tokens in the settings; undefined for 1e30 and its like, which stand for none. */
export function limitIn(length: unknown): number | undefined {
  return Number.isInteger(length) && (length as number) > 0 && (length as number) < 1e9
    ? (length as number)
    : undefined;
}

/** Returns the text of a token, which is a string or an object with `content`. */
function contentOf(token: unknown): string | undefined {
  const content = typeof token === 'string' ? token : field(token, 'content');
  return typeof content === 'string' ? content : undefined;
}

/** Returns an ID in config.json, or the first of several; undefined for one without a row in the embedding table. */
export function idIn({ settings }: ConfigFile, name: string, rows: number): number | undefined {
  const value = field(settings, name);
  const id: unknown = Array.isArray(value) ? value[0] : value;
  return Number.isInteger(id) && (id as number) >= 0 && (id as number) < rows ? (id as number) : undefined;
}

/** The maximum size of generation_config.json, which is normally a few lines. */
const GENERATION_CONFIG_BYTES = 2 ** 20;

/**
 * Reads the IDs of the tokens that end a generated text: from generation_config.json, else config.json, else the
 * tokenizer, plus the end-of-turn token of the chat template. IDs outside the vocabulary are ignored.
 * @throws CheckpointError when generation_config.json is too large or not JSON.
 */
export async function readEosTokenIds(
  folder: ModelFolder,
  { settings }: ConfigFile,
  { words, tokenizer }: { readonly words: number; readonly tokenizer: Tokenizer },
): Promise<number[]> {
  const own = await optionalJson(folder, GENERATION_CONFIG_FILE, GENERATION_CONFIG_BYTES);
  const named = field(own, 'eos_token_id') ?? field(settings, 'eos_token_id') ?? tokenizer.eosTokenId;
  const { chatTemplate, specialTokens } = tokenizer;
  const endOfTurn = chatTemplate && endOfTurnId(chatTemplate.render, specialTokens);
  const ids = new Set<unknown>([...(Array.isArray(named) ? (named as unknown[]) : [named]), endOfTurn]);
  return [...ids].filter((id): id is number => Number.isInteger(id) && (id as number) >= 0 && (id as number) < words);
}

/** The file of a separate template, which takes precedence over one in the settings. */
const TEMPLATE_FILE = 'chat_template.jinja';

/** The file of a separate template for conversations with tools. */
const TOOLS_TEMPLATE_FILE = 'additional_chat_templates/tool_use.jinja';

/**
 * Reads the chat template of a folder. Undefined if there is none. If there is another one for tools, it renders the
 * conversations that have tools, as in transformers.
 * @throws CheckpointError for a file that is too large or not UTF-8, and for settings that are not JSON.
 */
export async function readChatTemplate(
  folder: ModelFolder,
  settings: readonly unknown[],
): Promise<ChatTemplate | undefined> {
  const { source, forTools } = await readTemplateSources(folder, settings);
  if (source === undefined) return undefined;
  const tokens = specialTokens(settings);
  const templateOf = async (text: string, name: string): Promise<ChatTemplate> => {
    const file = folder.pathOf((await folder.exists(name)) ? name : TOKENIZER_SETTINGS);
    return createChatTemplate({ source: text, file, tokens });
  };
  const own = await templateOf(source, TEMPLATE_FILE);
  if (forTools === undefined) return own;
  const withTools = await templateOf(forTools, TOOLS_TEMPLATE_FILE);
  const render: ChatTemplate['render'] = (messages, options) =>
    (options.tools ? withTools : own).render(messages, options);
  return { source, toolSource: forTools, render };
}

/** The texts of a folder's chat templates. */
interface TemplateSources {
  readonly source: string | undefined;
  /** The one for conversations with tools, if they have their own. */
  readonly forTools: string | undefined;
}

/**
 * Reads the texts of chat templates: the separate files, else `chat_template` in tokenizer_config.json, where several
 * are named 'default' and 'tool_use'.
 * @throws CheckpointError for a file that is too large or not UTF-8.
 */
export async function readTemplateSources(folder: ModelFolder, settings: readonly unknown[]): Promise<TemplateSources> {
  const source = await templateFile(folder, TEMPLATE_FILE);
  const forTools = await templateFile(folder, TOOLS_TEMPLATE_FILE);
  if (source !== undefined) return { source, forTools };
  const setting = field(settings[0], 'chat_template');
  return { source: templateIn(setting, 'default'), forTools: forTools ?? templateIn(setting, 'tool_use') };
}

async function templateFile(folder: ModelFolder, name: string): Promise<string | undefined> {
  if (!(await folder.exists(name))) return undefined;
  const file = folder.pathOf(name);
  const bytes = await folder.bytes(name);
  if (bytes.length > 4 * MAX_TEMPLATE) {
    throw fileError(file, `expected at most ${4 * MAX_TEMPLATE} bytes, got ${bytes.length}`);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw fileError(file, 'expected text in UTF-8', cause);
  }
}

/** Returns a template by name from a list of `{ name, template }`; a single one is the default. */
function templateIn(setting: unknown, name: string): string | undefined {
  const all: readonly unknown[] = Array.isArray(setting) ? setting : [{ name: 'default', template: setting }];
  const named = all.find((one) => field(one, 'name') === name);
  const chosen = field(named, 'template');
  return typeof chosen === 'string' && chosen.trim() !== '' ? chosen : undefined;
}

/** Returns the special tokens by name. Earlier settings take precedence. */
export function specialTokens(settings: readonly unknown[]): Record<string, string> {
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
