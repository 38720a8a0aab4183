import {
  attach,
  disableAdapter,
  loadAdapter,
  loadPretrained,
  mergeAdapter,
  mergeAndUnload,
  predict,
  savePretrained,
  setAdapter,
  unmergeAdapter,
  type Executor,
  type InputBatch,
  type PeftModel,
  type Storage,
} from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, saveMerged, type PretrainedOptions } from '@peftjs/models';
import { pipeline } from '@peftjs/pipelines';
import { readSafetensors, writeSafetensors } from '@peftjs/safetensors';
import { beforeAll, describe, expect, it } from 'vitest';
import { counting, inMemory, methods } from './tiny.js';

const executor = compiled({ threads: 1 });

const TEXTS = ['Angela Merkel met Barack Obama in Berlin.', 'no', 'naïve café', 'She works in New York.'];

/** An adapter that changes the outputs: LoRA with random factors, and a random head by the seed. */
async function saved(storage: Storage, folder: string, seed: number, loading: PretrainedOptions): Promise<PeftModel> {
  const model = await fromPretrained('classifier', { storage, ...loading });
  const peft = attach(model, lora({ r: 2, initLoraWeights: false }), { seed });
  await savePretrained(peft, folder, { storage });
  return peft;
}

let storage: Awaited<ReturnType<typeof inMemory>>;
let [a, b] = [] as unknown as [PeftModel, PeftModel];

beforeAll(async () => {
  storage = await inMemory('classifier');
  const loading = { problemType: 'single_label_classification' } as const;
  a = await saved(storage, 'a', 1, { ...loading, labels: ['red', 'green', 'blue'] });
  b = await saved(storage, 'b', 2, { labels: ['x', 'y', 'z'] }); // multi-label, like the checkpoint
  await saved(storage, 'pair', 3, { ...loading, labels: ['yes', 'no'] });
});

/** The logits of each text, computed separately. */
async function logitsOf(peft: PeftModel, text: string): Promise<number[]> {
  const model = await fromPretrained('classifier', { storage });
  const { ids } = model.tokenizer.encode(text);
  const shape = [1, ids.length];
  const batch: InputBatch = {
    inputs: {
      inputIds: { dtype: 'int32', shape, data: Int32Array.from(ids) },
      attentionMask: { dtype: 'float32', shape, data: new Float32Array(ids.length).fill(1) },
    },
    rowWeights: { dtype: 'float32', shape: [1], data: Float32Array.of(1) },
    rows: [0],
  };
  const [logits = new Float32Array()] = await predict(peft, [batch], { executor });
  return [...logits];
}

function softmax(logits: readonly number[]): number[] {
  const powers = logits.map(Math.exp);
  const sum = powers.reduce((x, y) => x + y, 0);
  return powers.map((power) => power / sum);
}

const open = (source: Parameters<typeof pipeline>[1], options = {}) =>
  pipeline('text-classification', source, { methods, executor, storage, ...options });

/** Labels and scores as a record, in any order. */
const byLabel = (found: readonly { label: string; score: number }[]) =>
  Object.fromEntries(found.map(({ label, score }) => [label, score]));

const close = (scores: Readonly<Record<string, number>>) =>
  Object.fromEntries(Object.entries(scores).map(([label, score]) => [label, expect.closeTo(score, 5) as number]));

async function expectedOf(peft: PeftModel, labels: readonly string[], text: string, scoring: typeof softmax) {
  const scores = scoring(await logitsOf(peft, text));
  return close(Object.fromEntries(labels.map((label, index) => [label, scores[index] as number])));
}

const sigmoid = (logits: readonly number[]): number[] => logits.map((x) => 1 / (1 + Math.exp(-x)));

describe('an adapter folder', () => {
  it('is enough to find its base model and the labels', async () => {
    const [ofA, ofB] = [await (await open('a'))(TEXTS, { topK: null }), await (await open('b'))(TEXTS, { topK: null })];
    for (const [index, text] of TEXTS.entries()) {
      expect(byLabel(ofA[index] ?? [])).toEqual(await expectedOf(a, ['red', 'green', 'blue'], text, softmax));
      expect(byLabel(ofB[index] ?? [])).toEqual(await expectedOf(b, ['x', 'y', 'z'], text, sigmoid));
    }
  });

  it('has a head with as many outputs as in training, by its tensors if it has no labels', async () => {
    const config = JSON.parse(new TextDecoder().decode(await storage.read('pair/adapter_config.json'))) as object;
    const { id2label: _, label2id: __, ...bare } = config as Record<string, unknown>;
    await storage.write('bare/adapter_config.json', new TextEncoder().encode(JSON.stringify(bare)));
    await storage.write('bare/adapter_model.safetensors', await storage.read('pair/adapter_model.safetensors'));
    const [named, bareOne] = [await open('pair'), await open('bare')];
    const known = await named('no', { topK: null });
    expect(known.map(({ label }) => label).sort()).toEqual(['no', 'yes']);
    expect(byLabel(await bareOne('no', { topK: null }))).toEqual({
      LABEL_0: byLabel(known)['yes'],
      LABEL_1: byLabel(known)['no'],
    });
  });

  it('can be used with a base model in another place', async () => {
    const model = await fromPretrained('classifier', { storage });
    for (const base of ['classifier', model]) {
      const classify = await open('pair', { model: base });
      expect(await classify('no')).toEqual(await (await open('pair'))('no'));
    }
    await expect(open('classifier', { model: 'classifier' })).rejects.toThrow(
      "option 'model' is the base of an adapter",
    );
    await storage.write(
      'lost/adapter_config.json',
      new TextEncoder().encode('{"peft_type": "LORA", "base_model_name_or_path": "gone/", "task_type": "SEQ_CLS"}'),
    );
    await expect(open('lost')).rejects.toThrow(/^the base model of lost: .*; pass it as 'model' \(--model\)$/);
  });

  it('gives the same outputs as its merged folder, and as a model in memory', async () => {
    await saveMerged(mergeAndUnload(a), 'merged', { storage, sourceStorage: storage });
    const merged = await fromPretrained('merged', { storage });
    const known = await (await open('a'))(TEXTS, { topK: null });
    const inPlace = await loadPretrained(await fromPretrained('classifier', { storage }), 'a', { methods, storage });
    for (const source of ['merged', merged, a, inPlace]) {
      const found = await (await open(source))(TEXTS, { topK: null });
      expect(found.map(byLabel)).toEqual(known.map(byLabel).map(close));
    }
    const other = { model: mergeAndUnload(a) }; // with three outputs, the adapter with two
    const onFolder = await (await open('pair', { model: 'merged' }))(TEXTS, { topK: null });
    expect((await (await open('pair', other))(TEXTS, { topK: null })).map(byLabel)).toEqual(
      onFolder.map(byLabel).map(close),
    );
    mergeAdapter(inPlace);
    expect((await (await open(inPlace))(TEXTS, { topK: null })).map(byLabel)).toEqual(known.map(byLabel).map(close));
  });
});

it('a pipeline holds one network, however often its adapter is merged', async () => {
  const live = new Set<unknown>();
  const counted: Executor = {
    ...(executor as Executor),
    upload(tensor) {
      const value = (executor as Executor).upload(tensor);
      live.add(value);
      return value;
    },
    release(value) {
      live.delete(value);
      (executor as Executor).release(value);
    },
  };
  const peft = await loadPretrained(await fromPretrained('classifier', { storage }), 'a', { methods, storage });
  const classify = await pipeline('text-classification', peft, { methods, executor: counted });
  const held: number[] = [];
  for (let round = 0; round < 3; round++) {
    mergeAdapter(peft);
    await classify('no');
    unmergeAdapter(peft);
    await classify('no');
    held.push(live.size);
  }
  expect(held).toEqual([held[0], held[0], held[0]]);
  await classify.dispose();
  expect(live.size).toBe(0);
});

describe('a subfolder', () => {
  it('is used for the adapter, not for its base model', async () => {
    for (const file of ['adapter_config.json', 'adapter_model.safetensors']) {
      await storage.write(`runs/best/${file}`, await storage.read(`a/${file}`));
    }
    expect(await (await open('runs', { subfolder: 'best' }))('no')).toEqual(await (await open('a'))('no'));
  });
});

describe('a classifier without a trained head', () => {
  it('is rejected unless every adapter has one', async () => {
    await expect(open('classifier', { labels: ['yes', 'no'] })).rejects.toThrow(
      "'classifier' has no trained head of 2 outputs for sequence-classification, so its labels would be random: pass an adapter trained on it, or a model with such a head",
    );
    const file = 'adapter_model.safetensors';
    const weights = [...readSafetensors(await storage.read(`pair/${file}`))];
    const others = weights.filter(([name]) => !name.includes('classifier'));
    await storage.write(`headless/${file}`, writeSafetensors(new Map(others)));
    await storage.write('headless/adapter_config.json', await storage.read('pair/adapter_config.json'));
    await expect(open('headless')).rejects.toThrow(
      "neither the adapter 'headless' nor its base model 'classifier' has a trained head for sequence-classification, so its labels would be random: save the adapter with its head (in PEFT, modules_to_save)",
    );
  });
});

describe('loading options', () => {
  it('for the meaning of outputs take the place of an adapter’s', async () => {
    const labels = ['one', 'two', 'three'];
    const asked = { labels, problemType: 'multi_label_classification' };
    const found = await (await open('a', asked))('no', { topK: null });
    expect(byLabel(found)).toEqual(await expectedOf(a, labels, 'no', sigmoid));
    await expect(open('pair', asked)).rejects.toThrow(
      "option 'labels' has 3 names, but the adapter 'pair' has 2 outputs (yes, no): give one name for each, or omit it",
    );
  });

  it('are rejected for a model in memory', async () => {
    await expect(open(a, { labels: ['x', 'y', 'z'] })).rejects.toThrow(
      "option 'labels' is for loading a model, but this one is in memory: omit it",
    );
  });
});

describe('several adapters', () => {
  const adapters = { a: 'a', b: 'b' };

  it('can be chosen for a call or for each text, each with its own labels', async () => {
    const classify = await open('classifier', { adapters });
    const [onlyA, onlyB] = [await (await open('a'))(TEXTS), await (await open('b'))(TEXTS)];
    const same = (found: readonly { label: string; score: number }[]) =>
      found.map(({ label, score }) => ({ label, score: expect.closeTo(score, 5) as number }));
    expect(await classify(TEXTS)).toEqual(same(onlyA)); // the first is the default
    expect(await classify(TEXTS, { adapter: 'a' })).toEqual(same(onlyA));
    expect(await classify(TEXTS, { adapter: 'b' })).toEqual(same(onlyB));
    const mixed = await classify(TEXTS, { adapter: ['a', 'b', 'b', 'a'] });
    expect(mixed).toEqual(same([onlyA[0], onlyB[1], onlyB[2], onlyA[3]] as typeof onlyA));
    const names = ['a', 'b', 'b', 'a'];
    const atOnce = await Promise.all(TEXTS.map((text, index) => classify(text, { adapter: names[index] as string })));
    expect(atOnce.flat()).toEqual(same([onlyA[0], onlyB[1], onlyB[2], onlyA[3]] as typeof onlyA));
    const base = await (await open('classifier'))(TEXTS);
    expect(await classify(TEXTS, { adapter: '__base__' })).toEqual(same(base));
    const withBase = await classify(TEXTS, { adapter: ['a', '__base__', 'b', 'a'] });
    expect(withBase).toEqual(same([onlyA[0], base[1], onlyB[2], onlyA[3]] as typeof onlyA));
  });

  it('are compiled once for each choice, in whatever order choices follow each other', async () => {
    const { executor: counted, compiles } = counting();
    const peft = await loadPretrained(await fromPretrained('classifier', { storage }), 'a', { methods, storage });
    await loadAdapter(peft, 'b', { methods, storage, adapterName: 'b' });
    const classify = await pipeline('text-classification', peft, { methods, executor: counted });
    const choices = ['b', ['default', 'b'], ['b', 'default'], ['b', '__base__'], ['default', 'default']] as const;
    const round = async (): Promise<void> => {
      await classify(['no', 'no']);
      for (const adapter of choices) await classify(['no', 'no'], { adapter });
    };
    for (const change of [() => setAdapter(peft, ['default', 'b']), () => mergeAdapter(peft)]) {
      change();
      await round();
      const once = compiles();
      await round();
      expect(compiles()).toBe(once);
    }
    await classify.dispose();
  });

  it('have no labels while they are disabled', async () => {
    const peft = await loadPretrained(await fromPretrained('classifier', { storage }), 'a', { methods, storage });
    const classify = await open(peft);
    const base = await classify('no', { adapter: '__base__' });
    expect(await disableAdapter(peft, () => classify('no'))).toEqual(base);
  });

  it('are added to the source’s own, and do not change a model in memory', async () => {
    const classify = await open('a', { adapters: { b: 'b' } });
    expect(await classify('no', { adapter: 'default' })).toEqual(await (await open('a'))('no'));
    expect(await classify('no', { adapter: 'b' })).toEqual(await (await open('b'))('no'));
    const beside = await open(a, { adapters: { b: 'b' } });
    expect(await beside('no', { adapter: 'b' })).toEqual(await (await open('b'))('no'));
    expect([...a.adapters.keys()]).toEqual(['default']);
  });

  it('give an answer its labels even if another one is active by then', async () => {
    const peft = await loadPretrained(await fromPretrained('classifier', { storage }), 'a', { methods, storage });
    await loadAdapter(peft, 'b', { methods, storage, adapterName: 'b' });
    const classify = await open(peft);
    const [ofA, ofB] = [await classify('no'), await classify('no', { adapter: 'b' })];
    const [running, waiting] = [classify('no'), classify('no')];
    setAdapter(peft, 'b');
    expect(await running).toEqual(ofA);
    expect(await waiting).toEqual(ofB);
  });

  it('of a model in memory are those that it has at the time of a call', async () => {
    const peft = await loadPretrained(await fromPretrained('classifier', { storage }), 'a', { methods, storage });
    const classify = await open(peft);
    await expect(classify('no', { adapter: 'later' })).rejects.toThrow('the pipeline has default, __base__');
    await loadAdapter(peft, 'b', { methods, storage, adapterName: 'later' });
    expect(await classify('no', { adapter: 'later' })).toEqual(await (await open('b'))('no'));
  });

  it('that are unknown, or not one for each text, are rejected with a one-line message', async () => {
    const classify = await open('classifier', { adapters: { support: 'a', sales: 'b' } });
    await expect(classify('no', { adapter: 'suport' })).rejects.toThrow(
      "text-classification: option 'adapter' is 'suport' (did you mean 'support'?); the pipeline has support, sales, __base__",
    );
    await expect(classify(TEXTS, { adapter: ['sales'] })).rejects.toThrow(
      "option 'adapter' is a list of 1; expected one name, or a list of 4, one for each text",
    );
    await expect(open('classifier', { adapters: { support: 'nowhere' } })).rejects.toThrow(
      "adapter 'support': expected a folder with adapter_config.json, none in nowhere",
    );
    await expect(open('a', { adapters: { pair: 'pair' } })).rejects.toThrow(
      "adapter 'pair' has 2 outputs, but the model 3: all adapters of a pipeline must have the same number",
    );
  });
});
