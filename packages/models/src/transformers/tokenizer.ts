import { CheckpointError } from '@peftjs/core';
import type { Network } from '../architecture.js';
import type { ModelFolder } from '../folder.js';
import { field, listField, shown } from '../json.js';
import { createTokenizer, type Tokenizer, type TokenizerDefinition } from '../tokenizer.js';
import type { ConfigFile } from './config.js';
import { GENERATION_CONFIG_FILE } from './generation-config.js';
import { readSpecialIds } from './special-tokens.js';

const TOKENIZER_FILE = 'tokenizer.json';

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
  const { maxTokens, tokenTypes } = network;
  const vocabularySize = 1 + [...ids.values()].reduce((largest, id) => Math.max(largest, id), -1);
  const special = await readSpecialIds(folder, config, { ids, rows });
  return createTokenizer(definition as TokenizerDefinition, { maxTokens, vocabularySize, tokenTypes, special, file });
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
