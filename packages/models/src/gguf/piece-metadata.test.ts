import { expect, it, test } from 'vitest';
import { tokenizerMetadata } from './tokenizer-metadata.js';

type Pair = readonly [string, string];

const MERGES: readonly Pair[] = [
  ['b', 'c'],
  ['ab', 'c'],
  ['a', 'bc'],
  ['a', 'b'],
];

/** The metadata of a tokenizer with the pieces a, b, c, ab, bc and abc, and these merges. */
function metadataOf(merges: readonly Pair[], settings: object = {}) {
  const tokens = ['<unk>', '<0x41>', 'a', 'b', 'c', 'ab', 'bc', 'abc'];
  const definition = {
    added_tokens: [{ id: 9, content: '<image>', special: true }], // has no row
    normalizer: { type: 'Replace', pattern: { String: ' ' }, content: '\u2581' },
    pre_tokenizer: null,
    model: {
      type: 'BPE',
      unk_token: null,
      byte_fallback: true,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
  };
  const bytes = new TextEncoder().encode(JSON.stringify(definition));
  const config = { file: 'config.json', settings, read: new Set<string>() };
  return tokenizerMetadata(new Map([['tokenizer.json', bytes]]), { config, architecture: 'llama', rows: 9 });
}

it('has higher scores for pieces that are merged earlier, and the kinds of bytes and of rows without a token', async () => {
  const metadata = await metadataOf(MERGES);
  expect(metadata.get('tokenizer.ggml.scores')?.value).toEqual(Float32Array.of(-3, -3, -3, -3, -3, -2, -0, -1, -3));
  expect(metadata.get('tokenizer.ggml.token_type')?.value).toEqual(Int32Array.of(1, 6, 1, 1, 1, 1, 1, 1, 5));
});

it.each([-1, 9])('leaves out the padding ID %d, which has no row in the embedding table', async (id) => {
  const metadata = await metadataOf(MERGES, { pad_token_id: id, eos_token_id: [2, 3] });
  expect(metadata.has('tokenizer.ggml.padding_token_id')).toBe(false);
  expect(metadata.get('tokenizer.ggml.eos_token_id')?.value).toBe(2);
});

test.each<[string, Pair[]]>([
  [
    'one way to form a piece is missing',
    [
      ['a', 'b'],
      ['b', 'c'],
      ['ab', 'c'],
    ],
  ],
  [
    'another piece is merged between two ways to form a piece',
    [
      ['b', 'c'],
      ['ab', 'c'],
      ['a', 'b'],
      ['a', 'bc'],
    ],
  ],
])('merges that no scores give are refused: %s', async (_, merges) => {
  await expect(metadataOf(merges)).rejects.toThrow(/cannot hold the 'merges' of this tokenizer/);
});
