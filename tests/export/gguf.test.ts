import { attach, convertToLora, memoryStorage, mergeAndUnload, withAdapter, type Model, type PeftModel } from '@peftjs/core';
import { ConfigError, floats, UnsupportedError, type ConfiguredMethod } from '@peftjs/core/method';
import { relativeDistance } from '@peftjs/conformance';
import { houlsby } from '@peftjs/baselines';
import { compiled } from '@peftjs/engine';
import { fromFloat32, toFloat32, type EncodedType, type GgufTensor } from '@peftjs/gguf';
import { loha } from '@peftjs/loha';
import { lora } from '@peftjs/lora';
import {
  fromPretrained,
  saveGguf,
  saveGgufAdapter,
  saveMerged,
  type GgufAdapterOptions,
  type GgufDtype,
  type GgufOptions,
} from '@peftjs/models';
import { oft } from '@peftjs/oft';
import { describe, expect, it, test } from 'vitest';
import { batchOf, outputsOf, tiny, tokenRows } from '../models/tiny.js';
import { drawnValues } from '../peft/adapters.js';
import { contentOf, fileOf, folded, opened } from './gguf.js';

const executor = compiled({ threads: 1 });
const NETWORKS = ['llama', 'qwen2', 'qwen3', 'olmo2', 'granite', 'gpt2'] as const;

type Network = (typeof NETWORKS)[number];

async function logits(network: Network, model: Model | PeftModel): Promise<number[]> {
  const batch = batchOf(tiny(network), 0);
  return tokenRows(await outputsOf(model, batch, executor), batch);
}

/** An adapter with drawn values on a model. */
function adapted(model: Model, method: ConfiguredMethod): PeftModel {
  const peft = attach(model, method);
  return withAdapter(peft, { values: drawnValues(peft) });
}

/** The storage that has the model that a GGUF file is written for. */
const sourceOf = (network: string) => memoryStorage(new Map([['model.gguf', fileOf(network)]]));

async function adapterFile(network: string, peft: PeftModel, options: GgufAdapterOptions = {}) {
  const storage = memoryStorage();
  const error = await saveGgufAdapter(peft, 'adapter.gguf', { sourceStorage: sourceOf(network), storage, ...options });
  return { error, bytes: await storage.read('adapter.gguf') };
}

async function modelFile(network: string, model: Model | PeftModel, options: GgufOptions = {}) {
  const storage = memoryStorage();
  await saveGguf(model, 'out.gguf', { sourceStorage: sourceOf(network), storage, dtype: 'fp32', ...options });
  return storage.read('out.gguf');
}

describe.each(NETWORKS)('%s', (network) => {
  it('has the outputs of the adapter with the adapter of the file', async () => {
    const peft = adapted(await opened(fileOf(network)), lora({ r: 2, targetModules: 'all-linear' }));
    const { error, bytes } = await adapterFile(network, peft);
    const own = await logits(network, await opened(await folded(fileOf(network), bytes)));
    const expected = await logits(network, peft);
    expect(relativeDistance(own, expected)).toBeLessThan(1e-5);
    expect(relativeDistance(await logits(network, peft.model), expected)).toBeGreaterThan(0.01);
    expect(error).toBe(0);
  });

  it('is written from its file as it was, and merged with the outputs of the adapter', async () => {
    const model = await opened(fileOf(network));
    const [before, after] = [await contentOf(fileOf(network)), await contentOf(await modelFile(network, model))];
    expect(new Map([...after.tensors].sort())).toEqual(new Map([...before.tensors].sort()));
    expect(Object.fromEntries(after.metadata)).toMatchObject(Object.fromEntries(before.metadata));
    const peft = adapted(model, lora({ r: 2, targetModules: 'all-linear' }));
    const merged = await opened(await modelFile(network, peft));
    expect(relativeDistance(await logits(network, merged), await logits(network, peft))).toBeLessThan(1e-5);
  });

  it('is written from a folder of transformers as from its file', async () => {
    const folder = memoryStorage();
    await saveMerged(await opened(fileOf(network)), 'folder', { storage: folder, sourceStorage: sourceOf(network) });
    const model = await fromPretrained('folder', { task: 'causal-lm', storage: folder });
    const [before, after] = [
      await contentOf(fileOf(network)),
      await contentOf(await modelFile(network, model, { sourceStorage: folder })),
    ];
    expect(new Map([...after.tensors].sort())).toEqual(new Map([...before.tensors].sort()));
    const { 'general.description': _, ...said } = Object.fromEntries(before.metadata);
    const pre = expect.objectContaining({ type: 'string' }) as unknown; // several names for one way to cut texts
    expect(Object.fromEntries(after.metadata)).toMatchObject({ ...said, 'tokenizer.ggml.pre': pre });
    const again = await opened(await modelFile(network, model, { sourceStorage: folder }));
    expect(again.tokenizer.encode('ABA')).toEqual(model.tokenizer.encode('ABA'));
    expect(again.fingerprint).toBe(model.fingerprint);
  });
});
