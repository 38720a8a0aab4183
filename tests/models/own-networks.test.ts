import { attach, hostTensor, memoryStorage, mergeAndUnload, predict, type Batch, type Storage } from '@peftjs/core';
import { CheckpointError, ConfigError, hostIntegers, hostZeros, type HostTensors } from '@peftjs/core/method';
import { embeddingSite, linearSite } from '@peftjs/core/model';
import { eager } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, saveMerged, type PretrainedOptions } from '@peftjs/models';
import {
  batchInput,
  createTokenizer,
  headFor,
  linearHead,
  positiveInteger,
  tokenMean,
  type CheckpointFormat,
  type Features,
  type ModelType,
  type Network,
} from '@peftjs/models/architectures';
import { readSafetensors, writeSafetensors, type StoredTensor } from '@peftjs/safetensors';
import { describe, expect, it } from 'vitest';

// #region network
/** A network that this package does not have: y = C (W mean_t e(t) + b) + c. */
function bagOfWords(words: number, width: number): Network & { mean: Features } {
  const mean: Features = (scope, inputs) => {
    const embedded = scope.embedding('bag.words', batchInput(inputs, 'inputIds')); // [B, S] -> [B, S, H]
    return scope.linear('bag.mix', tokenMean(embedded, batchInput(inputs, 'attentionMask'))); // [B, H]
  };
  return {
    name: 'bag-of-words',
    maxTokens: 8,
    sites: [embeddingSite('bag.words', words, width), linearSite('bag.mix', width, width, { layer: 0 })],
    encodeOnly: [],
    defaultTargetModules: ['mix'],
    lookups: [{ site: 'bag.words', ids: 'inputIds' }],
    encode: mean,
    mean,
  };
}

const bagType: ModelType = {
  name: 'bag-of-words',
  savedBy: 'BagModel or BagForSequenceClassification',
  prefix: 'bag.',
  architecture(config, task) {
    const width = positiveInteger(config, 'width');
    const { mean, ...network } = bagOfWords(positiveInteger(config, 'vocab_size'), width);
    const heads = { 'sequence-classification': linearHead({ path: 'classifier' }, width, mean) };
    return { ...network, head: headFor('bag-of-words', heads, task) };
  },
};
// #endregion network

const words = [1, 0, 0, 2, 3, 3]; // [3, 2]
const [mix, mixBias] = [
  [1, 2, 3, 4],
  [0.5, -0.5],
]; // torch's [out, in]
const [classes, classBias] = [
  [1, 0, 0, 1, 1, 1],
  [0, 0, 1],
]; // [3, 2]

const f32 = (shape: readonly number[], data: readonly number[]): StoredTensor => ({
  dtype: 'F32',
  shape,
  data: Float32Array.from(data),
});
const weights: [string, StoredTensor][] = [
  ['bag.words.weight', f32([3, 2], words)],
  ['bag.mix.weight', f32([2, 2], mix)],
  ['bag.mix.bias', f32([2], mixBias)],
  ['classifier.weight', f32([3, 2], classes)],
  ['classifier.bias', f32([3], classBias)],
];
const definition = {
  version: '1.0',
  added_tokens: [],
  normalizer: null,
  pre_tokenizer: { type: 'Whitespace' },
  post_processor: null,
  decoder: null,
  model: { type: 'WordPiece', unk_token: 'a', vocab: { a: 0, b: 1, c: 2 } },
};
const json = (content: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(content));

/** The network as transformers would save it. */
function bagFolder(modelType = 'bag-of-words'): Storage {
  const config = { model_type: modelType, architectures: ['BagForSequenceClassification'], width: 2, vocab_size: 3 };
  return memoryStorage(
    new Map([
      ['bag/config.json', json(config)],
      ['bag/model.safetensors', writeSafetensors(new Map(weights), { format: 'pt' })],
      ['bag/tokenizer.json', json(definition)],
    ]),
  );
}

const load = (options: PretrainedOptions = {}) =>
  fromPretrained('bag', { storage: bagFolder(), modelTypes: [bagType], ...options });

/** The rows 'a b' and 'c', the second padded. */
const batch: Batch = {
  inputs: {
    inputIds: hostIntegers(Int32Array.of(0, 1, 2, 0), [2, 2]),
    attentionMask: hostTensor(Float32Array.of(1, 1, 1, 0), [2, 2]),
  },
  labels: hostZeros([2]),
  rowWeights: hostTensor(Float32Array.of(1, 1), [2]),
  rows: [0, 1],
};
/** 'a b': mean [0.5, 1], mixed [3, 5]; 'c': [3, 3], mixed [9.5, 20.5]. */
const logits = [
  [3, 5, 9],
  [9.5, 20.5, 31],
];

describe('a network of your own', () => {
  it('computes its formula, with the head, the tokenizer and the labels of its folder', async () => {
    const model = await load();
    expect(model.outputs).toBe(3);
    expect(model.tokenizer.tokenIds('c b')).toEqual([2, 1]);
    const rows = await predict(model, [batch], { executor: await eager({ backend: 'cpu' }) });
    expect(rows.map((row) => [...row])).toEqual(logits);
  });

  it('accepts adapters, and is saved for transformers and loaded again', async () => {
    const peft = attach(await load(), lora({ r: 1 }), { seed: 1 });
    const storage = memoryStorage(new Map());
    await saveMerged(mergeAndUnload(peft), 'merged', { storage, sourceStorage: bagFolder(), modelTypes: [bagType] });
    const saved = readSafetensors(await storage.read('merged/model.safetensors'));
    expect([...(saved.get('bag.mix.weight')?.data ?? [])]).toEqual(mix);
    const config = JSON.parse(new TextDecoder().decode(await storage.read('merged/config.json'))) as unknown;
    expect(config).toMatchObject({ model_type: 'bag-of-words', architectures: ['BagForSequenceClassification'] });
    const again = await fromPretrained('merged', { storage, modelTypes: [bagType] });
    expect(again.fingerprint).toBe((await load()).fingerprint);
  });

  it('replaces one with the same name', async () => {
    const model = await load({ storage: bagFolder('bert'), modelTypes: [{ ...bagType, name: 'bert' }] });
    expect(model.defaultTargetModules).toEqual(['mix']);
  });

  it('is unknown unless it is passed', async () => {
    await expect(load({ modelTypes: [] })).rejects.toThrow(CheckpointError);
    await expect(load({ modelTypes: [] })).rejects.toThrow(
      /unknown 'model_type' "bag-of-words"; known ones are "bert", .*"qwen2", .*; pass others as modelTypes, or export .* --model \S+ FOLDER$/,
    );
  });

  it.each([
    ['twice the same name', [bagType, bagType]],
    ['not a list', bagType],
    ['not a network', [{ name: 'bag-of-words' }]],
  ])('is rejected with a one-line message: %s', async (_, modelTypes) => {
    const loading = load({ modelTypes: modelTypes as readonly ModelType[] });
    await expect(loading).rejects.toThrow(ConfigError);
    await expect(loading).rejects.toThrow(/^option 'modelTypes' is .*; expected a list of networks with unique names/);
  });
});

describe('a kind of folder of your own', () => {
  // #region folder
  const bagFormat: CheckpointFormat = {
    name: 'a bag in one file',
    marker: 'bag.json',
    async read(folder) {
      const values = (await folder.json('bag.json', 1000)) as Record<string, number[]>;
      const tensor = (name: string, shape: number[]) => hostTensor(Float32Array.from(values[name] ?? []), shape);
      const read: HostTensors = {
        'bag.words.weight': tensor('words', [3, 2]),
        'bag.mix.weight': tensor('mix', [2, 2]), // [in, out]
        'bag.mix.bias': tensor('bias', [2]),
      };
      const { mean, ...network } = bagOfWords(3, 2);
      return {
        architecture: { ...network, head: linearHead({ path: 'classifier' }, 2, mean) },
        weights: read,
        tokenizer: await createTokenizer(definition, { maxTokens: 8, vocabularySize: 3, file: 'bag.json' }),
        head: {},
      };
    },
  };
  // #endregion folder
  const storage = memoryStorage(new Map([['bag/bag.json', json({ words, mix: [1, 3, 2, 4], bias: mixBias })]]));

  it('is recognised by its file, and loaded', async () => {
    const model = await fromPretrained('bag', { storage, formats: [bagFormat] });
    const features = { ...model, forward: model.encode };
    const rows = await predict(features, [batch], { executor: await eager({ backend: 'cpu' }) });
    expect(rows.map((row) => [...row])).toEqual(logits.map((row) => row.slice(0, 2)));
  });

  it('is listed among those that were looked for', async () => {
    await expect(
      fromPretrained('elsewhere', { storage, formats: [bagFormat], resolvePackage: (name) => Promise.resolve(name) }),
    ).rejects.toThrow(/expected bag\.json of a bag in one file, or config\.json of .*, or model\.json of/);
  });

  it('is not exported, since it does not define its files', async () => {
    const model = await fromPretrained('bag', { storage, formats: [bagFormat] });
    await expect(
      saveMerged(model, 'merged', { storage, sourceStorage: storage, formats: [bagFormat] }),
    ).rejects.toThrow('bag: models of a bag in one file cannot be exported');
  });
});
