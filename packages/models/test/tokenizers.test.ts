import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { createTokenizer, type TokenizerDefinition } from '../src/tokenizer.js';

/** The results of Hugging Face's tokenizers for a text: IDs, start and end of each token, and the decoded text. */
interface Row {
  readonly ids: readonly number[];
  readonly spans: readonly number[];
  readonly decoded: string;
}

interface Golden {
  readonly texts: readonly string[];
  readonly pairs: readonly (readonly [string, string])[];
  readonly tokenizers: Readonly<
    Record<
      string,
      {
        readonly definition: TokenizerDefinition;
        readonly rows: readonly Row[];
        readonly pairs: readonly { readonly ids: readonly number[]; readonly types: readonly number[] }[];
      }
    >
  >;
}

/** The golden file. See tools/golden/tokenizers.py to generate a larger one. */
const file = process.env.PEFTJS_TOKENIZERS ?? new URL('fixtures/tokenizers.json', import.meta.url);
const { texts, pairs, tokenizers } = JSON.parse(readFileSync(file, 'utf8')) as Golden;

describe.each(Object.entries(tokenizers))('%s', async (_, { definition, rows, pairs: encodedPairs }) => {
  const limits = { maxTokens: 100_000, vocabularySize: 10_000, tokenTypes: 2, file: 'tokenizer.json' };
  const tokenizer = await createTokenizer(definition, limits);

  it('encodes random texts like Hugging Face', () => {
    expect(texts.map((text) => tokenizer.tokenIds(text))).toEqual(rows.map(({ ids }) => ids));
  });

  it('finds the spans of their tokens', () => {
    const spansOf = (text: string) =>
      (tokenizer.encode(text, undefined, { spans: true }).spans ?? []).flatMap((span) =>
        span ? [span.start, span.end] : [],
      );
    expect(texts.map(spansOf)).toEqual(rows.map(({ spans }) => spans));
  });

  it('decodes their IDs', () => {
    expect(rows.map(({ ids }) => tokenizer.decode(ids))).toEqual(rows.map(({ decoded }) => decoded));
  });

  it('returns the token types of pairs', () => {
    const encoded = pairs.map(([text, pair]) => tokenizer.encode(text, pair));
    expect(encoded.map(({ ids, typeIds }) => ({ ids, types: typeIds }))).toEqual(encodedPairs);
  });
});
