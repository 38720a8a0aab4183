/** The metadata of a GGUF file for the tokenizer's files of transformers: tokenizer.ts, backwards. */
import { memoryStorage } from '@peftjs/core';
import type { MetadataValue } from '@peftjs/gguf';
import { modelFolder } from '../folder.js';
import { field, fileError, listField } from '../json.js';
import type { ConfigFile } from '../transformers/config.js';
import {
  idIn,
  readTemplateSources,
  readTokenizerSettings,
  specialTokens,
  TOKENIZER_BYTES,
  TOKENIZER_FILE,
  withinTable,
} from '../transformers/tokenizer.js';
import { CUTS } from './byte-level.js';
import { assertSamePieces, hasPieces, pieceEntries } from './piece-metadata.js';
import { SPECIAL_TOKENS, TOKEN } from './vocabulary.js';

/** What a tokenizer belongs to. */
interface Owner {
  readonly config: ConfigFile;
  /** The architecture in llama.cpp. */
  readonly architecture: string;
  /** The number of rows of the embedding table. */
  readonly rows: number;
}

/**
 * Returns the metadata that describe a tokenizer.
 * @param files The tokenizer's files by name.
 * @throws CheckpointError for a tokenizer that is neither byte-level with a known pattern nor one of SentencePiece.
 */
export async function tokenizerMetadata(
  files: ReadonlyMap<string, Uint8Array>,
  { config, architecture, rows }: Owner,
): Promise<Map<string, MetadataValue>> {
  const folder = modelFolder('', memoryStorage(new Map(files)));
  const definition = withinTable(await folder.json(TOKENIZER_FILE, TOKENIZER_BYTES), rows);
  const settings = await readTokenizerSettings(folder);
  const { tokens, kinds } = vocabularyOf(definition, rows);
  const own = hasPieces(definition) ? pieceEntries(definition, tokens, kinds) : byteLevelEntries(definition);
  const named = specialTokens(settings);
  const ids = Object.entries(SPECIAL_TOKENS).flatMap(([name, key]) => {
    const id = idOf(named[name], tokens) ?? idIn(config, `${name}_id`, rows);
    return id === undefined ? [] : [[`${key}_token_id`, { type: 'uint32', value: id }] as const];
  });
  const { source, forTools } = await readTemplateSources(folder, settings);
  const { begins, ends } = surroundingsOf(definition);
  const metadata = new Map<string, MetadataValue>(
    [
      ...Object.entries(own),
      ['tokens', { type: 'array', of: 'string', value: tokens }] as const,
      ['token_type', { type: 'array', of: 'int32', value: kinds }] as const,
      ...ids,
      ['add_bos_token', { type: 'bool', value: begins }] as const,
      ['add_eos_token', { type: 'bool', value: ends }] as const,
    ].map(([key, value]): [string, MetadataValue] => [`tokenizer.ggml.${key}`, value]),
  );
  const templates = { 'tokenizer.chat_template': source, 'tokenizer.chat_template.tool_use': forTools };
  for (const [key, value] of Object.entries(templates)) {
    if (value !== undefined) metadata.set(key, { type: 'string', value });
  }
  if (hasPieces(definition)) assertSamePieces(definition, metadata, architecture);
  return metadata;
}

function byteLevelEntries(definition: unknown): Record<string, MetadataValue> {
  return {
    model: { type: 'string', value: 'gpt2' },
    pre: { type: 'string', value: cutNamed(definition) },
    merges: { type: 'array', of: 'string', value: mergesOf(definition) },
  };
}

/** Returns llama.cpp's name of the way in which a tokenizer cuts texts. @throws CheckpointError when it has none. */
function cutNamed(definition: unknown): string {
  const [model, pre] = [field(definition, 'model'), field(definition, 'pre_tokenizer')];
  const all = field(pre, 'type') === 'Sequence' ? listField(pre, 'pretokenizers', TOKENIZER_FILE) : [pre];
  const [steps, bytes] = [all.slice(0, -1), all.at(-1)];
  const own = JSON.stringify([
    steps,
    field(bytes, 'use_regex') ?? true,
    field(definition, 'normalizer') ?? null,
    field(model, 'ignore_merges') ?? false,
  ]);
  const isByteLevel =
    field(model, 'type') === 'BPE' &&
    field(bytes, 'type') === 'ByteLevel' &&
    field(bytes, 'add_prefix_space') === false;
  const [found] = Object.entries(CUTS).find(
    ([, cut]) => JSON.stringify([cut.steps, cut.cutsWords, cut.normalizer ?? null, cut.keepsWords ?? false]) === own,
  ) ?? [undefined];
  if (isByteLevel && found !== undefined) return found;
  throw fileError(
    TOKENIZER_FILE,
    `the tokenizer is not one that can be written to a GGUF file, of SentencePiece or byte-level (${Object.keys(CUTS).join(', ')}): load the base model from its GGUF file, whose tokenizer is then copied`,
  );
}

/** Returns the tokens by ID and their kinds; rows of the table without a token have one that is never used. */
function vocabularyOf(definition: unknown, rows: number): { tokens: string[]; kinds: Int32Array } {
  const tokens = Array.from({ length: rows }, (_, id) => `[PAD${id}]`);
  const kinds = new Int32Array(rows).fill(TOKEN.unused);
  const own = field(field(definition, 'model'), 'vocab') as Readonly<Record<string, number>>;
  for (const [token, id] of Object.entries(own)) [tokens[id], kinds[id]] = [token, TOKEN.normal];
  for (const token of listField(definition, 'added_tokens', TOKENIZER_FILE)) {
    const id = Number(field(token, 'id'));
    [tokens[id], kinds[id]] = [
      String(field(token, 'content')),
      field(token, 'special') === true ? TOKEN.control : TOKEN.userDefined,
    ];
  }
  return { tokens, kinds };
}

/** Returns the merges, each a pair of tokens in one text. */
function mergesOf(definition: unknown): string[] {
  const merges = listField(field(definition, 'model'), 'merges', TOKENIZER_FILE);
  return merges.map((pair) => (Array.isArray(pair) ? pair.join(' ') : String(pair)));
}

/** Returns whether texts begin with a special token, and whether they end with one. */
function surroundingsOf(definition: unknown): { begins: boolean; ends: boolean } {
  const whole = field(definition, 'post_processor');
  const steps = field(whole, 'type') === 'Sequence' ? listField(whole, 'processors', TOKENIZER_FILE) : [whole];
  const single = steps.map((step) => field(step, 'single')).find(Array.isArray) as unknown[] | undefined;
  const isSpecial = (part: unknown): boolean => field(part, 'SpecialToken') !== undefined;
  return { begins: isSpecial(single?.[0]), ends: isSpecial(single?.at(-1)) };
}

function idOf(token: string | undefined, tokens: readonly string[]): number | undefined {
  const id = token === undefined ? -1 : tokens.indexOf(token);
  return id < 0 ? undefined : id;
}
