import {
  addAdapter,
  attach,
  loadPretrained,
  mergeAdapter,
  mergeAndUnload,
  savePretrained,
  setAdapter,
  type Executor,
  type PeftModel,
} from '@peftjs/core';
import { relativeDistance } from '@peftjs/conformance';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, saveMerged } from '@peftjs/models';
import { embedderForAdapter } from '@peftjs/models/architectures';
import { pipeline, type Pipelines } from '@peftjs/pipelines';
import { writeSafetensors } from '@peftjs/safetensors';
import { semanticSearch } from '@peftjs/tasks';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { counting, expected, inMemory, methods } from './tiny.js';

const executor = compiled({ threads: 1 });
const { texts } = expected;

const json = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));

let storage: Awaited<ReturnType<typeof inMemory>>;
let plain: Pipelines['feature-extraction'];
let sentences: Pipelines['feature-extraction'];

beforeAll(async () => {
  storage = await inMemory('classifier');
  for (const file of ['config.json', 'model.safetensors', 'tokenizer.json']) {
    await storage.write(`sentences/${file}`, await storage.read(`classifier/${file}`));
  }
  await writeModules('sentences', 'Normalize');
  plain = await open('classifier');
  sentences = await open('sentences');
});
afterAll(() => Promise.all([plain.dispose(), sentences.dispose()]));

/** Writes the files of sentence-transformers for the pooling 'cls' and a module after it into a folder. */
async function writeModules(folder: string, last: string): Promise<void> {
  const modules = ['Transformer', 'Pooling', last].map((name, idx) => ({
    idx,
    name: String(idx),
    path: idx === 0 ? '' : `${idx}_${name}`,
    type: `sentence_transformers.models.${name}`,
  }));
  await storage.write(`${folder}/modules.json`, json(modules));
  await storage.write(
    `${folder}/1_Pooling/config.json`,
    json({ pooling_mode_cls_token: true, pooling_mode_mean_tokens: false }),
  );
}

const open = (source: Parameters<typeof pipeline>[1], options = {}) =>
  pipeline('feature-extraction', source, { methods, executor, storage, ...options });

function expectClose(actual: ArrayLike<number>, known: ArrayLike<number>): void {
  expect(actual.length).toBe(known.length);
  for (let at = 0; at < known.length; at++) expect(actual[at]).toBeCloseTo(known[at] as number, 5);
}

/** The rows of a list of lists, each normalised to length 1. */
const unit = (rows: readonly (readonly number[])[]): number[][] =>
  rows.map((row) => row.map((value) => value / Math.hypot(...row)));

describe('embeddings', () => {
  it("go by transformers.js's other name of the task, too", async () => {
    const named = await pipeline('embeddings' as 'feature-extraction', 'sentences', { methods, executor, storage });
    expect((await named(texts)).data).toEqual((await sentences(texts)).data);
    await named.dispose();
  });

  it('are means over the tokens of each text, without padding', async () => {
    const { data, dims, tolist } = await plain(texts);
    const tokens = await plain(texts, { pooling: 'none' });
    expect(dims).toEqual([4, 16]);
    expect(tolist().flat()).toEqual([...data]);
    const counts = await Promise.all(texts.map(async (text) => (await plain(text, { pooling: 'none' })).dims[1] ?? 0));
    expect(tokens.dims).toEqual([4, Math.max(...counts), 16]);
    const known = (tokens.tolist() as number[][][]).map((rows, text) => {
      const own = rows.slice(0, counts[text]);
      expect(
        rows
          .slice(counts[text])
          .flat()
          .every((value) => value === 0),
      ).toBe(true);
      return (own[0] as number[]).map((_, at) => own.reduce((sum, row) => sum + (row[at] as number), 0) / own.length);
    });
    expectClose(data, known.flat());
  });

  it('can be searched', async () => {
    const [hits = []] = semanticSearch(await plain(texts[2] ?? ''), await plain(texts));
    expect(hits[0]).toEqual({ corpusId: 2, score: expect.closeTo(1, 5) as number });
    expect(hits).toHaveLength(texts.length);
  });

  it('have length 1 on request', async () => {
    const { data } = await plain(texts, { normalize: true });
    expectClose(data, unit((await plain(texts)).tolist() as number[][]).flat());
  });

  it('are computed as set in the sentence-transformers folder, or in the call', async () => {
    const cls = ((await plain(texts, { pooling: 'none' })).tolist() as number[][][]).map(([first]) => first ?? []);
    expectClose((await sentences(texts)).data, unit(cls).flat());
    expectClose((await sentences(texts, { normalize: false })).data, cls.flat());
    expectClose((await sentences(texts, { pooling: 'mean', normalize: false })).data, (await plain(texts)).data);
    expectClose((await plain(texts, { pooling: 'cls' })).data, cls.flat());
    const asked = await open('sentences', { pooling: 'mean', normalize: false });
    expectClose((await asked(texts)).data, (await plain(texts)).data);
    await asked.dispose();
  });

  it('are pooled where they are computed, so that no text’s tokens are held', async () => {
    const own: Executor = compiled({ threads: 1 });
    let held = 0;
    const counted: Executor = {
      ...own,
      async download(value) {
        const tensor = await own.download(value);
        held += tensor.data.length;
        return tensor;
      },
    };
    const embed = await pipeline('feature-extraction', 'classifier', { methods, executor: counted, storage });
    const { data } = await embed(texts, { pooling: 'max' });
    expect(held).toBe(data.length);
    await embed.dispose();
  });

  it('have the shapes of transformers.js', async () => {
    expect((await plain('no')).dims).toEqual([1, 16]);
    expect((await plain(['no'])).dims).toEqual([1, 16]);
    expect((await plain('no', { pooling: 'none' })).dims.length).toBe(3);
    const none = await plain([]);
    expect([none.dims, none.data.length, none.tolist()]).toEqual([[0, 0], 0, []]);
  });

  it('are pooled under the names of transformers.js', async () => {
    for (const [theirs, pooling] of [
      ['first_token', 'cls'],
      ['last_token', 'lasttoken'],
    ] as const) {
      expect((await plain('no', { pooling: theirs as never })).data).toEqual((await plain('no', { pooling })).data);
    }
  });

  it('are rejected for inputs that are not texts, and for unknown options', async () => {
    await expect(plain(5 as never)).rejects.toThrow('feature-extraction: expected a text');
    await expect(plain('no', { pooling: 'median' as never })).rejects.toThrow(
      `feature-extraction: option 'pooling' is 'median'`,
    );
  });
});

describe('an adapter for embeddings', () => {
  let peft: PeftModel;
  beforeAll(async () => {
    const model = await fromPretrained('sentences', { storage, task: 'feature-extraction' });
    peft = attach(model, lora({ r: 2, initLoraWeights: false }), { seed: 1 });
    await savePretrained(peft, 'embedder', { storage });
  });

  it('is opened from its folder, with the base model’s pooling', async () => {
    const [embed, inHand] = [await open('embedder'), await open(peft)];
    const { data, dims } = await embed(texts);
    expect(dims).toEqual([4, 16]);
    expect(data).toEqual((await inHand(texts)).data);
    expect(data[0]).not.toBeCloseTo((await sentences(texts)).data[0] as number, 3);
    const tokens = (await embed(texts, { pooling: 'none' })).tolist() as number[][][];
    expectClose(data, unit(tokens.map(([first]) => first ?? [])).flat());
    expectClose((await embed(texts, { adapter: '__base__' })).data, (await sentences(texts)).data);
    const mixed = await embed(texts, { adapter: ['default', '__base__', 'default', 'default'] });
    expectClose(mixed.data.slice(0, 16), data.slice(0, 16));
    expectClose(mixed.data.slice(16, 32), (await sentences(texts)).data.slice(16, 32));
    await Promise.all([embed.dispose(), inHand.dispose()]);
  });

  it('is pooled as sentence-transformers has written into its folder, with its prompts and length', async () => {
    const asked = { storage, task: 'feature-extraction', pooling: 'cls', normalize: true } as const;
    const inPython = attach(await fromPretrained('classifier', asked), lora({ r: 2, initLoraWeights: false }));
    await savePretrained(inPython, 'in-python', { storage });
    await writeModules('in-python', 'Normalize');
    await storage.write('in-python/config_sentence_transformers.json', json({ prompts: { query: 'is it ' } }));
    await storage.write('in-python/sentence_bert_config.json', json({ max_seq_length: 12 }));
    const [embed, inHand] = [await open('in-python'), await open(inPython)];
    expect((await embed('so good')).data).toEqual((await inHand('so good')).data);
    expect((await embed('good', { promptName: 'query' })).data).toEqual((await inHand('is it good')).data);
    expect((await embed('so good as it is, and so on', { pooling: 'none' })).dims).toEqual([1, 12, 16]);
    const mean = await open('in-python', { pooling: 'mean' });
    expect((await mean('so good')).data).not.toEqual((await inHand('so good')).data);
    await Promise.all([embed.dispose(), inHand.dispose(), mean.dispose()]);
  });

  it('keeps its prompts and length when it is saved again or merged, beside other settings of its base model', async () => {
    const file = 'config_sentence_transformers.json';
    for (const name of ['config.json', 'model.safetensors', 'tokenizer.json']) {
      await storage.write(`dotted/${name}`, await storage.read(`classifier/${name}`));
    }
    await writeModules('dotted', 'Normalize');
    await storage.write(`dotted/${file}`, json({ prompts: { passage: 'so ' }, similarity_fn_name: 'dot' }));
    const asked = { storage, task: 'feature-extraction' } as const;
    await savePretrained(attach(await fromPretrained('dotted', asked), lora({ r: 2 })), 'of-dotted', { storage });
    const written = { prompts: { query: 'is it ' }, default_prompt_name: 'query' };
    await storage.write(`of-dotted/${file}`, json(written));
    await storage.write('of-dotted/sentence_bert_config.json', json({ max_seq_length: 6 }));
    const base = await embedderForAdapter('dotted', asked, { path: 'of-dotted', storage });
    const peft = await loadPretrained(base, 'of-dotted', { methods, storage });
    await savePretrained(peft, 'again', { storage });
    await saveMerged(mergeAndUnload(peft), 'dotted-merged', { storage, sourceStorage: storage });
    const read = async (path: string): Promise<unknown> =>
      JSON.parse(new TextDecoder().decode(await storage.read(path)));
    expect(await read(`again/${file}`)).toEqual(written);
    expect(await read(`dotted-merged/${file}`)).toEqual({ ...written, similarity_fn_name: 'dot' });
    for (const folder of ['again', 'dotted-merged']) {
      expect(await read(`${folder}/sentence_bert_config.json`)).toMatchObject({ max_seq_length: 6 });
    }
  });

  it('has no default prompt if its own file of prompts names none', async () => {
    const prompts = (own: object) => json({ prompts: { query: 'is it ' }, ...own });
    for (const file of ['config.json', 'model.safetensors', 'tokenizer.json']) {
      await storage.write(`prompted/${file}`, await storage.read(`classifier/${file}`));
    }
    await writeModules('prompted', 'Normalize');
    const file = 'config_sentence_transformers.json';
    await storage.write(`prompted/${file}`, prompts({ default_prompt_name: 'query' }));
    const base = await fromPretrained('prompted', { storage, task: 'feature-extraction' });
    await savePretrained(attach(base, lora({ r: 2, initLoraWeights: false })), 'of-prompted', { storage });
    const kept = await open('of-prompted');
    const { data } = await kept('good', { prompt: '' });
    expect((await kept('good')).data).not.toEqual(data);
    await storage.write(`of-prompted/${file}`, prompts({ default_prompt_name: null }));
    const own = await open('of-prompted');
    expect((await own('good')).data).toEqual(data);
    await Promise.all([kept.dispose(), own.dispose()]);
    const asked = { storage, task: 'feature-extraction', dtype: 'q8' } as const;
    const inBits = await embedderForAdapter('prompted', asked, { path: 'of-prompted', storage });
    expect(await inBits.fullPrecision?.()).toMatchObject({ prompts: { query: 'is it ' } });
    expect(await inBits.fullPrecision?.()).not.toHaveProperty('defaultPromptName');
  });

  it('is pooled as in training, even if that is not how the base model’s folder says', async () => {
    const asked = { storage, task: 'feature-extraction', pooling: ['max', 'mean'], normalize: true } as const;
    const other = attach(await fromPretrained('sentences', asked), lora({ r: 2, initLoraWeights: false }));
    await savePretrained(other, 'otherwise', { storage });
    const [embed, inHand] = [await open('otherwise'), await open(other)];
    expect((await embed('so good')).data).toEqual((await inHand('so good')).data);
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined);
    const both = await open('otherwise', { adapters: { embedder: 'embedder' } });
    expect(warn.mock.calls).toEqual([
      [
        `the adapter in 'embedder' was trained with {"pooling":"cls","normalize":true}, but is used with {"pooling":["max","mean"],"normalize":true}: load the model with the adapter's options`,
      ],
    ]);
    warn.mockRestore();
    await Promise.all([embed.dispose(), inHand.dispose(), both.dispose()]);
  });

  it('is refused if its folder has modules that the base model lacks', async () => {
    await savePretrained(peft, 'dense', { storage });
    await writeModules('dense', 'LayerNorm');
    await storage.write('dense/2_LayerNorm/config.json', json({ dimension: 16 }));
    const ones = { dtype: 'F32', shape: [16], data: new Float32Array(16).fill(1) } as const;
    const weights = new Map([['norm.weight', ones] as const, ['norm.bias', ones] as const]);
    await storage.write('dense/2_LayerNorm/model.safetensors', writeSafetensors(weights));
    await expect(open('dense')).rejects.toThrow(
      "dense/modules.json has other modules after the pooling than the base model 'sentences'",
    );
  });

  it('has its current values at each call, also for token embeddings, and is compiled once for each', async () => {
    const { executor: counted, compiles } = counting();
    const model = await fromPretrained('sentences', { storage, task: 'feature-extraction' });
    const live = attach(model, lora({ r: 2, initLoraWeights: false }), { seed: 1, adapterName: 'one' });
    addAdapter(live, lora({ r: 2, initLoraWeights: false }), { seed: 2, adapterName: 'two' });
    const embed = await pipeline('feature-extraction', live, { methods, executor: counted });
    const one = await embed(texts, { pooling: 'none' });
    expect((await embed(texts, { pooling: 'none', adapter: 'one' })).data).toEqual(one.data);
    expect(compiles()).toBe(1);
    setAdapter(live, 'two');
    const two = await embed(texts, { pooling: 'none' });
    expect(two.data).not.toEqual(one.data);
    expect((await embed(texts, { pooling: 'none', adapter: 'two' })).data).toEqual(two.data);
    expect(compiles()).toBe(2);
    mergeAdapter(live);
    const merged = [await embed(texts, { pooling: 'none' }), await embed(texts, { pooling: 'none' })] as const;
    expect(relativeDistance(merged[0].data, two.data)).toBeLessThan(1e-4);
    expect(merged[1].data).toEqual(merged[0].data);
    expect(compiles()).toBe(3);
    await embed.dispose();
  });

  it('is not accepted as a classifier, nor a classifier as an embedder', async () => {
    await expect(pipeline('text-classification', 'embedder', { methods, executor, storage })).rejects.toThrow(
      "'embedder' is for feature-extraction: use the pipeline 'feature-extraction'",
    );
  });
});
