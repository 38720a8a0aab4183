import { openGguf, writeGguf, type MetadataValue } from '@peftjs/gguf';
import { bytesSource } from '@peftjs/safetensors';
import { expect, it } from 'vitest';
import { tokenizerFilesOf } from './tokenizer.js';

/** The tokenizer.json of a file of SentencePiece with these tokens, scores and kinds. */
async function tokenizerWith(architecture: string, tokens: readonly (readonly [string, number, number])[]) {
  const metadata = new Map<string, MetadataValue>([
    ['general.architecture', { type: 'string', value: architecture }],
    ['tokenizer.ggml.model', { type: 'string', value: 'llama' }],
    ['tokenizer.ggml.tokens', { type: 'array', of: 'string', value: tokens.map(([token]) => token) }],
    ['tokenizer.ggml.scores', { type: 'array', of: 'float32', value: Float32Array.from(tokens, ([, score]) => score) }],
    ['tokenizer.ggml.token_type', { type: 'array', of: 'int32', value: Int32Array.from(tokens, ([, , kind]) => kind) }],
  ]);
  const files = tokenizerFilesOf(await openGguf(bytesSource(writeGguf({}, metadata))), 'model.gguf');
  return files['tokenizer.json'] as {
    added_tokens: { content: string; special: boolean; rstrip: boolean }[];
    model: { merges: unknown; unk_token: unknown; vocab: Record<string, number> };
  };
}

const [NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED] = [1, 2, 3, 4, 5];

it('merges the pairs of the highest score first, and only to and from pieces', async () => {
  const { model } = await tokenizerWith('llama', [
    ['<unk>', 0, UNKNOWN],
    ['ab', -2, NORMAL],
    ['abc', -1, NORMAL],
    ['a', -3, NORMAL],
    ['b', -4, NORMAL],
    ['c', -5, NORMAL],
    ['bc', -2, NORMAL],
    ['ca', 0, USER_DEFINED],
    ['cb', 0, UNUSED],
  ]);
  const [ab, bc] = [
    ['a', 'b'],
    ['b', 'c'],
  ];
  expect(model.merges).toEqual([['ab', 'c'], ['a', 'bc'], ab, bc]);
  expect(model.unk_token).toBe('<unk>');
  expect(Object.keys(model.vocab)).not.toContain('cb');
});

it('adds tokens that are found first; those of Phi-3 include the blanks to their right', async () => {
  const tokens = [
    ['<s>', 0, CONTROL],
    ['<|user|>', 0, CONTROL],
    ['<tool>', 0, USER_DEFINED],
  ] as const;
  const flags = async (architecture: string) =>
    (await tokenizerWith(architecture, tokens)).added_tokens.map(({ content, special, rstrip }) => [
      content,
      special,
      rstrip,
    ]);
  expect(await flags('phi3')).toEqual([
    ['<s>', true, false],
    ['<|user|>', true, true],
    ['<tool>', false, true],
  ]);
  expect((await flags('llama')).map(([, , rstrip]) => rstrip)).toEqual([false, false, false]);
});
