import {
  attach,
  loadPretrained,
  memoryStorage,
  mergeAndUnload,
  predict,
  savePretrained,
  withAdapter,
} from '@peftjs/core';
import { floats, UnsupportedError } from '@peftjs/core/method';
import { referenceExecutor, relativeDistance } from '@peftjs/conformance';
import { lora } from '@peftjs/lora';
import { fromPretrained, saveMerged, type Pooling } from '@peftjs/models';
import { describe, expect, it } from 'vitest';
import { textsOf } from '../parity/networks.js';
import { drawnValues } from '../peft/adapters.js';
import { batchOf, folder, golden, load, outputsOf, tiny, type Network, type Tiny } from './tiny.js';

const TOLERANCE = 1e-5;
const executor = await referenceExecutor();
const encoders: readonly Network[] = ['distilbert', 'roberta', 'electra', 'deberta-v3'];
const options = { task: 'feature-extraction' } as const;

/** Embeddings of a batch from transformers' hidden states, pooled like sentence-transformers does. */
function expected(from: Tiny, number: number, { pooling, normalize }: Pooling): number[] {
  const hidden = golden(from, `${number}/hidden`) ?? expect.fail('no hidden states');
  const mask = batchOf(from, number).inputs.attentionMask?.data ?? expect.fail('no mask');
  const [rows = 0, tokens = 0, width = 0] = hidden.shape;
  return Array.from({ length: rows }, (_, row) => {
    const own = Array.from({ length: tokens }, (__, token) => mask[row * tokens + token] as number);
    const only = pooling === 'cls' ? 0 : own.lastIndexOf(1);
    const weights = own.map((weight, token) => (pooling === 'mean' ? weight : Number(token === only)));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const text = Array.from({ length: width }, (__, at) =>
      weights.reduce(
        (sum, w, token) => sum + (w * (floats(hidden)[(row * tokens + token) * width + at] as number)) / total,
        0,
      ),
    );
    const norm = normalize ? Math.hypot(...text) : 1;
    return text.map((value) => value / norm);
  }).flat();
}

describe.each(encoders)('%s as an embedder', (network) => {
  const from = tiny(network);

  it.each([
    { pooling: 'mean', normalize: false },
    { pooling: 'mean', normalize: true },
    { pooling: 'cls', normalize: true },
  ] as const)('pools the hidden states of transformers: %o', async (pooling) => {
    const model = await load(from, 'tokens', { ...options, ...pooling });
    for (const number of [0, 1, 2]) {
      const actual = await outputsOf(model, batchOf(from, number), executor);
      expect(relativeDistance(actual, expected(from, number, pooling)), `batch ${number}`).toBeLessThan(TOLERANCE);
    }
  });

  it('has the modules of the class without a head, and saves adapters by these names', async () => {
    const model = await load(from, 'tokens', options);
    const storage = memoryStorage();
    const peft = attach(model, lora({ r: 2 }), { seed: 3 });
    await savePretrained(withAdapter(peft, { values: drawnValues(peft) }), 'adapter', { storage });
    const config: unknown = JSON.parse(new TextDecoder().decode(await storage.read('adapter/adapter_config.json')));
    expect(config).toMatchObject({ task_type: 'FEATURE_EXTRACTION', modules_to_save: null });
    const stored = new TextDecoder('latin1').decode(await storage.read('adapter/adapter_model.safetensors'));
    expect(stored).toMatch(/"base_model\.model\.(encoder|transformer)\.layer\.0\.[\w.]+\.lora_A\.weight"/);
    const again = await loadPretrained(model, 'adapter', { methods: [lora], storage });
    const batch = batchOf(from, 1);
    expect(await outputsOf(mergeAndUnload(again), batch, executor)).not.toEqual(
      await outputsOf(model, batch, executor),
    );
  });
});

describe.each(['gpt2', 'qwen2'] as const)('%s as an embedder', (network) => {
  it('pools the hidden states of transformers, and is saved and loaded as the class without a head', async () => {
    const from = tiny(network);
    const pooling = { pooling: 'lasttoken', normalize: true } as const;
    const model = await load(from, 'tokens', { ...options, ...pooling });
    for (const number of [0, 1, 2]) {
      const actual = await outputsOf(model, batchOf(from, number), executor);
      expect(relativeDistance(actual, expected(from, number, pooling)), `batch ${number}`).toBeLessThan(TOLERANCE);
    }
    const storage = memoryStorage();
    const peft = attach(model, lora({ r: 2 }), { seed: 3 });
    await savePretrained(peft, 'adapter', { storage });
    const stored = new TextDecoder('latin1').decode(await storage.read('adapter/adapter_model.safetensors'));
    expect(stored).toMatch(/"base_model\.model\.(h|layers)\.0\.[\w.]+\.lora_A\.weight"/);
    await saveMerged(mergeAndUnload(peft), 'tiny', { source: 'tiny', sourceStorage: folder(from, 'tokens'), storage });
    const again = await fromPretrained('tiny', { ...options, storage });
    expect(again.pooling).toEqual(pooling);
    const batch = batchOf(from, 2);
    expect(relativeDistance(await outputsOf(again, batch, executor), await outputsOf(model, batch, executor))).toBe(0);
  });
});

describe('rows with several texts', () => {
  it('are embedded text by text', async () => {
    const from = tiny('roberta');
    const model = await load(from, 'tokens', options);
    const batch = batchOf(from, 1);
    const [single, triplets] = [
      await predict(model, [batch], { executor }),
      await predict(model, [textsOf(batch, 3)], { executor }),
    ];
    expect(triplets).toHaveLength(3);
    triplets.forEach((row, index) => {
      const texts = [0, 1, 2].flatMap((column) => [...(single[(index + column) % 3] ?? [])]);
      expect(relativeDistance([...row], texts)).toBeLessThan(TOLERANCE);
    });
  });

  it('each use their own adapter', async () => {
    const from = tiny('roberta');
    const model = await load(from, 'tokens', options);
    const peft = attach(model, lora({ r: 2 }), { seed: 3 });
    const moved = withAdapter(peft, { values: drawnValues(peft) });
    const pairs = textsOf(batchOf(from, 1), 2);
    const mixed = await predict(moved, [pairs], { executor, adapterNames: ['default', '__base__', 'default'] });
    const [own, base] = [await predict(moved, [pairs], { executor }), await predict(model, [pairs], { executor })];
    [own, base, own].forEach((rows, row) => {
      expect(relativeDistance([...(mixed[row] ?? [])], [...(rows[row] ?? [])])).toBeLessThan(TOLERANCE);
    });
  });
});

describe('a folder of sentence-transformers', () => {
  const from = tiny('roberta');
  const bytes = (content: unknown) => new TextEncoder().encode(JSON.stringify(content));
  const old = (mode: string) => ({ pooling_mode_cls_token: mode === 'cls', pooling_mode_mean_tokens: mode === 'mean' });
  const withModules = async (classes: readonly string[], pooling: unknown, settings?: object, file = 'bert') => {
    const storage = folder(from, 'tokens');
    const modules = classes.map((type, idx) => ({
      idx,
      path: idx === 0 ? '' : `${idx}_${type.split('.').at(-1)}`,
      type,
    }));
    await storage.write('tiny/modules.json', bytes(modules));
    await storage.write('tiny/1_Pooling/config.json', bytes(pooling));
    if (settings) await storage.write(`tiny/sentence_${file}_config.json`, bytes(settings));
    return fromPretrained('tiny', { ...options, storage });
  };
  const two = ['sentence_transformers.models.Transformer', 'sentence_transformers.models.Pooling'];
  const normalize = 'sentence_transformers.base.modules.normalize.Normalize';

  it('names the pooling and the number of tokens in the format of its version', async () => {
    expect((await withModules(two, old('cls'))).pooling).toEqual({ pooling: 'cls', normalize: false });
    const model = await withModules([...two, normalize], { pooling_mode: 'mean' }, { max_seq_length: 5 });
    expect(model.pooling).toEqual({ pooling: 'mean', normalize: true });
    expect(model.maxTokens).toBe(5);
    expect(model.fingerprint).not.toBe((await withModules(two, old('mean'), { max_seq_length: 5 })).fingerprint);
  });

  it.each([
    [{ max_seq_length: 5 }, 'xlm-roberta'],
    [{ max_seq_length: 7, processor_kwargs: { model_max_length: 5 } }],
    [{ tokenizer_args: { model_max_length: 5, trust_remote_code: true } }],
    [{ max_seq_length: 7, tokenizer_args: { model_max_length: 6 }, processing_kwargs: { text: { max_length: 5 } } }],
  ])('may name the number of tokens as %o', async (settings, file?: string) => {
    expect((await withModules(two, old('mean'), settings, file)).maxTokens).toBe(5);
  });

  it.each<[string[], unknown, RegExp, object?]>([
    [['custom_st.Transformer', ...two.slice(1)], old('mean'), /of sentence_transformers, got "custom_st\.Transformer"/],
    [
      two,
      old('mean'),
      /sentence_bert_config\.json: 'truncation' is false; expected nothing/,
      { processing_kwargs: { text: { truncation: false } } },
    ],
    [two, old('mean'), /'use_fast' is true; expected nothing/, { tokenizer_args: { use_fast: true } }],
    [
      [...two, 'sentence_transformers.models.Dropout'],
      old('mean'),
      /modules\.json: expected the modules .*; got Transformer, Pooling, Dropout/,
    ],
    [
      two,
      { pooling_mode: 'median' },
      /1_Pooling\/config\.json: expected pooling modes of cls, max, mean, .*; got median/,
    ],
  ])('is rejected if embeddings would differ: %o', async (classes, pooling, message, settings) => {
    const loading = () => withModules(classes, pooling, settings);
    await expect(loading()).rejects.toThrow(UnsupportedError);
    await expect(loading()).rejects.toThrow(message);
  });

  it('can be saved from a merged model, with the same embeddings', async () => {
    const model = await load(from, 'tokens', { ...options, pooling: 'cls', normalize: true });
    const peft = attach(model, lora({ r: 2 }), { seed: 3 });
    const merged = mergeAndUnload(withAdapter(peft, { values: drawnValues(peft) }));
    const storage = memoryStorage();
    await saveMerged(merged, 'tiny', { source: 'tiny', sourceStorage: folder(from, 'tokens'), storage });
    const config: unknown = JSON.parse(new TextDecoder().decode(await storage.read('tiny/config.json')));
    expect(config).toMatchObject({ architectures: ['RobertaModel'] });
    const again = await fromPretrained('tiny', { ...options, storage });
    const batch = batchOf(from, 2);
    expect(again.pooling).toEqual({ pooling: 'cls', normalize: true });
    expect(relativeDistance(await outputsOf(again, batch, executor), await outputsOf(merged, batch, executor))).toBe(0);
  });
});

it('is not required for a classifier', async () => {
  await expect(load(tiny('roberta'), 'classes', { pooling: 'cls' })).rejects.toThrow(
    "option 'pooling' is not for the task",
  );
  await expect(load(tiny('roberta'), 'tokens', { ...options, numLabels: 2 })).rejects.toThrow(
    "'numLabels' is not for the task",
  );
  const wrong = { ...options, pooling: 'median' } as never;
  await expect(load(tiny('roberta'), 'tokens', wrong)).rejects.toThrow("'median'; expected one of cls, max, mean");
});
