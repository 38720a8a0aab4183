import { writeFile } from 'node:fs/promises';
import { diskStorage } from '@peftjs/core';
import { folder, tiny } from '../models/tiny.js';

/** A vocabulary of characters; a space and a line end have the names that ByteLevel gives them. */
const CHARACTERS =
  'a b c d e f g h i j k l m n o p q r s t u v w x y z 0 1 2 3 4 5 6 7 8 9 . , : ; ? ! - + = < | > _ Ġ Ċ'.split(' ');

/** The id of the end-of-text token. */
export const END = 79;

const tokenizer = {
  version: '1.0',
  added_tokens: [{ id: END, content: '<|endoftext|>', special: true, normalized: false }],
  normalizer: null,
  pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
  post_processor: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: false, use_regex: true },
  decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
  model: { type: 'BPE', merges: [], vocab: Object.fromEntries(CHARACTERS.map((token, id) => [token, id])) },
};

/** Writes a small random decoder with a tokenizer of characters; like GPT-2, it has no padding token. */
export async function writeDecoder(
  to: string,
  network: 'gpt2' | 'llama' | 'qwen2',
  config: Readonly<Record<string, unknown>> = { eos_token_id: END, bos_token_id: END, pad_token_id: null },
): Promise<void> {
  const storage = folder(tiny(network), 'next', { config });
  for (const file of ['config.json', 'model.safetensors']) {
    await diskStorage().write(`${to}/${file}`, await storage.read(`tiny/${file}`));
  }
  await writeFile(`${to}/tokenizer.json`, JSON.stringify(tokenizer));
  await writeFile(`${to}/tokenizer_config.json`, JSON.stringify({ model_max_length: 48 }));
}

/** Lines that a small model can learn: sequences of consecutive numbers. */
export function counting(rows: number, shift = 0): string[] {
  return Array.from({ length: rows }, (_, row) => {
    const first = (row + shift) % 7;
    return `after ${first} comes ${first + 1}, then ${first + 2}.`;
  });
}
