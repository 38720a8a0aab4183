import { CheckpointError } from '@peftjs/core/method';
import { describe, expect, it, vi } from 'vitest';
import { createTokenizer, type Tokenizer } from '../src/tokenizer.js';
import { withinTable } from '../src/transformers/tokenizer.js';

const LETTERS = Object.fromEntries(Array.from('<abcdefghijklmnopqrstuvwxyz> ▁', (letter, id) => [letter, id]));
const model = { type: 'BPE', vocab: LETTERS, merges: [], unk_token: '<' };

function opened(parts: object): Promise<Tokenizer> {
  const limits = { maxTokens: 1000, vocabularySize: 100, file: 'm/tokenizer.json' };
  return createTokenizer({ added_tokens: [], model, ...parts }, limits);
}

/** Why a tokenizer is refused when it is opened or reads a text; '' if it is not. */
async function refusal(parts: object, text = 'abc'): Promise<string> {
  try {
    const tokenizer = await opened(parts);
    tokenizer.decode(tokenizer.encode(text, undefined, { spans: true }).ids);
    return '';
  } catch (error) {
    if (error instanceof CheckpointError) return error.message;
    throw error;
  }
}

const LISTS = { normalizer: 'normalizers', pre_tokenizer: 'pretokenizers', decoder: 'decoders' } as const;

/** A part of `count` steps, in `depth` sequences. */
function steps(part: keyof typeof LISTS, count: number, step: (index: number) => object, depth = 1): object {
  const list = LISTS[part];
  let value: object = { type: 'Sequence', [list]: Array.from({ length: count }, (_, index) => step(index)) };
  for (let at = 1; at < depth; at++) value = { type: 'Sequence', [list]: [value] };
  return { [part]: value };
}

const replace = (from: string, content: string) => ({ type: 'Replace', pattern: { String: from }, content });
const splitAt = (Regex: string) => ({ type: 'Split', pattern: { Regex }, behavior: 'Isolated' });

describe('a part that is larger than in any known tokenizer is refused', () => {
  it.each<[string, object, string]>([
    [
      'a pattern below 11 sequences',
      steps('pre_tokenizer', 1, () => splitAt('(a+)+b'), 11),
      'nested more than 20 deep',
    ],
    ['a pattern below 9', steps('pre_tokenizer', 1, () => splitAt('(a+)+b'), 9), '(a+)+b'],
    ['3,000 prefixes', steps('normalizer', 3000, () => ({ type: 'Prepend', prepend: 'a' })), 'more than 1000 values'],
    ['a long text', { decoder: replace('a', 'b'.repeat(3000)) }, "a text 'content' of more than 2000 characters"],
    ['a long suffix', { model: { ...model, end_of_word_suffix: 'x'.repeat(3000) } }, 'the model has a text'],
    ['many slow patterns', steps('pre_tokenizer', 40, () => splitAt('[^x]+x')), 'too many unbounded repetitions'],
    [
      'a pattern that is a text',
      { normalizer: { type: 'Replace', pattern: '(a+)+b', content: '' } },
      'expected a pattern',
    ],
    [
      'a template of many tokens',
      {
        post_processor: {
          type: 'TemplateProcessing',
          single: Array.from({ length: 100 }, () => ({ SpecialToken: { id: 'a', type_id: 0 } })),
          pair: [],
          special_tokens: { a: { id: 'a', ids: [1], tokens: ['a', 'a'] } },
        },
      },
      "'single' of the post_processor has more than 100 tokens",
    ],
    [
      'a mark of several characters',
      { pre_tokenizer: { type: 'Metaspace', replacement: 'ab' } },
      'must be one character',
    ],
    ['suffixes of parts', { model: { ...model, continuing_subword_suffix: 'x' } }, 'is not supported'],
    ['ids in a list', { model: { ...model, vocab: ['a', 'b'] } }, 'expected ids by token'],
    [
      'words of any length',
      { model: { type: 'WordPiece', vocab: LETTERS, unk_token: '<', max_input_chars_per_word: 1e9 } },
      "'max_input_chars_per_word' must be at most 500",
    ],
    ['an added token without a text', { added_tokens: [{ id: 1 }] }, "needs a 'content'"],
  ])('%s', async (_, parts, why) => {
    await expect(refusal(parts)).resolves.toMatch(/^m\/tokenizer\.json: /);
    await expect(refusal(parts)).resolves.toContain(why);
  });
});

describe('a part that makes a text much longer is refused', () => {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: true, use_regex: false };
  const marked = (index: number) =>
    index % 2 === 0 ? splitAt('.') : { type: 'Metaspace', replacement: 'vwxyz'[index % 5], prepend_scheme: 'always' };
  it.each<[string, object]>([
    ['the normalizer', steps('normalizer', 12, () => replace('a', 'a'.repeat(10)))],
    ['the normalizer', { normalizer: { type: 'Replace', pattern: { Regex: '' }, content: 'a'.repeat(2000) } }],
    ['the normalizer', steps('normalizer', 3, () => ({ type: 'Prepend', prepend: 'a'.repeat(1000) }))],
    ['the pre_tokenizer', steps('pre_tokenizer', 40, () => byteLevel)],
    ['the pre_tokenizer', steps('pre_tokenizer', 80, marked)],
    ['the decoder', steps('decoder', 12, () => replace('a', 'a'.repeat(10)))],
    ['the decoder', { decoder: replace('', 'a'.repeat(2000)) }],
  ])('%s %#', async (part, parts) => {
    await expect(refusal(parts)).resolves.toMatch(
      new RegExp(`^m/tokenizer\\.json: ${part} makes more than \\d+ characters`),
    );
  });

  it('unlike the largest growth of a real one: U+FDFA, then bytes', async () => {
    const parts = { normalizer: { type: 'NFKD' }, pre_tokenizer: { type: 'ByteLevel', use_regex: false } };
    await expect(refusal(parts, '\ufdfa'.repeat(500))).resolves.toBe('');
  });
});

describe('an unk_id is refused unless it is the id of a piece', () => {
  const pieces = [
    ['<unk>', 0],
    ['a', -1],
    ['b', -2],
  ];
  const unigram = (unk_id: unknown) => refusal({ model: { type: 'Unigram', vocab: pieces, unk_id } });

  it.each([0.5, -1, 3, '0'])('%j', async (id) => {
    await expect(unigram(id)).resolves.toContain(`'unk_id' must be an integer from 0 to 2, got ${JSON.stringify(id)}`);
  });

  it.each([0, 2])('%j', async (id) => {
    await expect(unigram(id)).resolves.toBe('');
  });
});

it('the piece of a normalised added token is its normalised text, as in transformers', async () => {
  const tokenizer = await opened({
    normalizer: { type: 'Lowercase' },
    added_tokens: [{ id: 50, content: 'NewWord', normalized: true, special: false }],
  });
  const { ids, spans } = tokenizer.encode('aNEWWORD', undefined, { spans: true });
  expect(ids).toEqual([LETTERS.a, 50]);
  expect(spans?.map((span) => span?.piece)).toEqual(['a', 'newword']);
});

it.each([
  ['a\n<m> b', { content: '<m>', lstrip: true }, { content: '\n' }, [LETTERS.a, 50, LETTERS[' '], LETTERS.b]],
  ['<s>\na', { content: '<s>', rstrip: true }, { content: '\n', normalized: false }, [50, 51, LETTERS.a]],
  [
    '<s> \n b',
    { content: '<s>', rstrip: true },
    { content: '\n', normalized: false },
    [50, 51, LETTERS[' '], LETTERS.b],
  ],
])('finds added tokens beside the blanks of others in %j as Hugging Face', async (text, special, other, ids) => {
  const added = [
    { ...special, id: 50, special: true },
    { ...other, id: 51 },
  ];
  expect((await opened({ added_tokens: added })).tokenIds(text)).toEqual(ids);
});

it('finds the longest of many long added tokens', async () => {
  const run = 'a'.repeat(10_000);
  const contents = Array.from({ length: 500 }, (_, id) => [`${id}${run}b`, `${id}${run}`]).flat();
  const { tokenIds } = await opened({ added_tokens: contents.map((content, id) => ({ id, content })) });
  expect(tokenIds(`c17${run}b7${run}${run}`).slice(0, 4)).toEqual([LETTERS.c, 34, 15, LETTERS.a]);
});

it('of thousands of special tokens beyond the vocabulary, three are named', () => {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined);
  const added = Array.from({ length: 3000 }, (_, index) => ({ id: 10 + index, content: `<${index}>`, special: true }));
  withinTable({ added_tokens: added }, 10);
  expect(warn.mock.calls.flat().join()).toContain('special tokens "<0>", "<1>", "<2>" and 2,997 more: their text');
  warn.mockRestore();
});
