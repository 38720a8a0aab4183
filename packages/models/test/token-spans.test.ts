import { readFileSync } from 'node:fs';
import { createTokenizer, type TokenizerDefinition } from '../src/tokenizer.js';
import { describe, expect, it } from 'vitest';

/** Id, start and end of each token; -1 and -1 for one that is put around the texts. */
type Known = readonly number[];

interface Golden {
  readonly texts: readonly string[];
  readonly tokenizers: Readonly<
    Record<string, { readonly definition: TokenizerDefinition; readonly spans: readonly Known[]; readonly pair: Known }>
  >;
}

const { texts, tokenizers } = JSON.parse(
  readFileSync(new URL('fixtures/token-spans.json', import.meta.url), 'utf8'),
) as Golden;

const limits = { maxTokens: 512, vocabularySize: 1000, file: 'tokenizer.json' };

describe.each(Object.entries(tokenizers))('%s', async (_, { definition, spans, pair }) => {
  const tokenizer = await createTokenizer(definition, limits);
  const known = (text: string, second?: string, options = {}): Known => {
    const { ids, spans = [] } = tokenizer.encode(text, second, { ...options, spans: true });
    return ids.flatMap((id, place) => [id, spans[place]?.start ?? -1, spans[place]?.end ?? -1]);
  };

  it.each(texts.map((text, index) => [text, index] as const))('finds the tokens of %j', (text, index) => {
    expect(known(text)).toEqual(spans[index]);
  });

  it('finds those of each text of a pair, also where the longer one is cut', () => {
    const [first, second] = [texts[1] as string, texts[3] as string];
    expect(known(first, second)).toEqual(pair);
    const cut = threes(known(first, second, { maxTokens: 24 }));
    expect(cut.length).toBe(24);
    for (const token of cut) expect(threes(pair)).toContainEqual(token);
  });

  it('gives none unless asked', () => {
    expect(tokenizer.encode('Berlin')).not.toHaveProperty('spans');
  });
});

function threes(numbers: Known): Known[] {
  return Array.from({ length: numbers.length / 3 }, (_, place) => numbers.slice(3 * place, 3 * place + 3));
}

describe('what a span says of its token', async () => {
  const tokenizer = await createTokenizer(
    (tokenizers['WordPiece, cased'] as Golden['tokenizers'][string]).definition,
    limits,
  );

  it('is the piece of the vocabulary, or the text where it is unknown, and whether a word goes on', () => {
    const { ids, spans = [] } = tokenizer.encode('Merkel 👍', undefined, { spans: true });
    const [first, ...rest] = spans.filter((span) => span !== null);
    const unknown = rest.pop();
    expect(spans.length).toBe(ids.length);
    expect([spans[0], spans.at(-1)]).toEqual([null, null]);
    expect(first).toMatchObject({ start: 0, continuesWord: false });
    expect(rest.length).toBeGreaterThan(0);
    for (const { piece, continuesWord } of rest) {
      expect(piece).toMatch(/^##/);
      expect(continuesWord).toBe(true);
    }
    expect(unknown).toEqual({ piece: '👍', start: 7, end: 9, continuesWord: false });
  });

  it('is joined to a text', () => {
    expect(tokenizer.join(['Mer', '##kel', 'met', '👍'])).toBe('Merkel met 👍');
  });

  it('is joined to a text of bytes, too, and a piece that is no token stays what it is', async () => {
    const { definition } = tokenizers['byte level, as GPT-2'] as Golden['tokenizers'][string];
    const { join } = await createTokenizer(definition, limits);
    expect(join(['ĠMer', 'kel', 'Ã', '©', ' met'])).toBe(' Merkelé met');
  });
});
