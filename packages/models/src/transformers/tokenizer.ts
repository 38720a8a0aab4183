import { CheckpointError } from '@peftjs/core';
import type { Network } from '../architecture.js';
import type { ModelFolder } from '../folder.js';
import { field, listField, shown } from '../json.js';
import { createTokenizer, type Tokenizer, type TokenizerDefinition } from '../tokenizer.js';

const TOKENIZER_FILE = 'tokenizer.json';
const TOKENIZER_BYTES = 64 * 2 ** 20;

/**
 * The tokenizer of tokenizer.json.
 * @throws CheckpointError when it is missing or broken, or has ids beyond the embedding table.
 */
export async function readTokenizer(folder: ModelFolder, network: Network): Promise<Tokenizer> {
  const file = folder.pathOf(TOKENIZER_FILE);
  if (!(await folder.exists(TOKENIZER_FILE))) {
    throw new CheckpointError(
      `there is no ${file}: save the tokenizer with transformers' AutoTokenizer, which writes it from older files`,
      file,
    );
  }
  const definition = await folder.json(TOKENIZER_FILE, TOKENIZER_BYTES);
  const vocabularySize = checkedSize(definition, network, file);
  const { maxTokens, tokenTypes } = network;
  return createTokenizer(definition as TokenizerDefinition, { maxTokens, vocabularySize, tokenTypes, file });
}

/** One more than the largest id. */
function checkedSize(definition: unknown, { sites }: Network, file: string): number {
  const rows = sites.find(({ kind }) => kind === 'embedding')?.inFeatures ?? 0;
  let size = 0;
  for (const [token, id] of tokenIds(definition, file)) {
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) >= rows) {
      throw new CheckpointError(
        `${file}: the id of ${shown(token)} must be a row of the embedding table, 0 to ${rows - 1}, got ${shown(id)}`,
        file,
      );
    }
    size = Math.max(size, (id as number) + 1);
  }
  return size;
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
