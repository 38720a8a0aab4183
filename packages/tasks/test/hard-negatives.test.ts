import { readFile } from 'node:fs/promises';
import {
  createDataSet,
  mineHardNegatives,
  semanticSearch,
  type DataSet,
  type Embed,
  type HardNegativesOptions,
} from '@peftjs/tasks';
import { DataError } from '@peftjs/core/method';
import { beforeAll, describe, expect, it, vi } from 'vitest';

/** Written by tools/golden/hard_negatives.py, with options under the names of sentence-transformers. */
const golden = JSON.parse(await readFile(new URL('fixtures/hard-negatives.json', import.meta.url), 'utf8')) as {
  readonly pairs: readonly (readonly [string, string])[];
  readonly vectors: Readonly<Record<string, readonly number[]>>;
  readonly cases: readonly {
    readonly options: Readonly<Record<string, number | string | readonly string[]>>;
    readonly rows: readonly (readonly string[])[];
  }[];
};

/** Returns the vectors of texts. */
const embedded =
  (vectors: Readonly<Record<string, readonly number[]>>): Embed =>
  (texts) => {
    const rows = texts.map((text) => vectors[text] as readonly number[]);
    return Promise.resolve({ data: Float32Array.from(rows.flat()), dims: [rows.length, rows[0]?.length ?? 0] });
  };
const pairsOf = (rows: readonly (readonly string[])[]): Promise<DataSet<'pairs'>> =>
  createDataSet({ name: 'pairs', kind: 'pairs', classes: [], rows: rows.map((texts) => ({ texts })) });
const camel = (name: string): string => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());

beforeAll(() => void vi.spyOn(console, 'warn').mockReturnValue());

describe('sentence-transformers mines the same negatives', () => {
  it.each(golden.cases.map(({ options, rows }) => [options, rows] as const))('with %j', async (options, rows) => {
    const own = Object.fromEntries(Object.entries(options).map(([name, value]) => [camel(name), value]));
    const found = await mineHardNegatives(await pairsOf(golden.pairs), { embed: embedded(golden.vectors), ...own });
    expect(found.kind).toBe('triplets');
    expect(found.rows.map(({ texts }) => texts)).toEqual(rows);
  });
});

/** Texts at angles, in degrees: their cosine is that of the difference. */
const circle = Object.fromEntries(
  Object.entries({ q: 0, r: 0, near: 10, nearer: 5, far: 60, farther: 80, other: 50 }).map(([text, degrees]) => {
    const angle = (degrees * Math.PI) / 180;
    return [text, [2 * Math.cos(angle), 2 * Math.sin(angle)]]; // not of length 1
  }),
);
const mined = async (rows: readonly (readonly string[])[], options: Omit<HardNegativesOptions, 'embed'>) => {
  const { rows: found } = await mineHardNegatives(await pairsOf(rows), { embed: embedded(circle), ...options });
  return found.map(({ texts }) => texts);
};

describe('hard negatives', () => {
  it('are no texts whose vectors are not numbers', async () => {
    const vectors = { q: [1, 0], near: [1, 0.1], far: [0, 1], broken: [NaN, NaN] };
    const pairs = await pairsOf([['q', 'near']]);
    const options = { embed: embedded(vectors), corpus: ['far', 'broken'], numNegatives: 2 };
    await expect(mineHardNegatives(pairs, options)).rejects.toThrow(DataError);
  });

  it('are never a positive of an equal anchor', async () => {
    const rows = [
      ['q', 'near'],
      ['q', 'nearer'],
      ['r', 'far'],
    ];
    expect(await mined(rows, { numNegatives: 1 })).toEqual([
      ['q', 'near', 'far'],
      ['q', 'nearer', 'far'],
      ['r', 'far', 'nearer'],
    ]);
  });

  it('are never the anchor itself', async () => {
    expect(
      await mined(
        [
          ['q', 'near'],
          ['r', 'q'],
        ],
        { numNegatives: 1 },
      ),
    ).toEqual([['r', 'q', 'near']]);
  });

  it('are drawn by the seed from the candidates', async () => {
    const corpus = ['nearer', 'far', 'farther', 'other'];
    const draw = (seed: number) =>
      mined([['q', 'near']], { corpus, numNegatives: 2, rangeMin: 1, rangeMax: 4, samplingStrategy: 'random', seed });
    const draws = await Promise.all([1, 2, 3, 4, 5, 6].map(draw));
    expect(new Set(draws.map((rows) => rows.join())).size).toBeGreaterThan(1);
    for (const [texts = []] of draws) expect(texts.slice(2)).not.toContain('nearer');
    expect(await draw(1)).toEqual(draws[0]);
  });

  it('are missing in rows that are left out, with a warning', async () => {
    const rows = [
      ['q', 'far'],
      ['q', 'farther'],
      ['r', 'near'],
    ];
    expect(await mined(rows, { numNegatives: 1, absoluteMargin: 0.1 })).toEqual([['r', 'near', 'far']]);
    expect(vi.mocked(console.warn).mock.calls.join()).toContain(
      'pairs: left out 2 of 3 rows, which have fewer than 1 negatives; raise rangeMax, or loosen the margins',
    );
  });
});

describe('mining is refused', () => {
  it.each<[string, Omit<HardNegativesOptions, 'embed'>, string]>([
    ['an unknown option', { margin: 0.1 } as object, "option 'margin' is unknown"],
    ['an unknown strategy', { samplingStrategy: 'nearest' as 'top' }, "option 'samplingStrategy' is 'nearest'"],
    ['no negatives', { numNegatives: 0 }, "option 'numNegatives' is 0; expected >=1"],
    ['a range without them', { rangeMin: 3, rangeMax: 4, numNegatives: 2 }, 'hold fewer than 2 negatives'],
    ['limits that nothing meets', { maxScore: -1 }, 'expected 3 negatives for some rows, found none'],
  ])('for %s', async (_, options, message) => {
    await expect(
      mined(
        [
          ['q', 'near'],
          ['r', 'far'],
        ],
        options,
      ),
    ).rejects.toThrow(message);
  });

  it('for other data, and for embeddings of tokens', async () => {
    const scored = await createDataSet({
      name: 's',
      kind: 'scored-pairs',
      classes: [],
      rows: [{ texts: ['q', 'near'], score: 1 }],
    });
    await expect(mineHardNegatives(scored, { embed: embedded(circle) })).rejects.toThrow(
      "expected pairs or triplets, s has rows of kind 'scored-pairs'",
    );
    const embed: Embed = () => Promise.resolve({ data: new Float32Array(4), dims: [1, 2, 2] });
    await expect(mineHardNegatives(await pairsOf([['q', 'near']]), { embed })).rejects.toThrow(
      'expected embeddings [1, width], got [1, 2, 2]',
    );
  });
});

describe('a search', () => {
  const corpus = [
    [0, 2],
    [1, 1],
    [NaN, 0],
    [3, 0],
    [1, 1],
  ];

  it('finds the nearest vectors by cosine, best first, and ties in their order', () => {
    const found = semanticSearch([[5, 0], [0, 1]], corpus, { topK: 3 }); // oxfmt-ignore
    expect(found.map((hits) => hits.map(({ corpusId }) => corpusId))).toEqual([[3, 1, 4], [0, 1, 4]]); // oxfmt-ignore
    for (const [best, second] of found) {
      expect(best?.score).toBe(1);
      expect(second?.score).toBeCloseTo(Math.SQRT1_2, 12);
    }
  });

  it('finds all of a small corpus, and what is not a number last', () => {
    expect(semanticSearch([[1, 0]], corpus)[0]?.map(({ corpusId }) => corpusId)).toEqual([3, 1, 4, 0, 2]);
  });

  it('takes embeddings as a pipeline returns them, but not those of tokens', () => {
    const queries = { data: Float32Array.of(5, 0, 0, 1), dims: [2, 2] };
    const documents = { data: Float32Array.from(corpus.flat()), dims: [corpus.length, 2] };
    const ids = semanticSearch(queries, documents).map((hits) => hits.map(({ corpusId }) => corpusId));
    expect(ids).toEqual(semanticSearch([[5, 0], [0, 1]], corpus).map((hits) => hits.map(({ corpusId }) => corpusId))); // oxfmt-ignore
    const tokens = { data: new Float32Array(4), dims: [1, 2, 2] };
    expect(() => semanticSearch(tokens, documents)).toThrow(
      "expected embeddings [texts, width], got [1, 2, 2]: leave out pooling: 'none'",
    );
  });

  it('needs vectors of one length', () => {
    expect(() => semanticSearch([[1, 0]], [[1, 0, 0]])).toThrow('expected vectors of one length, got 2 and 3');
  });
});
