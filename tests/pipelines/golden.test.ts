import { compiled } from '@peftjs/engine';
import { pipeline, type AggregationStrategy } from '@peftjs/pipelines';
import { afterAll, describe, expect, it } from 'vitest';
import { expected, fixture, methods } from './tiny.js';

const executor = compiled({ threads: 1 });
const { texts } = expected;

/** Compares results, with scores to 1e-5: theirs are float32. */
function expectSame<T extends { readonly score: number }>(actual: readonly T[], known: readonly T[]): void {
  expect(actual).toEqual(known.map((one) => ({ ...one, score: expect.closeTo(one.score, 5) as number })));
}

describe.each(Object.entries(expected.taggers))('entities of %s', async (name, { entities, all }) => {
  const tag = await pipeline('token-classification', fixture(name), { methods, executor });
  afterAll(() => tag.dispose());

  it.each(Object.keys(entities) as AggregationStrategy[])('are those of transformers with %s', async (strategy) => {
    const found = await tag(texts, { aggregationStrategy: strategy });
    found.forEach((of, text) => {
      expectSame(of as (typeof entities)[string][number], entities[strategy]?.[text] ?? []);
    });
  });

  it('have every label if none is ignored', async () => {
    const found = await tag(texts, { ignoreLabels: [] });
    found.forEach((of, text) => {
      expectSame(of, all[text] ?? []);
    });
    expectSame(await tag(texts[0] as string, { ignoreLabels: [] }), all[0] ?? []);
  });

  it('are those of the same words with blanks around them, if they are found by words', async () => {
    const [text = ''] = texts;
    const apart = ` ${text.replaceAll(/(?=[,.])/g, ' ')}`;
    const found = async (of: string) =>
      (await tag(of, { aggregationStrategy: 'words', ignoreLabels: [] })).map(({ start, end, ...entity }) => ({
        ...entity,
        covered: of.slice(start, end).replaceAll(' ', ''),
      }));
    expectSame(await found(text), await found(apart));
  });

  it('match the characters of the text', async () => {
    const [text = ''] = texts;
    for (const { word, start, end } of await tag(text))
      expect(text.slice(start, end)).toBe(word.replace(/^(?:##|Ġ)/, ''));
  });
});

describe('labels', () => {
  it.each([
    ['several', 'multi_label_classification'],
    ['one', 'single_label_classification'],
  ] as const)('of %s kind are those of transformers', async (kind, problemType) => {
    const classify = await pipeline('text-classification', fixture('classifier'), { methods, executor, problemType });
    const found = await classify(texts, { topK: null });
    found.forEach((of, text) => {
      expectSame(of, expected.classified[kind][text] ?? []);
    });
    await classify.dispose();
  });
});

describe('documents', () => {
  it('are ranked as by the CrossEncoder of sentence-transformers', async () => {
    const rank = await pipeline('text-ranking', fixture('reranker'), { methods, executor });
    expectSame(await rank(expected.query, texts), expected.ranked);
    expectSame(await rank(expected.query, texts, { topK: 2 }), expected.ranked.slice(0, 2));
    await rank.dispose();
  });
});
