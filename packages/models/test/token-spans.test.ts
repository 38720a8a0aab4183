import { readFileSync } from 'node:fs';
import { createTokenizer, type TokenizerDefinition } from '../src/tokenizer.js';
import { wordsIn } from '../src/token-spans.js';
import { describe, expect, it } from 'vitest';

/** The ID, start and end of each token; -1 and -1 for special tokens. */
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

  it.each(texts.map((text, index) => [text, index] as const))('finds the spans of %j', (text, index) => {
    expect(known(text)).toEqual(spans[index]);
  });

  it('finds the spans of both texts of a pair, also if the longer one is truncated', () => {
    const [first, second] = [texts[1] as string, texts[3] as string];
    expect(known(first, second)).toEqual(pair);
    const cut = threes(known(first, second, { maxTokens: 24 }));
    expect(cut.length).toBe(24);
    for (const token of cut) expect(threes(pair)).toContainEqual(token);
  });

  it('returns spans only on request', () => {
    expect(tokenizer.encode('Berlin')).not.toHaveProperty('spans');
  });
});

function threes(numbers: Known): Known[] {
  return Array.from({ length: numbers.length / 3 }, (_, place) => numbers.slice(3 * place, 3 * place + 3));
}

describe('a span', async () => {
  const tokenizer = await createTokenizer(
    (tokenizers['WordPiece, cased'] as Golden['tokenizers'][string]).definition,
    limits,
  );

  it('has the vocabulary piece, or the text of an unknown token, and whether it continues a word', () => {
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

  it('of a blank added before an emoji is empty, as in Hugging Face', async () => {
    const { definition } = tokenizers['byte level, as GPT-2'] as Golden['tokenizers'][string];
    const own = { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true };
    const model = { ...definition.model, merges: [] };
    const { encode } = await createTokenizer({ ...definition, model, pre_tokenizer: own, post_processor: own }, limits);
    const { spans = [] } = encode('😀 ', undefined, { spans: true });
    expect([spans[0], spans.at(-1)]).toMatchObject([
      { piece: 'Ġ', start: 0, end: 0 },
      { piece: 'Ġ', start: 3, end: 3 },
    ]);
  });

  it('can be joined to a text', () => {
    expect(tokenizer.join(['Mer', '##kel', 'met', '👍'])).toBe('Merkel met 👍');
  });

  it('can be joined to a text of bytes, with other pieces unchanged', async () => {
    const { definition } = tokenizers['byte level, as GPT-2'] as Golden['tokenizers'][string];
    const { join } = await createTokenizer(definition, limits);
    expect(join(['ĠMer', 'kel', 'Ã', '©', ' met'])).toBe(' Merkelé met');
  });
});

it('words read by bytes have no token of a blank alone', async () => {
  const { definition } = tokenizers['byte level, as GPT-2'] as Golden['tokenizers'][string];
  const { encodeWords } = await createTokenizer(definition, limits);
  const { ids } = encodeWords(['in', 'Berlin']);
  expect(encodeWords(['in', '', ' Berlin'])).toMatchObject({
    ids,
    words: encodeWords(['in', 'x', 'Berlin']).words.filter((word) => word !== 1),
  });
});

describe('a sentence is split into the words of tagged data', () => {
  const sentences = [
    'Dr . O’Brien , of the U.S. , paid AT&T $ 1,012.5 by 10:30 , U.S.A time .',
    "the D'Arcy family 's Anglo-American house , \" the Elms \" , in l ' Italie",
    'Merkel traf 東 京 的 Besucher in ( Berlin ) . Berlin',
  ];

  it.each(sentences)('%s', (sentence) => {
    const text = sentence.replace(/ (?=[,.)'京的])|(?<=[$(東京]) |(?<= ') /gu, '');
    expect(wordsIn(text).map(({ word }) => word)).toEqual(sentence.split(' '));
    for (const { word, start } of wordsIn(text)) expect(text.slice(start, start + word.length)).toBe(word);
  });

  it.each(Object.entries(tokenizers))(
    'and read as given words are, also if it is cut: %s',
    async (_, { definition }) => {
      const [text, words] = ['Merkel (Berlin).Naïve', ['Merkel', '(', 'Berlin', ')', '.', 'Naïve']];
      for (const keepsEnd of [false, true]) {
        const { encodeWords } = await createTokenizer(definition, { ...limits, keepsEnd });
        for (const maxTokens of [5, 9, 512]) {
          const { spans = [], ...read } = encodeWords(text, { maxTokens, spans: true });
          expect(read).toEqual(encodeWords(words, { maxTokens }));
          const firsts = spans.flatMap((span) => (span?.continuesWord === false ? [span.start] : []));
          const starts = read.words.flatMap((word) =>
            word === undefined ? [] : [[0, 7, 8, 14, 15, 16][word] as number],
          );
          expect(firsts.every((start) => starts.includes(start))).toBe(true);
          spans.forEach((span, place) => {
            const word = words[read.words[place] ?? -1] ?? '';
            if (span) expect(word).toContain(text.slice(span.start, span.end));
            expect(span === null).toBe(word === '');
          });
        }
      }
    },
  );
});
