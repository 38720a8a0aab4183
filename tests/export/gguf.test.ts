import { fileURLToPath } from 'node:url';
import {
  addAdapter,
  attach,
  memoryStorage,
  fullPrecision,
  mergeAndUnload,
  setAdapter,
  withAdapter,
  type Model,
  type PeftModel,
} from '@peftjs/core';
import { ConfigError, floats, hostZeros, tensorAt, type ConfiguredMethod, type HostTensors } from '@peftjs/core/method';
import { relativeDistance } from '@peftjs/conformance';
import { houlsby } from '@peftjs/baselines';
import { compiled } from '@peftjs/engine';
import { fromFloat32, toFloat32, writeGguf, type EncodedType, type GgufTensor } from '@peftjs/gguf';
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
import { sora } from '@peftjs/sora';
import { describe, expect, it } from 'vitest';
import { llamaType } from '../../packages/models/src/architectures/llama.js';
import { batchOf, folder, outputsOf, tiny, tokenRows } from '../models/tiny.js';
import { drawnValues } from '../peft/adapters.js';
import { contentOf, fileOf, folded, opened, type Content } from './gguf.js';

const BERT = fileURLToPath(new URL('../models/fixtures/bert-tiny', import.meta.url));
const executor = compiled({ threads: 1 });
const NETWORKS = [
  'llama',
  'qwen2',
  'qwen3',
  'olmo2',
  'granite',
  'smollm3',
  'phi3',
  'gemma',
  'gemma2',
  'gemma3',
  'gpt2',
] as const;

/** Networks with scaled positions that are only copied. */
const COPIED: readonly string[] = ['phi3'];

type Network = (typeof NETWORKS)[number];

async function logits(network: Network, model: Model | PeftModel): Promise<number[]> {
  const batch = batchOf(tiny(network), 1);
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

function expectSameWeights(after: Content, before: Content): void {
  expect([...after.tensors.keys()].sort()).toEqual([...before.tensors.keys()].sort());
  for (const [name, tensor] of before.tensors) {
    const own = after.tensors.get(name) ?? expect.fail(name);
    expect(own.shape, name).toEqual(tensor.shape);
    expect(relativeDistance(toFloat32(own), toFloat32(tensor)), name).toBeLessThan(1e-6);
  }
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
    expectSameWeights(after, before);
    const { 'general.file_type': _, ...said } = Object.fromEntries(before.metadata);
    expect(Object.fromEntries(after.metadata)).toMatchObject(said);
    const peft = adapted(model, lora({ r: 2, targetModules: 'all-linear' }));
    const merged = await opened(await modelFile(network, peft));
    expect(relativeDistance(await logits(network, merged), await logits(network, peft))).toBeLessThan(1e-5);
  });

  it.skipIf(COPIED.includes(network))('is written from a folder of transformers as from its file', async () => {
    const folder = memoryStorage();
    await saveMerged(await opened(fileOf(network)), 'folder', { storage: folder, sourceStorage: sourceOf(network) });
    const model = await fromPretrained('folder', { task: 'causal-lm', storage: folder });
    const [before, after] = [
      await contentOf(fileOf(network)),
      await contentOf(await modelFile(network, model, { sourceStorage: folder })),
    ];
    expectSameWeights(after, before);
    const { 'general.description': _, 'general.file_type': __, ...said } = Object.fromEntries(before.metadata);
    const pre = expect.objectContaining({ type: 'string' }) as unknown; // several names for one way to cut texts
    expect(Object.fromEntries(after.metadata)).toMatchObject({ ...said, 'tokenizer.ggml.pre': pre });
    const again = await opened(await modelFile(network, model, { sourceStorage: folder }));
    expect(again.tokenizer.encode('ABA')).toEqual(model.tokenizer.encode('ABA'));
    expect(again.fingerprint).toBe(model.fingerprint);
  });
});

it('Gemma 3 with the config.json of transformers 5 is written as well', async () => {
  const storage = memoryStorage();
  await saveMerged(await opened(fileOf('gemma3')), 'folder', { storage, sourceStorage: sourceOf('gemma3') });
  const old = JSON.parse(new TextDecoder().decode(await storage.read('folder/config.json'))) as Record<string, unknown>;
  const { rope_theta, rope_local_base_freq, rope_scaling, ...settings } = old;
  const rope_parameters = {
    full_attention: { rope_type: 'default', ...(rope_scaling as object), rope_theta },
    sliding_attention: { rope_type: 'default', rope_theta: rope_local_base_freq },
  };
  const config = JSON.stringify({ ...settings, rope_parameters });
  await storage.write('folder/config.json', new TextEncoder().encode(config));
  const model = await fromPretrained('folder', { task: 'causal-lm', storage });
  const again = await opened(await modelFile('gemma3', model, { sourceStorage: storage }));
  expect(again.fingerprint).toBe(model.fingerprint);
});

describe('an adapter', () => {
  const every = { r: 2, targetModules: 'all-linear' } as const;

  it('has one alpha: ranks and alphas of modules are folded into B', async () => {
    const ranks = { rankPattern: { q_proj: 3 }, alphaPattern: { v_proj: 5 }, useRslora: true };
    const peft = adapted(await opened(fileOf('llama')), lora({ ...every, ...ranks, loraAlpha: 8 }));
    const { bytes } = await adapterFile('llama', peft);
    const { metadata, tensors } = await contentOf(bytes);
    expect(Object.fromEntries(metadata)).toEqual({
      'general.architecture': { type: 'string', value: 'llama' },
      'general.type': { type: 'string', value: 'adapter' },
      'adapter.type': { type: 'string', value: 'lora' },
      'adapter.lora.alpha': { type: 'float32', value: Math.fround(8 * Math.sqrt(3)) }, // of the first module, q_proj
    });
    expect(tensors.get('blk.1.attn_q.weight.lora_a')?.shape).toEqual([3, 32]);
    expect(tensors.get('blk.1.attn_q.weight.lora_b')?.shape).toEqual([64, 3]);
    const own = await logits('llama', await opened(await folded(fileOf('llama'), bytes)));
    expect(relativeDistance(own, await logits('llama', peft))).toBeLessThan(1e-5);
  });

  it('of a folder of transformers fits the file that was made from it', async () => {
    const storage = folder(tiny('llama'), 'next');
    const model = await fromPretrained('tiny', { task: 'causal-lm', storage });
    const peft = adapted(model, lora(every));
    const { bytes } = await adapterFile('llama', peft, { sourceStorage: storage });
    const own = await logits('llama', await opened(await folded(fileOf('llama'), bytes)));
    expect(relativeDistance(own, await logits('llama', peft))).toBeLessThan(1e-5);
  });

  it('that was trained on weights in 8 bits is the one that is merged into the file', async () => {
    const storage = memoryStorage(new Map([['model.gguf', fileOf('llama')]]));
    const model = await fromPretrained('model.gguf', { task: 'causal-lm', storage, dtype: 'q8' });
    const peft = adapted(model, lora({ ...every, useDora: true }));
    const { bytes } = await adapterFile('llama', peft);
    const own = await logits('llama', await opened(await folded(fileOf('llama'), bytes)));
    const merged = mergeAndUnload(await fullPrecision(peft));
    expect(relativeDistance(own, await logits('llama', merged))).toBeLessThan(1e-5);
  });

  it('leaves out modules without ranks, and is refused without any', async () => {
    const peft = attach(await opened(fileOf('llama')), sora({ r: 2, targetModules: ['q_proj', 'v_proj'] }));
    const ranksOf = (live: string): PeftModel => {
      const values = Object.entries(drawnValues(peft)).map(([name, value]) =>
        name.endsWith('.gate') && !name.includes(live) ? [name, hostZeros(value.shape)] : [name, value],
      );
      return withAdapter(peft, { values: Object.fromEntries(values) as HostTensors });
    };
    const { tensors } = await contentOf((await adapterFile('llama', ranksOf('layers.1.self_attn.v_proj'))).bytes);
    expect([...tensors.keys()]).toEqual(['blk.1.attn_v.weight.lora_a', 'blk.1.attn_v.weight.lora_b']);
    await expect(adapterFile('llama', ranksOf('none'))).rejects.toThrow(/changes no weight/);
  });

  it.each<[string, ConfiguredMethod, GgufAdapterOptions]>([
    ['of low rank by its formula', loha(every), {}],
    ['of full rank', oft({ oftBlockSize: 4, targetModules: 'all-linear' }), {}],
    ['of full rank, cut to one rank,', oft({ oftBlockSize: 4, targetModules: 'all-linear' }), { rank: 1 }],
  ])('%s is written with its error', async (_, method, options) => {
    const peft = adapted(await opened(fileOf('llama')), method);
    const { error, bytes } = await adapterFile('llama', peft, options);
    const own = await opened(await folded(fileOf('llama'), bytes));
    const changes = (model: Model): Float32Array => changesOf(model, peft.model);
    expect(relativeDistance(changes(own), changes(mergeAndUnload(peft)))).toBeCloseTo(error, 5);
    if (options.rank === undefined) expect(error).toBeLessThan(1e-5);
    else expect(error).toBeGreaterThan(0.1);
  });

  it.each<[string, ConfiguredMethod, RegExp]>([
    [
      'modules trained in full',
      lora({ ...every, modulesToSave: ['norm'] }),
      /trains 'model.layers.0.input_layernorm' itself, which an adapter of llama.cpp cannot hold/,
    ],
    ['trained rows', lora({ ...every, trainableTokenIndices: [3] }), /trains 'model.embed_tokens' itself/],
    ['biases', lora({ ...every, bias: 'lora_only' }), /changes the bias of 'model.layers.0.self_attn.q_proj'/],
    ['tables', lora({ r: 2, targetModules: ['embed_tokens'] }), /changes 'model.embed_tokens', an embedding table/],
    ['layers of their own', houlsby({ bottleneck: 2 }), /houlsby does more than change weights/],
  ])('with %s is refused by name', async (_, method, message) => {
    const peft = attach(await opened(fileOf('granite')), method);
    await expect(adapterFile('granite', peft)).rejects.toThrow(message);
  });
});

/** How the weights of linear modules differ from those of another model. */
function changesOf(model: Model, from: Model): Float32Array {
  const linear = model.sites.filter(({ kind, path }) => kind === 'linear' && `${path}.weight` in model.weights);
  return Float32Array.from(
    linear.flatMap(({ path }) => {
      const [own, before] = [model, from].map(({ weights }) => floats(tensorAt(weights, `${path}.weight`)));
      return Array.from(own ?? [], (value, at) => value - (before?.[at] as number));
    }),
  );
}

describe('a model', () => {
  it.each<[GgufDtype, EncodedType, EncodedType]>([
    ['fp32', 'F32', 'F32'],
    ['fp16', 'F16', 'F16'],
    ['q8', 'Q8_0', 'F16'],
  ])('in %s has matrices of type %s, and %s where rows are no whole blocks', async (dtype, type, other) => {
    for (const [network, expected] of [
      ['llama', type],
      ['granite', other],
    ] as const) {
      const [before, after] = [
        await contentOf(fileOf(network)),
        await contentOf(await modelFile(network, await opened(fileOf(network)), { dtype })),
      ];
      for (const [name, { shape, ...stored }] of before.tensors) {
        const values = toFloat32({ shape, ...stored });
        expect(after.tensors.get(name), name).toEqual(fromFloat32(shape.length < 2 ? 'F32' : expected, shape, values));
      }
      expect(after.metadata.get('general.file_type')?.value).toBe({ fp32: 0, fp16: 1, q8: 7 }[dtype]);
    }
  });

  it('keeps what only its file says, and the factors of its positions', async () => {
    const { metadata, tensors } = await contentOf(fileOf('llama'));
    metadata.set('general.license', { type: 'string', value: 'apache-2.0' });
    metadata.set('quantize.imatrix.file', { type: 'string', value: 'of the old weights' });
    tensors.set('rope_freqs.weight', fromFloat32('F32', [8], new Float32Array(8).fill(1)));
    const bytes = writeGguf(tensors, metadata);
    const sourceStorage = memoryStorage(new Map([['model.gguf', bytes]]));
    const written = await contentOf(await modelFile('llama', await opened(bytes), { sourceStorage }));
    expect(written.metadata.get('general.license')?.value).toBe('apache-2.0');
    expect(written.metadata.has('quantize.imatrix.file')).toBe(false);
    expect(written.tensors.get('rope_freqs.weight')).toEqual(tensors.get('rope_freqs.weight'));
  });

  it('opens its source once', async () => {
    const source = sourceOf('llama');
    const read: string[] = [];
    const sourceStorage = { ...source, read: (file: string) => (read.push(file), source.read(file)) };
    await modelFile('llama', await opened(fileOf('llama')), { sourceStorage });
    expect(read).toEqual(['model.gguf']);
  });

  it('is refused before it is merged, if the adapter adds biases', async () => {
    const peft = attach(await opened(fileOf('llama')), lora({ r: 2, loraBias: true }));
    const broken = Object.entries(drawnValues(peft)).map(([name, value]) => [
      name,
      { ...value, data: floats(value).fill(NaN) },
    ]);
    const merged = modelFile('llama', withAdapter(peft, { values: Object.fromEntries(broken) as HostTensors }));
    await expect(merged).rejects.toThrow(/adds a bias, and this model stores none there/);
  });

  it('gets what merging changes besides matrices', async () => {
    const method = lora({ r: 2, targetModules: ['q_proj'], bias: 'all', modulesToSave: ['norm', 'embed_tokens'] });
    const peft = adapted(await opened(fileOf('granite')), method);
    const merged = await opened(await modelFile('granite', peft));
    expect(relativeDistance(await logits('granite', merged), await logits('granite', peft))).toBeLessThan(1e-5);
  });

  /** A folder of transformers that is made from a file, with other settings. */
  async function folderOf(network: string, settings: Readonly<Record<string, unknown>>, tokenizer: object = {}) {
    const storage = memoryStorage();
    await saveMerged(await opened(fileOf(network)), 'folder', { storage, sourceStorage: sourceOf(network) });
    for (const [file, changes] of [
      ['config.json', settings],
      ['tokenizer.json', tokenizer],
    ] as const) {
      const old = JSON.parse(new TextDecoder().decode(await storage.read(`folder/${file}`))) as object;
      await storage.write(`folder/${file}`, new TextEncoder().encode(JSON.stringify({ ...old, ...changes })));
    }
    return storage;
  }

  async function rewritten(...from: Parameters<typeof folderOf>): Promise<Uint8Array> {
    const storage = await folderOf(...from);
    const model = await fromPretrained('folder', { task: 'causal-lm', storage });
    return modelFile(from[0], model, { sourceStorage: storage });
  }

  it('of a folder has the scaled positions of Llama 3, and needs no settings that have defaults', async () => {
    const rope_scaling = {
      ...{ rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4 },
      original_max_position_embeddings: 8192,
    };
    const bytes = await rewritten('qwen2', { rope_scaling, rope_theta: 500_000, head_dim: null });
    const { tensors, metadata } = await contentOf(bytes);
    expect(toFloat32(tensors.get('rope_freqs.weight') as GgufTensor).at(-1)).toBe(8);
    expect(metadata.get('qwen2.rope.freq_base')?.value).toBe(500_000);
    await opened(bytes);
  });

  it.each([
    { rope_type: 'linear', factor: 2 },
    { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 16 },
    { rope_type: 'yarn', factor: 4, attention_factor: 1.5, beta_fast: 32 },
  ])('of a folder has the same scaled positions: %o', async (rope_scaling) => {
    const storage = await folderOf('qwen3', { rope_scaling });
    const model = await fromPretrained('folder', { task: 'causal-lm', storage });
    const unscaled = await logits('qwen3', await opened(fileOf('qwen3')));
    expect(relativeDistance(await logits('qwen3', model), unscaled)).toBeGreaterThan(1e-3);
    const again = await opened(await modelFile('qwen3', model, { sourceStorage: storage }));
    expect(relativeDistance(await logits('qwen3', again), await logits('qwen3', model))).toBeLessThan(1e-5);
  });

  it.each([true, false])(
    'of a folder has its tokenizer of SentencePiece, a blank before texts: %s',
    async (isBlank) => {
      const { metadata, tensors } = await contentOf(fileOf('sentencepiece'));
      metadata.set('tokenizer.ggml.add_space_prefix', { type: 'bool', value: isBlank });
      const bytes = writeGguf(tensors, metadata);
      const folder = memoryStorage(new Map([['model.gguf', bytes]]));
      await saveMerged(await opened(bytes), 'folder', { storage: folder, sourceStorage: folder });
      const model = await fromPretrained('folder', { task: 'causal-lm', storage: folder });
      const written = await modelFile('llama', model, { sourceStorage: folder });
      const after = await contentOf(written);
      for (const key of ['model', 'pre', 'tokens', 'token_type', 'add_space_prefix'].map(
        (name) => `tokenizer.ggml.${name}`,
      )) {
        expect(after.metadata.get(key), key).toEqual(metadata.get(key));
      }
      const texts = ['The licence applies.', '  two  spaces <s> na\u00efve\n<tool> \u5317\u4eac', ''];
      const { tokenizer } = await opened(written);
      for (const text of texts) expect(tokenizer.encode(text), text).toEqual(model.tokenizer.encode(text));
    },
  );

  it('of type mistral is a llama, unless it has a window', async () => {
    const { metadata } = await contentOf(
      await rewritten('llama', { model_type: 'mistral', mlp_bias: null, sliding_window: null }),
    );
    expect(metadata.get('general.architecture')?.value).toBe('llama');
    const windowed = rewritten('llama', { model_type: 'mistral', mlp_bias: null, sliding_window: 8 });
    await expect(windowed).rejects.toThrow(/'window.0' 8, which a GGUF file/);
  });

  const digits = { type: 'Digits', individual_digits: true };
  it.each<[string, Network | 'sentencepiece', object, object, RegExp]>([
    ['an activation', 'llama', { hidden_act: 'gelu' }, {}, /'activation.gelu' 1, which a GGUF file/],
    [
      'scaled positions',
      'llama',
      { rope_scaling: { rope_type: 'yarn', factor: 2, beta_fast: 16 } },
      {},
      /'betaFast' 16, which/,
    ],
    [
      'a tokenizer',
      'llama',
      {},
      { pre_tokenizer: { type: 'Sequence', pretokenizers: [digits, digits] } },
      /not one that can be written/,
    ],
    ['pieces that are cut first', 'sentencepiece', {}, { pre_tokenizer: digits }, /hold the 'pre_tokenizer' of this/],
    ['other added tokens', 'sentencepiece', {}, { added_tokens: [] }, /hold the 'added_tokens' of this tokenizer/],
    ['a missing setting', 'gpt2', { layer_norm_epsilon: undefined }, {}, /'layer_norm_epsilon' must be a number/],
  ])('with %s that no file can hold is refused', async (_, network, settings, tokenizer, message) => {
    await expect(rewritten(network, { ...settings }, tokenizer)).rejects.toThrow(message);
  });
});

describe('both', () => {
  const at = (file: string) => ({ storage: memoryStorage(), sourceStorage: sourceOf('llama'), file });

  it('refuse a network that llama.cpp does not have here, another task, and another ending', async () => {
    const { storage, sourceStorage, file } = at('out.gguf');
    const bert = await fromPretrained(BERT);
    await expect(saveGguf(bert, file, { storage })).rejects.toThrow(/the task here is 'sequence-classification'/);
    const modelTypes = [{ ...llamaType, name: 'other' }];
    const others = folder(tiny('llama'), 'next', { config: { model_type: 'other' } });
    const model = await fromPretrained('tiny', { task: 'causal-lm', storage: others, modelTypes });
    const from = { storage, sourceStorage: others, modelTypes };
    await expect(saveGguf(model, file, from)).rejects.toThrow(/the type of 'tiny' is other/);
    const llama = await opened(fileOf('llama'));
    await expect(saveGguf(llama, 'out.bin', { storage, sourceStorage })).rejects.toThrow(/file must end in .gguf/);
    expect([...storage.files]).toEqual([]);
  });

  it('refuse several active adapters, and weights in 8 bits that would be merged', async () => {
    const { storage, sourceStorage, file } = at('out.gguf');
    const peft = attach(await opened(fileOf('llama')), lora({ r: 2 }));
    addAdapter(peft, lora({ r: 2 }), { adapterName: 'other' });
    setAdapter(peft, ['default', 'other']);
    await expect(saveGgufAdapter(peft, file, { storage, sourceStorage })).rejects.toThrow(ConfigError);
    const small = await fromPretrained('model.gguf', { task: 'causal-lm', storage: sourceStorage, dtype: 'q8' });
    const onSmall = adapted(small, lora({ r: 2 }));
    await expect(saveGguf(onSmall, file, { storage, sourceStorage })).rejects.toThrow(/held in 8 bits/);
    await saveGgufAdapter(onSmall, file, { storage, sourceStorage });
    expect(storage.files.has(file)).toBe(true);
  });
});
