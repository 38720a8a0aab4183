import { readFileSync } from 'node:fs';
import { createTokenizer, type TokenizerDefinition } from '../src/tokenizer.js';
import { describe, expect, it } from 'vitest';

interface Encoded {
  readonly ids: readonly number[];
  /** The index of the word at its first token, -100 at all others. */
  readonly labels: readonly number[];
}

interface Golden {
  readonly sentences: readonly (readonly string[])[];
  readonly maxLength: number;
  readonly tokenizers: Readonly<Record<string, Readonly<Record<'whole' | 'cut', readonly Encoded[]>>>>;
}

const fixture = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`fixtures/${name}.json`, import.meta.url), 'utf8'));

const { sentences, maxLength, tokenizers } = fixture('word-tokens') as Golden;
const definitions = fixture('token-spans') as { tokenizers: Record<string, { definition: TokenizerDefinition }> };

const tokenizerOf = (name: string) => {
  const { definition } = definitions.tokenizers[name] as { definition: TokenizerDefinition };
  return createTokenizer(definition, { maxTokens: 512, vocabularySize: 1000, file: 'tokenizer.json' });
};

describe.each(Object.entries(tokenizers))('%s', async (name, known) => {
  const tokenizer = await tokenizerOf(name);
  const encoded = (words: readonly string[], options = {}): Encoded => {
    const { ids, words: wordOf } = tokenizer.encodeWords(words, options);
    return { ids, labels: wordOf.map((word, at) => (word === undefined || word === wordOf[at - 1] ? -100 : word)) };
  };

  it.each(sentences.map((words, index) => [words, index] as const))('encodes %j like transformers', (words, index) => {
    expect(encoded(words)).toEqual(known.whole[index]);
    expect(encoded(words, { maxTokens: maxLength })).toEqual(known.cut[index]);
    const { truncated } = tokenizer.encodeWords(words, { maxTokens: maxLength });
    expect(truncated).toBe((known.whole[index]?.ids.length ?? 0) > maxLength);
  });
});

it('puts a blank before each word if one of several byte-level steps needs it', async () => {
  const tokenizer = await tokenizerOf('byte level, as Qwen2');
  const words = sentences[1] as string[];
  expect(tokenizer.encodeWords(words).ids).toEqual(tokenizer.tokenIds(words.map((word) => ` ${word}`).join('')));
});
