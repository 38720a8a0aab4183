/** Weights in 4 bits: a tied decoder and an encoder are trained on every kind of executor. */
import {
  attach,
  hostTensor,
  loadPretrained,
  memoryStorage,
  onWarning,
  savePretrained,
  train,
  type Batch,
  type Executor,
  type Model,
  type TrainingData,
} from '@peftjs/core';
import { transposed } from '@peftjs/core/linalg';
import { tensorAt } from '@peftjs/core/method';
import { isQuantized } from '@peftjs/core/model';
import { relativeDistance } from '@peftjs/conformance';
import { compiled, eager } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { generate, type PretrainedModel } from '@peftjs/models';
import { readSafetensors, writeSafetensors, type StoredTensor } from '@peftjs/safetensors';
import { describe, expect, it } from 'vitest';
import { batchOf, heads, load, outputsOfAll, tiny, type HeadName, type Tiny } from '../models/tiny.js';

const llama = tiny('llama'); // 32 and 64 features; its head is the table of words
const bert = tiny('deberta-v3');

/** Batches of two sizes. */
function batches(from: Tiny, head: HeadName): Batch[] {
  const own = [batchOf(from, 1, { head }), batchOf(from, 2, { head, further: 3 })];
  return head === 'next' ? own.map((batch) => ({ ...batch, labels: tensorAt(batch.inputs, 'inputIds') })) : own;
}

async function losses(model: Model, from: Tiny, head: HeadName, executor: Executor): Promise<number[]> {
  const own = batches(from, head);
  const data: TrainingData = { kind: heads[head].kind, epoch: () => own, batchesPerEpoch: own.length };
  const seen: number[] = [];
  await train(attach(model, lora({ r: 4, targetModules: 'all-linear' }), { seed: 1 }), data, {
    executor,
    epochs: 3,
    learningRate: 1e-2,
    onStep: ({ loss }) => seen.push(loss),
  });
  return seen;
}

/** The model whose float32 weights are the numbers of its quantized ones. */
function expanded(model: PretrainedModel): Model {
  const weights = Object.entries(model.weights).map(([name, { dtype, shape, data }]) => [name, { dtype, shape, data }]);
  return { ...model, weights: Object.fromEntries(weights) as Model['weights'] };
}

const floatsOf = (data: ArrayLike<number>): Float32Array => Float32Array.from(data);

const bitsOf = ({ weights }: Model, name: string): number | undefined => {
  const weight = tensorAt(weights, name);
  return isQuantized(weight) ? weight.bits : undefined;
};

describe.each([
  ['a decoder whose head is its table', llama, 'next'],
  ['an encoder', bert, 'classes'],
] as const)('%s in 4 bits', (_, from, head) => {
  it('trains on one graph for all sizes like with the same numbers in float32', async () => {
    const model = await load(from, head, { dtype: 'q4' });
    const executor = compiled({ threads: 1 });
    const warnings: string[] = [];
    const restore = onWarning((message) => warnings.push(message));
    const held = await losses(model, from, head, executor);
    restore();
    const same = await losses(expanded(model), from, head, executor);
    expect(held).not.toEqual(same);
    expect(relativeDistance(held, same)).toBeLessThan(0.01);
    expect(held.at(-1)).toBeLessThan(held[0] as number);
    expect(warnings.filter((message) => message.includes('for each size'))).toEqual([]);
    const outputs = async (of: Model) => (await outputsOfAll(of, batches(from, head), executor)).map((row) => [...row]);
    expect(relativeDistance((await outputs(model)).flat(), (await outputs(expanded(model))).flat())).toBeLessThan(0.03);
  });
});

describe('a decoder in 4 bits', () => {
  it('gives the same losses on WebAssembly', async () => {
    const model = await load(llama, 'next', { dtype: 'q4' });
    const runtime = await import('onnxruntime-web');
    const [native, wasm] = [compiled({ threads: 1 }), compiled({ threads: 1, runtime })];
    const expected = await losses(model, llama, 'next', native);
    expect(relativeDistance(await losses(model, llama, 'next', wasm), expected)).toBeLessThan(5e-3);
  });

  it('trains with the expanded weights where bytes are not multiplied', async () => {
    const model = await load(llama, 'next', { dtype: 'q4' });
    const executor = await eager({ backend: 'wasm' });
    expect(await losses(model, llama, 'next', executor)).toEqual(
      await losses(expanded(model), llama, 'next', executor),
    );
  });
});

it('holds linear modules in 4 bits, tables in 8, and all else in float32', async () => {
  const model = await load(llama, 'next', { dtype: 'q4' });
  expect(bitsOf(model, 'model.layers.0.self_attn.q_proj.weight')).toBe(4);
  expect(bitsOf(model, 'model.layers.0.mlp.down_proj.weight')).toBe(4);
  expect(bitsOf(model, 'model.embed_tokens.weight')).toBe(8);
  expect(bitsOf(model, 'model.norm.weight')).toBeUndefined();
  const fingerprints = await Promise.all(
    (['fp32', 'q8', 'q4', 'q4'] as const).map(async (dtype) => (await load(llama, 'next', { dtype })).fingerprint),
  );
  expect(new Set(fingerprints).size).toBe(3);
  expect(fingerprints[2]).toBe(fingerprints[3]);
});

it("loads PEFT's copy of a base weight, which is compared as rounded", async () => {
  const model = await load(llama, 'next', { dtype: 'q4' });
  const storage = memoryStorage();
  const targetModules = ['embed_tokens', 'lm_head', 'q_proj'];
  await savePretrained(attach(model, lora({ r: 2, targetModules }), { seed: 1 }), 'adapter', { storage });
  const path = 'adapter/adapter_model.safetensors';
  const own = readSafetensors(await storage.read(path));
  const { weights } = await load(llama, 'next');
  const copied = async (change: number) => {
    const copies = ['model.embed_tokens', 'lm_head', 'model.layers.0.self_attn.q_proj'].map((at) => {
      const { data, shape } = tensorAt(weights, at === 'lm_head' ? 'model.embed_tokens.weight' : `${at}.weight`);
      const stored = at.endsWith('q_proj') ? transposed(hostTensor(floatsOf(data), shape)) : { data, shape };
      const numbers = floatsOf(stored.data).map((value, index) => (index === 40 ? value + change : value));
      return [
        `base_model.model.${at}.base_layer.weight`,
        { dtype: 'F32', shape: stored.shape, data: numbers },
      ] as const;
    });
    await storage.write(path, writeSafetensors(new Map<string, StoredTensor>([...own, ...copies]), { format: 'pt' }));
    return loadPretrained(model, 'adapter', { storage, methods: [lora] });
  };
  await expect(copied(0)).resolves.toBeDefined();
  await expect(copied(1)).rejects.toThrow(/which differs from the weight of/);
});

it('writes text like with the same numbers in float32', async () => {
  const model = await load(llama, 'next', { dtype: 'q4' });
  const executor = compiled({ threads: 1 });
  const prompts = [[3, 5, 7], [4]];
  const [own] = await generate(model, prompts, { executor, maxNewTokens: 6 });
  const [same] = await generate({ ...model, ...expanded(model) }, prompts, { executor, maxNewTokens: 6 });
  expect(own?.ids).toEqual(same?.ids);
});
