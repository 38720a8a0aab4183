import { readFileSync } from 'node:fs';
import { adalora } from '@peftjs/adalora';
import {
  adamW,
  attach,
  getPeftModelStateDict,
  loadPretrained,
  memoryStorage,
  mergeAndUnload,
  onWarning,
  predict,
  savePretrained,
  setPeftModelStateDict,
  train,
  type Model,
  type PeftModel,
} from '@peftjs/core';
import { floats, hostZeros, mapTensor, tensorAt } from '@peftjs/core/method';
import { referenceExecutor, relativeDistance } from '@peftjs/conformance';
import { lora } from '@peftjs/lora';
import { fromPretrained, saveMerged } from '@peftjs/models';
import { readSafetensors, toFloat32, writeSafetensors, type StoredTensor } from '@peftjs/safetensors';
import { sora } from '@peftjs/sora';
import { beforeEach, describe, expect, it } from 'vitest';
import { batchOf, folder, heads, load, tiny, type HeadName, type Network } from '../models/tiny.js';
import { fixtures, readJson, TOLERANCE } from './bert.js';

/** Written by tools/golden/peft_families.py. */
const { adapters } = readJson('families/expected.json') as {
  adapters: Record<string, { network: Network; head: HeadName | 'body'; losses?: number[] }>;
};
const expected = readSafetensors(new Uint8Array(readFileSync(`${fixtures}/families/expected.safetensors`)));
const BATCH = 1;

/** Adapters of PEFT that are rejected by name. */
const refused: Readonly<Record<string, RegExp>> = {
  'tied-lora-together': /ensureWeightTying with 'model\.embed_tokens' in targetModules/,
  'tokens-alone': /holds a TRAINABLE_TOKENS adapter/,
};
const read = Object.entries(adapters).filter(([name]) => !(name in refused));

const executor = await referenceExecutor();
const methods = [lora, adalora];

function network(name: Network, head: HeadName | 'body'): Promise<Model> {
  return head === 'body' ? load(tiny(name), 'classes', { task: 'feature-extraction' }) : load(tiny(name), head);
}

/** The error of a model's outputs with an adapter against PEFT's. */
async function distance(name: string, model: Model | PeftModel, family: Network): Promise<number> {
  const golden = expected.get(name) ?? expect.fail(name);
  const perRow = golden.shape.slice(1).reduce((product, size) => product * size, 1);
  const rows = await predict(model, [batchOf(tiny(family), BATCH)], { executor });
  return relativeDistance(
    rows.flatMap((row) => [...row.slice(0, perRow)]),
    [...toFloat32(golden)],
  );
}

describe.each(read)('%s, written by PEFT', (name, { network: family, head }) => {
  const warnings: string[] = [];
  beforeEach(() => {
    warnings.length = 0;
    return onWarning((message) => warnings.push(message));
  });

  it('has the same outputs as in PEFT, also merged where that differs, and is saved as it was read', async () => {
    const model = await network(family, head);
    const peft = await loadPretrained(model, `${fixtures}/families/${name}`, { methods });
    expect(await distance(name, peft, family)).toBeLessThan(TOLERANCE);
    if (/^(tied|tokens)/.test(name)) {
      expect(await distance(name, mergeAndUnload(peft), family)).toBeLessThan(TOLERANCE);
    }
    const storage = memoryStorage();
    await savePretrained(peft, 'again', { storage, pruned: false });
    const again = await loadPretrained(model, 'again', { methods, storage });
    if (process.env.WRITE_FAMILIES) await savePretrained(peft, `${process.env.WRITE_FAMILIES}/${name}`);
    expect(getPeftModelStateDict(again)).toEqual(getPeftModelStateDict(peft));
    expect(warnings).toEqual([]);
  });
});

const trained = Object.entries(adapters).flatMap(([name, { network: family, head, losses }]) =>
  losses && head !== 'body' ? [{ name, family, head, losses }] : [],
);

it.each(trained)('$name has the same losses as in PEFT, step by step', async ({ name, family, head, losses }) => {
  const peft = await loadPretrained(await load(tiny(family), head), `${fixtures}/families/${name}`, { methods });
  const batch = batchOf(tiny(family), BATCH, { head });
  const course: number[] = [];
  await train(
    peft,
    { kind: heads[head].kind, batchesPerEpoch: losses.length, epoch: () => losses.map(() => batch) },
    {
      executor,
      epochs: 1,
      learningRate: 0.01,
      schedule: 'constant',
      warmupRatio: 0,
      clipNorm: null,
      optimizer: adamW({ weightDecay: 0 }),
      onStep: ({ loss }) => void course.push(loss),
    },
  );
  expect(relativeDistance(course, losses)).toBeLessThan(1e-6);
});

it.each(Object.entries(refused))('%s is rejected', async (name, message) => {
  const { network: family, head } = adapters[name] ?? expect.fail(name);
  const model = await network(family, head);
  await expect(loadPretrained(model, `${fixtures}/families/${name}`, { methods })).rejects.toThrow(message);
});

describe("PEFT's copies of frozen weights", () => {
  const folder = `${fixtures}/families/tied-table-lora`;
  const tensors = readSafetensors(new Uint8Array(readFileSync(`${folder}/adapter_model.safetensors`)));
  const base = 'base_model.model.model.embed_tokens';
  const read = async (model: Model, copies: Readonly<Record<string, StoredTensor>>) => {
    const storage = memoryStorage();
    await storage.write('a/adapter_config.json', new Uint8Array(readFileSync(`${folder}/adapter_config.json`)));
    const written = new Map<string, StoredTensor>([...tensors, ...Object.entries(copies)]);
    await storage.write('a/adapter_model.safetensors', writeSafetensors(written, { format: 'pt' }));
    return loadPretrained(model, 'a', { methods, storage });
  };

  it('are compared as rounded to bfloat16, and may be of other tables and heads (save_embedding_layers)', async () => {
    const plain = await network('llama', 'next');
    // weights that bfloat16 rounds
    const table = mapTensor(tensorAt(plain.weights, 'model.embed_tokens.weight'), (value) => value * 1.001);
    const model = { ...plain, weights: { ...plain.weights, 'model.embed_tokens.weight': table } };
    const words = floats(table);
    const { shape } = table;
    const halves = Uint16Array.from(new Uint32Array(words.slice().buffer), (bits) => (bits + 0x8000) >>> 16);
    const rounded = { dtype: 'BF16', shape, data: halves } as const;
    const changed = { dtype: 'F32', shape, data: words.map((value, at) => (at === 40 ? value + 1 : value)) } as const;
    const expected = getPeftModelStateDict(await read(model, { [`${base}.base_layer.weight`]: rounded }));
    const head = { 'base_model.model.lm_head.weight': rounded };
    const other = await read(model, { ...head, [`${base}.base_layer.weight`]: rounded });
    expect(getPeftModelStateDict(other)).toEqual(expected);
    await expect(read(model, { 'base_model.model.lm_head.weight': changed })).rejects.toThrow(/which differs from the/);
  });
});

it("is saved for transformers with a separate head if a tied table's two uses differ", async () => {
  const name = 'tokens-apart';
  const files = folder(tiny('gpt2'), 'next');
  const model = await load(tiny('gpt2'), 'next');
  const peft = await loadPretrained(model, `${fixtures}/families/${name}`, { methods });
  const storage = memoryStorage();
  await saveMerged(mergeAndUnload(peft), 'merged', { sourceStorage: files, storage });
  const config = JSON.parse(new TextDecoder().decode(await storage.read('merged/config.json'))) as object;
  expect(config).toMatchObject({ tie_word_embeddings: false });
  const merged = await fromPretrained('merged', { storage, task: 'causal-lm' });
  expect(await distance(name, merged, 'gpt2')).toBeLessThan(TOLERANCE);
});

describe('single tokens', () => {
  it("start with the table's values, and can be set by a state dict", async () => {
    const model = await load(tiny('llama'), 'next');
    const peft = attach(model, lora({ r: 1, targetModules: ['q_proj'], trainableTokenIndices: [7, 3, 40] }));
    const [own, plain] = await Promise.all(
      [peft, model].map((each) => predict(each, [batchOf(tiny('llama'), BATCH)], { executor })),
    );
    expect(own).toEqual(plain);
    const theirs = await loadPretrained(model, `${fixtures}/families/tokens-tied`, { methods });
    setPeftModelStateDict(peft, getPeftModelStateDict(theirs));
    expect(getPeftModelStateDict(peft)).toEqual(getPeftModelStateDict(theirs));
  });

  it.each([
    [{ trainableTokenIndices: [80] }, /different tokens from 0 to 79/],
    [{ trainableTokenIndices: [3, 3] }, /different tokens/],
    [{ trainableTokenIndices: { nothing: [3] } }, /has no module 'nothing'/],
    [{ trainableTokenIndices: { 'model.norm': [3] } }, /'model\.norm' is no word embedding/],
    [
      { trainableTokenIndices: [3], modulesToSave: ['lm_head'] },
      /'lm_head' is changed by trainableTokenIndices and by/,
    ],
    [{ trainableTokenIndices: { embed_tokens: [3], lm_head: [4] }, ensureWeightTying: true }, /needs the same tokens/],
  ])('are rejected as %j', async (options, message) => {
    const model = await load(tiny('llama'), 'next');
    expect(() => attach(model, lora({ targetModules: ['q_proj'], ...options }))).toThrow(message);
  });

  it('are rejected by a method without them', async () => {
    const model = await load(tiny('electra'), 'classes');
    const loading = loadPretrained(model, `${fixtures}/families/tokens`, { methods: [sora] });
    await expect(loading).rejects.toThrow(/'sora' does not have 'trainable_token_indices'/);
  });
});

it('an unknown tensor is rejected, also one named like a function of all objects', async () => {
  const peft = attach(await load(tiny('llama'), 'next'), lora({ r: 1, targetModules: ['q_proj'] }));
  const tensors = { ...getPeftModelStateDict(peft), toString: hostZeros([1]) };
  expect(() => setPeftModelStateDict(peft, tensors)).toThrow(/holds 'toString', which this method does not read/);
});

describe('an unreadable folder', () => {
  it('gives an error that says how to convert a pickle', async () => {
    const storage = memoryStorage();
    const bytes = readFileSync(`${fixtures}/families/tokens/adapter_config.json`);
    await storage.write('old/adapter_config.json', new Uint8Array(bytes));
    await storage.write('old/adapter_model.bin', new Uint8Array([1]));
    const loading = loadPretrained(await load(tiny('electra'), 'classes'), 'old', { methods, storage });
    await expect(loading).rejects.toThrow(/adapter_model\.bin is a pickle, .* save_pretrained it/);
  });

  it('gives an error that says which task it is for', async () => {
    const loading = loadPretrained(await load(tiny('electra'), 'tokens'), `${fixtures}/families/tokens`, { methods });
    await expect(loading).rejects.toThrow(/holds 'classifier\.dense\.\w+', which belongs to no module of 'tiny'/);
  });
});
