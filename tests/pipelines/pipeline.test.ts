import { attach, type Executor } from '@peftjs/core';
import { ConfigError, DataError } from '@peftjs/core/method';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import {
  pipeline,
  type ClassifyOptions,
  type LabelScore,
  type PipelineOptions,
  type Pipelines,
} from '@peftjs/pipelines';
import { afterAll, beforeAll, describe, expect, it, expectTypeOf } from 'vitest';
import { counting, expected, fixture, methods } from './tiny.js';

const executor = compiled({ threads: 1 });
const options = { methods, executor };
const { texts } = expected;

/** The error of a promise, which must be one line. */
async function refusal(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (cause: unknown) => cause,
  );
  expect(error).toBeInstanceOf(Error);
  expect(error).toSatisfy((one) => one instanceof ConfigError || one instanceof DataError);
  const { message } = error as Error;
  expect(message).not.toContain('\n');
  return message;
}

describe('labels of texts', () => {
  let classify: Pipelines['text-classification'];
  beforeAll(async () => {
    classify = await pipeline('text-classification', fixture('classifier'), options);
  });
  afterAll(() => classify.dispose());

  it('have the shapes of transformers.js', async () => {
    const [text = ''] = texts;
    const [first] = await classify(text);
    expect(await classify(text)).toEqual([
      { label: expect.any(String) as string, score: expect.any(Number) as number },
    ]);
    expect((await classify(text, { topK: 2 })).length).toBe(2);
    expect(await classify([text])).toEqual([first]); // one label per text
    expect(await classify([text], { topK: 1 })).toEqual([first]);
    const lists = await classify([text, text], { topK: 2 });
    expect(lists.map((list) => list.length)).toEqual([2, 2]);
    expect(lists[0]?.[0]).toEqual(first);
    expect((await classify([text], { topK: null })).map((list) => list.length)).toEqual([3]);
    expect((await classify(text, { topK: 99 })).length).toBe(3);
    expect(await classify([])).toEqual([]);
  });

  it('are lists or not, by options known at run time', async () => {
    const known: ClassifyOptions = { topK: 2 };
    const found: LabelScore[] | LabelScore[][] = await classify(texts, known);
    expect(found.flat().length).toBe(2 * texts.length);
    const given: { topK?: number } = { topK: 2 };
    const either = await classify(texts, given);
    expectTypeOf(either).toEqualTypeOf<LabelScore[] | LabelScore[][]>();
    expect(either).toEqual(found);
    const flat: LabelScore[] = await classify(texts, { functionToApply: 'none' });
    expect(flat.length).toBe(texts.length);
  });

  it('are those with at least a threshold', async () => {
    const all = await classify(texts, { topK: null });
    const threshold = 0.1;
    const found = await classify(texts, { threshold });
    expect(found).toEqual(all.map((list) => list.filter(({ score }) => score >= threshold)));
    expect(found.flat().length).toBeLessThan(all.flat().length);
    expect(await classify(texts[0] as string, { threshold, topK: 1 })).toEqual(all[0]?.slice(0, 1));
    expect(await classify(texts[0] as string, { threshold: 1 })).toEqual([]);
    const lists: LabelScore[][] = await classify(texts, { threshold, topK: 1 });
    expect(lists).toEqual(found.map((list) => list.slice(0, 1)));
  });

  it('can be scored by another function', async () => {
    const raw = await classify('no', { topK: null, functionToApply: 'none' });
    const soft = await classify('no', { topK: null, functionToApply: 'softmax' });
    const powers = raw.map(({ score }) => Math.exp(score));
    const sum = powers.reduce((x, y) => x + y, 0);
    soft.forEach(({ score }, place) => {
      expect(score).toBeCloseTo((powers[place] as number) / sum, 6);
    });
  });

  it('are the same in batches of any size, in the given order', async () => {
    const known = await Promise.all(texts.map(async (text) => (await classify(text))[0]));
    for (const batchSize of [1, 3]) {
      const small = await pipeline('text-classification', fixture('classifier'), { ...options, batchSize });
      const found = await small([...texts, ...texts]);
      expect(found.map(({ label }) => label)).toEqual([...known, ...known].map((one) => one?.label));
      found.forEach(({ score }, place) => {
        expect(score).toBeCloseTo(known[place % texts.length]?.score ?? NaN, 5);
      });
      await small.dispose();
    }
  });

  it('can be for pairs, with token types for the second text', async () => {
    const [one, other] = texts as [string, string];
    const [pair] = await classify({ text: one, textPair: other }, { functionToApply: 'none' });
    expect(await classify({ text: one, text_pair: other } as never, { functionToApply: 'none' })).toEqual([pair]);
    const [swapped] = await classify({ text: other, textPair: one }, { functionToApply: 'none' });
    expect(swapped?.score).not.toBeCloseTo(pair?.score ?? NaN, 3);
  });

  it('accept the option names of transformers.js', async () => {
    expect(await classify('no', { top_k: 2 } as never)).toEqual(await classify('no', { topK: 2 }));
  });

  it.each<[unknown, unknown, string]>([
    [5, {}, 'text-classification: expected a text, or { text, textPair }, got 5 at position 1'],
    [['no', ''], {}, 'text-classification: expected a text, or { text, textPair }, got an empty one at position 2'],
    [['no', null], {}, 'text-classification: expected a text, or { text, textPair }, got null at position 2'],
    [{ text: 'no' }, {}, 'text-classification: expected a text, or { text, textPair }, got missing at position 1'],
    [[['no', 'so']], {}, 'text-classification: expected a text, or { text, textPair }, got ["no","so"] at position 1'],
    ['no', { topk: 2 }, "text-classification: option 'topk' is unknown (did you mean 'topK'?)"],
    ['no', { topK: 0 }, "text-classification: option 'topK' is 0; expected >=1"],
    ['no', { functionToApply: 'relu' }, "text-classification: option 'functionToApply' is 'relu'"],
    ['no', 2, 'text-classification: options must be an object, got 2'],
    ['no', { adapter: 'a' }, "text-classification: option 'adapter' is 'a'; the pipeline has __base__"],
  ])('are rejected for %j with %j', async (text, given, message) => {
    expect(await refusal(classify(text as string, given as object))).toContain(message);
  });
});

describe('a pipeline', () => {
  it.each<[string, unknown, object, string]>([
    [
      'text-clasification',
      fixture('classifier'),
      {},
      "there is no task 'text-clasification' (did you mean 'text-classification'?)",
    ],
    [
      'text-classification',
      fixture('classifier'),
      { batchsize: 2 },
      "option 'batchsize' is unknown (did you mean 'batchSize'?)",
    ],
    [
      'text-classification',
      fixture('classifier'),
      { executor: undefined },
      "option 'executor' is missing; expected an executor",
    ],
    [
      'text-classification',
      fixture('classifier'),
      { methods: undefined },
      "option 'methods' is missing; expected a list of methods",
    ],
    ['text-classification', fixture('classifier'), { batchSize: 0 }, "option 'batchSize' is 0; expected >=1"],
    ['text-classification', 5, {}, 'expected a folder, a package, a hub id or a model, got 5'],
    ['text-classification', '', {}, "expected a folder, a package, a hub id or a model, got ''"],
    [
      'text-ranking',
      fixture('classifier'),
      {},
      'expected a model with one output, or two with relevance second; it has 3: a, b, c',
    ],
  ])('of %s and %j with %j is rejected', async (task, source, given, message) => {
    const all = { ...options, ...given } as PipelineOptions;
    expect(await refusal(pipeline(task as 'text-classification', source as string, all))).toContain(message);
  });

  it('says that an empty folder has neither adapter nor model', async () => {
    await expect(pipeline('text-classification', './nowhere', options)).rejects.toThrow(
      /^expected an adapter, with adapter_config.json, or a model: no model in .\/nowhere: /,
    );
  });

  it('names the pipeline that suits a model', async () => {
    const model = await fromPretrained(fixture('tagger-bert'), { task: 'token-classification' });
    for (const source of [model, attach(model, lora({ r: 1 }))]) {
      expect(await refusal(pipeline('text-ranking', source, options))).toMatch(
        /tagger-bert' is for token-classification: use the pipeline 'token-classification'$/,
      );
    }
  });

  it('truncates texts to its number of tokens', async () => {
    const short = await pipeline('text-classification', fixture('classifier'), { ...options, maxTokens: 3 });
    expect(await short('no no no')).toEqual(await short('no'));
    await short.dispose();
  });

  it('compiles once for all sizes, and only disposes of its own functions', async () => {
    const { executor: counted, compiles, disposed } = counting();
    const open = () => pipeline('text-classification', fixture('classifier'), { methods, executor: counted });
    const [first, second] = [await open(), await open()];
    const known = await first(texts);
    await first('no');
    await second(texts);
    await first(['no', 'a much longer text than the others', texts[0] as string]);
    expect(compiles()).toBe(2); // one per model
    await first.dispose();
    await first.dispose();
    expect(disposed()).toBe(1);
    expect(await second(texts)).toEqual(known);
    expect(compiles()).toBe(2);
    await second.dispose();
    expect(disposed()).toBe(2);
  });

  it('that is disposed of finishes running and waiting calls, and rejects others', async () => {
    const classify = await pipeline('text-classification', fixture('classifier'), options);
    const running = [classify(texts), classify('no'), classify('yes'), classify('no')]; // the last two share a batch
    await classify.dispose();
    expect((await Promise.all(running)).map(({ length }) => length)).toEqual([texts.length, 1, 1, 1]);
    expect(await refusal(classify('no'))).toBe("the pipeline 'text-classification' was disposed: create a new one");
  });

  it('answers concurrent calls like sequential ones', async () => {
    const classify = await pipeline('text-classification', fixture('classifier'), options);
    const known = await classify(texts, { functionToApply: 'none' });
    const found = await Promise.all([...texts, ...texts].map((text) => classify(text, { functionToApply: 'none' })));
    found.forEach(([one], place) => {
      expect(one?.score).toBeCloseTo(known[place % texts.length]?.score ?? NaN, 4);
    });
    await classify.dispose();
  });

  it('computes on a custom executor', async () => {
    const own: Executor = { ...compiled({ threads: 1 }) };
    const classify = await pipeline('text-classification', fixture('classifier'), { methods, executor: own });
    expect((await classify('no')).length).toBe(1);
    await classify.dispose();
  });
});

describe('a ranking', () => {
  it('with two labels is by the second one’s probability', async () => {
    const model = await fromPretrained(fixture('classifier'), {
      labels: ['no', 'yes'],
      problemType: 'single_label_classification',
    });
    const rank = await pipeline('text-ranking', model, options);
    const classify = await pipeline('text-classification', model, options);
    const pairs = texts.map((textPair) => ({ text: expected.query, textPair }));
    const yes = (await classify(pairs, { topK: null })).map((list) => list.find(({ label }) => label === 'yes')?.score);
    const found = await rank(expected.query, texts);
    expect(found.map(({ score }) => score)).toEqual([...found.map(({ score }) => score)].sort((x, y) => y - x));
    for (const { index, score } of found) expect(score).toBeCloseTo(yes[index] ?? NaN, 6);
    await Promise.all([rank.dispose(), classify.dispose()]);
  });

  it('accepts documents without a query object, and keeps the order of ties', async () => {
    const rank = await pipeline('text-ranking', fixture('reranker'), options);
    expect(await rank('Who?', [])).toEqual([]);
    expect((await rank('Who?', ['no', 'no', 'no'])).map(({ index }) => index)).toEqual([0, 1, 2]);
    expect(await refusal(rank('Who?', 'no' as never))).toContain(
      "text-ranking: expected a list of documents, got 'no'",
    );
    expect(await refusal(rank('', ['no']))).toContain("text-ranking: expected a query, got ''");
    expect(await refusal(rank('Who?', ['no', ' ']))).toContain('got an empty one at position 2');
    await rank.dispose();
  });
});
