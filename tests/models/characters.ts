import type { Storage } from '@peftjs/core';
import { folder, tiny, type Network } from './tiny.js';

/** The beginning of Shakespeare's 18th sonnet (1609, in the public domain). */
export const sonnet = `Shall I compare thee to a summer's day?
Thou art more lovely and more temperate:
Rough winds do shake the darling buds of May,
And summer's lease hath all too short a date:`;

const END = '<|endoftext|>';
const END_ID = 0;

/** ByteLevel's names for characters that are invisible. */
const NAMES: Readonly<Record<string, string>> = { ' ': 'Ġ', '\n': 'Ċ' };

const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };

/**
 * A tokenizer.json with the characters of a text as tokens, an end token before them and more special tokens after
 * them.
 */
function characterTokenizer(text: string, special: readonly string[]): unknown {
  const tokens = [END, ...Array.from(new Set(text), (character) => NAMES[character] ?? character)];
  const added = [[END, END_ID] as const, ...special.map((token, index) => [token, tokens.length + index] as const)];
  return {
    version: '1.0',
    added_tokens: added.map(([content, id]) => ({ id, content, special: true, normalized: false })),
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: { type: 'BPE', merges: [], vocab: Object.fromEntries(tokens.map((token, id) => [token, id])) },
  };
}

/**
 * The folder `tiny` in memory: a small random decoder with the characters of a text and special tokens as its
 * vocabulary.
 */
export async function characterDecoder(
  network: Extract<Network, 'gpt2' | 'llama' | 'qwen2'>,
  text: string,
  special: readonly string[] = [],
): Promise<Storage> {
  const ids = { bos_token_id: END_ID, eos_token_id: END_ID };
  const storage = folder(tiny(network), 'next', { config: ids });
  await storage.write(
    'tiny/tokenizer.json',
    new TextEncoder().encode(JSON.stringify(characterTokenizer(text, special))),
  );
  return storage;
}
