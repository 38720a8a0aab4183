import { onWarning } from '@peftjs/core';
import { CheckpointError } from '@peftjs/core/method';
import { fromPretrained, type Tokenizer } from '@peftjs/models';
import fc from 'fast-check';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { bertFiles, bertFolder, bertInMemory, expected } from './bert-tiny.js';
import { packageName } from './use-lite.js';

/** The output of the tokenizer of `@energetic-ai/embeddings` 0.2.0, which was made for these files. */
const reference: [text: string, ids: number[]][] = [
  ['', []],
  ['Hello, world!', [341, 4125, 8, 311, 78]],
  ['The quick brown fox jumps over the lazy dog.', [34, 2280, 3744, 1394, 152, 2009, 7, 132, 9, 6266, 959, 6]],
  [' leading', [30, 2428]],
  ['two  spaces ', [174, 30, 1016, 7, 30]],
  ['tab\there\n', [5520, 0, 586, 53, 0]],
  ['ﬁne ½ ™ ①②', [839, 207, 7935, 288, 259, 224, 575]],
  ['a\u00a0b', [11, 464]],
  ['naïve café', [1216, 0, 105, 976, 209, 1133]],
  ['日本語 and Привет', [30, 0, 12, 30, 0, 7976, 7955, 0, 7954, 7949]],
  ['emoji 😀😀 x', [299, 451, 2501, 30, 0, 649]],
  ['http://a.b/c?d=e', [290, 255, 86, 6, 151, 68, 131, 54, 29, 413, 59]],
  ['meet me at 5:30', [1333, 84, 38, 301, 4177]],
  ['<s> extra_token_id_1 <r0>', [4787, 7, 1431, 1501, 435, 266, 3032, 435, 303, 435, 363, 4787, 93, 412, 1431]],
  ['Supercalifragilisticexpialidocious', [2331, 2817, 928, 276, 143, 233, 2098, 6489, 983, 303, 102, 2907]],
];

let tokenizer: Tokenizer;

beforeAll(async () => {
  ({ tokenizer } = await fromPretrained(packageName));
});

describe('the tokenizer of Universal Sentence Encoder Lite', () => {
  it.each(reference)('encodes %j like the original', (text, ids) => {
    expect(tokenizer.encode(text)).toEqual({ ids, truncated: false });
  });

  it('has 8000 word pieces', () => {
    expect(tokenizer.vocabularySize).toBe(8000);
  });

  it('uses the first of equally likely segmentations, like SentencePiece', () => {
    expect(tokenizer.encode('Never got it!!!!!').ids).toEqual([3507, 270, 21, 78, 3044]); // the original: .. '!!!!', '!'
  });

  it('never emits the ids of start, end and spare tokens', () => {
    const texts = ['<s>', '</s>', 'extra_token_id_2', ' 1', ' 2 3 4 5', '▁', '\ud800'];
    for (const text of texts) {
      for (const id of tokenizer.encode(text).ids) expect(id === 0 || id > 5, `${text}: ${id}`).toBe(true);
    }
  });

  it('encodes a pair as one sequence', () => {
    expect(tokenizer.encode('Hello,', 'world!').ids).toEqual(tokenizer.encode('Hello, world!').ids);
    expect(tokenizer.encode('Hello', '').ids).toEqual(tokenizer.encode('Hello').ids);
  });

  it.each([
    ['words', 'word '.repeat(100_000)],
    ['one word', 'a'.repeat(500_000)],
    ['a text that is not English', '語'.repeat(100_000)],
  ])('truncates a very long text: %s', (_, text) => {
    const { ids } = tokenizer.encode(text);
    expect(ids.length).toBeGreaterThan(0);
    expect(ids.length).toBeLessThanOrEqual(128);
    expect(ids).toEqual(tokenizer.encode(text.slice(0, 8_000)).ids);
  });

  it('truncates the longer text of a pair first', () => {
    const [short, long] = [tokenizer.encode('Hello,').ids, tokenizer.encode('the dog is here and there').ids];
    expect(tokenizer.encode('Hello,', 'the dog is here and there', { maxTokens: 2 * short.length + 1 })).toEqual({
      ids: [...short, ...long.slice(0, short.length + 1)],
      truncated: true,
    });
  });
});

describe('the tokenizer of BERT', async () => {
  const { tokenizer } = await fromPretrained(bertFolder);
  const shownAs = (texts: readonly (string | undefined)[]): string => JSON.stringify(texts).slice(0, 60);
  const texts = expected.texts.map((encoding) => [shownAs(encoding.texts), encoding] as const);
  const cuts = expected.cuts.map((cut) => {
    const { texts } = expected.texts[cut.row] ?? expect.fail(`there is no text ${cut.row}`);
    return [shownAs(texts), cut.maxTokens, { ...cut, texts }] as const;
  });

  it.each(texts)('encodes %s like transformers', (_, { texts, ids, typeIds }) => {
    expect(tokenizer.encode(...texts)).toMatchObject({ ids, typeIds });
  });

  it.each(cuts)(
    'truncates %s to %i tokens like transformers',
    (_, maxTokens, { texts: [text, pair], ids, typeIds }) => {
      expect(tokenizer.encode(text, pair, { maxTokens })).toMatchObject({ ids, typeIds });
    },
  );

  it('says whether it truncated', () => {
    const { ids } = tokenizer.encode('water boils', 'at a lower temperature');
    const cut = (maxTokens: number) => tokenizer.encode('water boils', 'at a lower temperature', { maxTokens });
    expect(cut(ids.length).truncated).toBe(false);
    expect(cut(ids.length - 1).truncated).toBe(true);
    expect(tokenizer.encode('water '.repeat(62)).truncated).toBe(false);
    expect(tokenizer.encode('water '.repeat(63)).truncated).toBe(true);
  });

  it('keeps the last tokens if its settings truncate on the left, like transformers', async () => {
    const settings = new TextEncoder().encode('{"truncation_side": "left"}');
    const storage = bertInMemory({ 'tokenizer_config.json': settings });
    const { tokenizer: left } = await fromPretrained('bert', { storage });
    const [text, pair] = ['water boils at a lower temperature', 'the water boils'];
    expect(left.encode(text, undefined, { maxTokens: 5 }).ids).toEqual([2, 11, 136, 167, 3]);
    const { ids, words } = left.encodeWords(text.split(' '), { maxTokens: 5 });
    expect([ids, words]).toEqual([[2, 11, 136, 167, 3], [undefined, 3, 4, 5, undefined]]); // oxfmt-ignore
    const both = left.encode(text, pair, { maxTokens: 8, spans: true });
    expect(both.ids).toEqual([2, 11, 136, 167, 3, 180, 100, 3]);
    expect(both.spans?.map((span) => span?.start)).toEqual([undefined, 15, 17, 23, undefined, 4, 10, undefined]);
    expect(left.fingerprint).not.toBe(tokenizer.fingerprint);
  });

  it('is read from tokenizer.json, with a warning where its settings contradict that', async () => {
    const warnings: string[] = [];
    onTestFinished(onWarning((message) => warnings.push(message)));
    const settings = { tokenizer_class: 'BertTokenizer', do_lower_case: false, strip_accents: null };
    const storage = bertInMemory({ 'tokenizer_config.json': new TextEncoder().encode(JSON.stringify(settings)) });
    const { tokenizer: read } = await fromPretrained('bert', { storage });
    expect(read.encode('WATER').ids).toEqual(read.encode('water').ids);
    expect(warnings).toEqual([expect.stringMatching(/'lowercase' true, .* 'do_lower_case' false, which transformers/)]);
  });

  it('gives no token types if its settings leave them out', async () => {
    const settings = new TextEncoder().encode('{"model_input_names": ["input_ids", "attention_mask"]}');
    const plain = await fromPretrained('bert', { storage: bertInMemory({ 'tokenizer_config.json': settings }) });
    expect(plain.tokenizer.encode('water', 'boils')).not.toHaveProperty('typeIds');
    expect(tokenizer.encode('water', 'boils')).toHaveProperty('typeIds');
  });

  it('never gives more tokens than the limit, even if that is below the number of special tokens', () => {
    for (const maxTokens of [1, 2, 3, 64, 1000]) {
      const { ids, typeIds } = tokenizer.encode('water '.repeat(100), 'boils', { maxTokens });
      expect(ids).toHaveLength(Math.min(maxTokens, 64));
      expect(typeIds).toHaveLength(ids.length);
    }
  });

  it('gives the same ids word by word as for the whole text', async () => {
    const definition = JSON.parse(new TextDecoder().decode(bertFiles['tokenizer.json'])) as { added_tokens: object[] };
    const blank = { ...definition.added_tokens[0], content: 'a b\u{e000}' }; // a token with a space: words are not cached
    const changed = { ...definition, added_tokens: [...definition.added_tokens, blank] };
    const storage = bertInMemory({ 'tokenizer.json': new TextEncoder().encode(JSON.stringify(changed)) });
    const whole = (await fromPretrained('bert', { storage })).tokenizer;
    const odd = Array.from(" \t\n\u00a0\u200d\u0301\u0345\u1100\u1161\u3000\ufffd\0\ud800Σ ςÉİ日𠀀'[]😀.");
    const pieces = fc.constantFrom(...odd, 'water', 'Boils', 'MASK', '[SEP]', '[MASK]', 'ΟΔΟΣ');
    fc.assert(
      fc.property(fc.array(fc.oneof(pieces, fc.string()), { maxLength: 12 }), (parts) => {
        const text = parts.join('');
        expect(tokenizer.tokenIds(text)).toEqual(whole.tokenIds(text));
        expect(tokenizer.encode(text, 'a b').ids).toEqual(whole.encode(text, 'a b').ids);
      }),
      { numRuns: 1000 },
    );
  });

  it('names a token without an id if there is no unknown token', async () => {
    const text = new TextDecoder()
      .decode(bertFiles['tokenizer.json'])
      .replace('"unk_token": "[UNK]"', '"unk_token": "[?]"');
    const storage = bertInMemory({ 'tokenizer.json': new TextEncoder().encode(text) });
    const { tokenizer } = await fromPretrained('bert', { storage });
    expect(() => tokenizer.encode('日本')).toThrow(CheckpointError);
    expect(() => tokenizer.encode('日本')).toThrow(/bert\/tokenizer\.json: the vocabulary has no "\[\?\]"/);
  });
});
