import type { PeftError, Storage } from '@peftjs/core';
import { CheckpointError, type HostTensor } from '@peftjs/core/method';
import { fromPretrained, type LoadProgress, type PretrainedOptions } from '@peftjs/models';
import { readSafetensors, toFloat32, writeSafetensors, type StoredTensor } from '@peftjs/safetensors';
import { describe, expect, it } from 'vitest';
import { bertFiles, bertFolder, bertInMemory } from './bert-tiny.js';

const tensors = readSafetensors(bertFiles['model.safetensors'] as Uint8Array);

type Json = Record<string, unknown>;

const bytesOf = (content: unknown): Uint8Array =>
  new TextEncoder().encode(typeof content === 'string' ? content : JSON.stringify(content));
const parsed = (file: string): Json => JSON.parse(new TextDecoder().decode(bertFiles[file])) as Json;

const withConfig = (settings: Json): Storage =>
  bertInMemory({ 'config.json': bytesOf({ ...parsed('config.json'), ...settings }) });
const withTokenizer = (parts: Json): Storage =>
  bertInMemory({ 'tokenizer.json': bytesOf({ ...parsed('tokenizer.json'), ...parts }) });

/**
 * The checkpoint with each tensor renamed or converted by `change`; tensors for which it returns nothing are left out.
 */
function rewritten(change: (name: string, tensor: StoredTensor) => Record<string, StoredTensor>): Uint8Array {
  const entries = [...tensors].flatMap(([name, tensor]) => Object.entries(change(name, tensor)));
  return writeSafetensors(new Map(entries), { format: 'pt' });
}

const withWeights = (change: Parameters<typeof rewritten>[0]): Storage =>
  bertInMemory({ 'model.safetensors': rewritten(change) });
/** The checkpoint with one tensor changed or removed. */
const withTensor = (path: string, change?: (tensor: StoredTensor) => StoredTensor): Storage =>
  withWeights((name, tensor) => (name !== path ? { [name]: tensor } : change ? { [name]: change(tensor) } : {}));

/** Two shards and their index. */
function sharded(weightMap: (name: string, place: number) => string, metadata: Json = {}): Storage {
  const place = new Map([...tensors.keys()].map((name, index) => [name, index % 2]));
  const shard = (number: number): Uint8Array =>
    rewritten((name, tensor) => (place.get(name) === number ? { [name]: tensor } : {}));
  const weight_map = Object.fromEntries([...place].map(([name, number]) => [name, weightMap(name, number)]));
  return bertInMemory({
    'model.safetensors': undefined,
    'model.safetensors.index.json': bytesOf({ metadata, weight_map }),
    'model-1-of-2.safetensors': shard(0),
    'model-2-of-2.safetensors': shard(1),
  });
}

const shardName = (_: string, place: number): string => `model-${place + 1}-of-2.safetensors`;
const load = (storage: Storage, options: PretrainedOptions = {}) => fromPretrained('bert', { storage, ...options });
const fingerprint = async (storage: Storage) => (await load(storage)).fingerprint;
const floatsOf = (name: string): Float32Array => toFloat32(tensors.get(name) as StoredTensor);
const f32 = (shape: readonly number[], data: Float32Array): StoredTensor => ({ dtype: 'F32', shape, data });

const model = await fromPretrained(bertFolder);

describe('a transformers folder', () => {
  it('gives matrices as [in, out], everything else unchanged', () => {
    const path = 'bert.encoder.layer.1.intermediate.dense';
    const stored = floatsOf(`${path}.weight`); // [64, 32]
    const { shape, data } = model.weights[`${path}.weight`] as HostTensor;
    expect(shape).toEqual([32, 64]);
    expect(data[5 * 64 + 9]).toBe(stored[9 * 32 + 5]);
    for (const name of ['bert.embeddings.word_embeddings.weight', 'bert.encoder.layer.0.output.LayerNorm.bias']) {
      expect(model.weights[name]?.data).toEqual(floatsOf(name));
    }
  });

  const network = (name: string): boolean => name.startsWith('bert.');
  const variants: Record<string, Storage> = {
    'in memory': bertInMemory(),
    'in shards': sharded(shardName),
    'of the bare network, without the prefix': withWeights((name, tensor) =>
      network(name) ? { [name.slice('bert.'.length)]: tensor } : {},
    ),
    'with the layer norms of the first checkpoints': withWeights((name, tensor) => {
      const old = name.replace('LayerNorm.weight', 'LayerNorm.gamma').replace('LayerNorm.bias', 'LayerNorm.beta');
      return { [old]: tensor };
    }),
    'in double precision': withWeights((name, tensor) => ({
      [name]: { dtype: 'F64', shape: tensor.shape, data: Float64Array.from(toFloat32(tensor)) },
    })),
    'with additional tensors': withWeights((name, tensor) => ({
      [name]: tensor,
      'bert.embeddings.position_ids': { dtype: 'I64', shape: [1], data: BigInt64Array.of(7n) },
      'cls.predictions.bias': f32([193], new Float32Array(193).fill(NaN)),
    })),
    'with a special token that has no embedding': withTokenizer({
      added_tokens: [
        ...(parsed('tokenizer.json')['added_tokens'] as Json[]),
        { id: 193, content: '[X]', special: true },
      ],
    }),
    'with settings left out': bertInMemory({
      'config.json': bytesOf({ ...parsed('config.json'), hidden_act: undefined, layer_norm_eps: undefined }),
    }),
  };

  it.each(Object.entries(variants))('has the same fingerprint %s', async (_, storage) => {
    expect(await fingerprint(storage)).toBe(model.fingerprint);
  });

  const others: Record<string, Storage> = {
    'other heads': withConfig({ num_attention_heads: 2 }),
    'another epsilon': withConfig({ layer_norm_eps: 1e-5 }),
    'another tokenizer': withTokenizer({ pre_tokenizer: { type: 'Whitespace' } }),
    'another weight': withTensor('bert.pooler.dense.bias', ({ shape }) => f32(shape, new Float32Array(32))),
  };

  it.each(Object.entries(others))('has another fingerprint with %s', async (_, storage) => {
    expect(await fingerprint(storage)).not.toBe(model.fingerprint);
  });

  it('reports the progress of reading', async () => {
    const seen: LoadProgress[] = [];
    await load(bertInMemory(), { onProgress: (progress) => seen.push(progress) });
    const parameters = [...tensors.values()].reduce((sum, { data }) => sum + data.length, 0);
    expect(seen).toHaveLength(tensors.size);
    expect(seen.at(-1)).toEqual({
      file: 'model.safetensors',
      loadedBytes: 4 * parameters,
      totalBytes: 4 * parameters,
    });
  });
});

describe('the head of a checkpoint', () => {
  it('is used if numLabels is left out or matches', async () => {
    for (const { pretrainedHead, weights } of [model, await load(bertInMemory(), { numLabels: 3 })]) {
      expect(pretrainedHead).toBe(true);
      expect(weights['classifier.weight']?.shape).toEqual([32, 3]);
      expect(weights['classifier.weight']?.data[4 * 3 + 2]).toBe(floatsOf('classifier.weight')[2 * 32 + 4]);
      expect(weights['classifier.bias']?.data).toEqual(floatsOf('classifier.bias'));
    }
  });

  it('is replaced by a new one for another number of labels', async () => {
    const { pretrainedHead, weights, fingerprint } = await load(bertInMemory(), { numLabels: 2 });
    expect(pretrainedHead).toBe(false);
    expect(weights['classifier.weight']?.shape).toEqual([32, 2]);
    expect(weights['classifier.bias']?.data).toEqual(new Float32Array(2));
    expect(fingerprint).toBe(model.fingerprint);
  });

  it('is new, for two labels, if the checkpoint has none', async () => {
    const { pretrainedHead, weights } = await load(
      withWeights((name, tensor) => (name.startsWith('classifier') ? {} : { [name]: tensor })),
    );
    expect(pretrainedHead).toBe(false);
    expect(weights['classifier.weight']?.shape).toEqual([32, 2]);
  });
});

const poisoned =
  (value: number) =>
  ({ shape, data }: StoredTensor): StoredTensor =>
    f32(
      shape,
      Float32Array.from(data as Float32Array, (old, position) => (position === 5 ? value : old)),
    );
const reshaped = (tensor: StoredTensor): StoredTensor => ({ ...tensor, shape: [...tensor.shape].reverse() });
const cut = (file: string, bytes: number): Storage => bertInMemory({ [file]: bertFiles[file]?.slice(0, bytes) });
const vocabulary = (change: Json, parts: Json = {}): Storage => {
  const { model, ...rest } = parsed('tokenizer.json') as { model: { vocab: Json } };
  return withTokenizer({ ...rest, model: { ...model, vocab: { ...model.vocab, ...change }, ...parts } });
};

const sequenceOf = (id: string, type_id: number) => ({ Sequence: { id, type_id } });
const withTemplate = (single: unknown[], pair?: unknown[]): Storage =>
  withTokenizer({ post_processor: { type: 'TemplateProcessing', single, pair, special_tokens: {} } });

const nested = '['.repeat(100_000) + ']'.repeat(100_000);
const intermediate = 'bert.encoder.layer.1.intermediate.dense.weight';

describe('broken folders', () => {
  const cases: Record<string, [storage: Storage, message: RegExp, path?: string]> = {
    'an empty config.json': [bertInMemory({ 'config.json': bytesOf('') }), /bert\/config\.json: expected a JSON file/],
    'a config.json that is a list': [bertInMemory({ 'config.json': bytesOf([]) }), /unknown 'model_type' nothing/],
    'a model_type with endless nesting': [
      bertInMemory({ 'config.json': bytesOf(`{"model_type": ${nested}}`) }),
      /unknown 'model_type' something nested too deeply/,
    ],
    'a huge config.json': [bertInMemory({ 'config.json': new Uint8Array(17 * 2 ** 20) }), /at most 16777216 bytes/],
    'another network': [withConfig({ model_type: 't5' }), /unknown 'model_type' "t5"; known ones are "bert", "dist/],
    'another activation': [withConfig({ hidden_act: 'quadratic' }), /'hidden_act' must be .*got "quadratic"/],
    'relative positions': [
      withConfig({ position_embedding_type: 'relative_key' }),
      /'position_embedding_type' must be "absolute", got "relative_key", which is not supported/,
    ],
    'a decoder': [withConfig({ is_decoder: true }), /'is_decoder' must be false, got true/],
    'quantized weights': [
      withConfig({ quantization_config: { bits: 4 } }),
      /'quantization_config' must be nothing, got/,
    ],
    'heads that do not divide the width': [
      withConfig({ num_attention_heads: 5 }),
      /'num_attention_heads' must be an integer from 1 to 16777216 that divides 32, got 5/,
    ],
    'no layers': [withConfig({ num_hidden_layers: 0 }), /'num_hidden_layers' must be an integer from 1 to 1000, got 0/],
    'far too many layers': [withConfig({ num_hidden_layers: 1e9 }), /'num_hidden_layers' must be .*, got 1000000000/],
    'a width that is a string': [withConfig({ hidden_size: '32' }), /'hidden_size' must be an integer .*, got "32"/],
    'a negative epsilon': [withConfig({ layer_norm_eps: -1 }), /'layer_norm_eps' must be a number above 0, got -1/],
    'more layers than weights': [
      withConfig({ num_hidden_layers: 4 }),
      /weight 'bert\.encoder\.layer\.3\.attention\.self\.query\.weight' is missing/,
      'bert.encoder.layer.3.attention.self.query.weight',
    ],
    'no weights': [
      bertInMemory({ 'model.safetensors': undefined }),
      /no bert\/model\.safetensors or model\.safetensors\.index\.json: save the model as safetensors/,
    ],
    'truncated weights': [cut('model.safetensors', 100_000), /^bert\/model\.safetensors: /],
    'eight bytes of weights': [cut('model.safetensors', 8), /^bert\/model\.safetensors: /],
    'no pooler': [
      withTensor('bert.pooler.dense.weight'),
      /'bert\.pooler\.dense\.weight' is missing; expected a checkpoint of BertModel or BertForSequenceClassification/,
      'bert.pooler.dense.weight',
    ],
    'a matrix in the other orientation': [
      withTensor(intermediate, reshaped),
      /layer\.1\.intermediate\.dense\.weight' must be float32 \[32, 64\], got float32 \[64, 32\]/,
      intermediate,
    ],
    'a weight with integers': [
      withTensor('bert.pooler.dense.bias', () => ({ dtype: 'I64', shape: [32], data: new BigInt64Array(32) })),
      /'bert\.pooler\.dense\.bias' must be float32 \[32\], got I64 \[32\]/,
    ],
    'a NaN': [withTensor('bert.embeddings.LayerNorm.bias', poisoned(NaN)), /LayerNorm\.bias' holds NaN at position 5/],
    'an infinite value': [withTensor('classifier.bias', () => f32([3], Float32Array.of(0, Infinity, 0))), /Infinity/],
    'a head with another width': [
      withTensor('classifier.weight', () => f32([3, 31], new Float32Array(93))),
      /'classifier\.weight' must be float32 \[32, 3\], got float32 \[31, 3\]/,
    ],
    'a head without bias': [withTensor('classifier.bias'), /'classifier\.bias' is missing/],
    'a missing shard': [
      sharded((name, place) => (name.includes('pooler') ? 'model-3-of-3.safetensors' : shardName(name, place))),
      /^bert\/model\.safetensors\.index\.json: (?!model\.safetensors).*model-3-of-3\.safetensors/,
    ],
    'a shard out of the folder': [sharded(() => '../../secrets.safetensors'), /expected a \.safetensors file next to/],
    'no tokenizer': [
      bertInMemory({ 'tokenizer.json': undefined }),
      /there is no bert\/tokenizer\.json: save the tokenizer with transformers/,
    ],
    'a pointer of Git LFS': [
      bertInMemory({ 'tokenizer.json': new TextEncoder().encode('version https://git-lfs.github.com/spec/v1\n') }),
      /bert\/tokenizer\.json: expected a JSON file, got a pointer of Git LFS: run git lfs pull$/,
    ],
    'half a tokenizer': [cut('tokenizer.json', 500), /bert\/tokenizer\.json: expected a JSON file/],
    'a tokenizer without vocabulary': [withTokenizer({ model: {} }), /expected a tokenizer with a 'vocab'/],
    'a tokenizer without added tokens': [withTokenizer({ added_tokens: null }), /'added_tokens' must be a list/],
    'an unknown kind of tokenizer': [withTokenizer({ normalizer: { type: 'Magic' } }), /not a tokenizer: .*Magic/],
    'an id that is too large': [vocabulary({ zebra: 193 }), /the id of "zebra" must be a row .*, 0 to 192, got 193/],
    'an id that is not a number': [vocabulary({ zebra: '7' }), /the id of "zebra" must be a row .*, got "7"/],
    'an added token with too large an id': [
      withTokenizer({ added_tokens: [{ id: 400, content: '[X]' }] }),
      /the id of "\[X\]" must be a row of the embedding table, 0 to 192, got 400/,
    ],
    'special tokens without an id': [
      withTokenizer({ post_processor: { type: 'BertProcessing', sep: ['</s>', 1], cls: ['<s>', 2] } }),
      /the special token "<s>" has no id/,
    ],
    'a tokenizer with endless nesting': [
      bertInMemory({
        'tokenizer.json': bytesOf(JSON.stringify({ ...parsed('tokenizer.json'), x: 0 }).replace(/0}$/, `${nested}}`)),
      }),
      /not a tokenizer: RangeError/,
    ],
    'a third token type for a pair': [
      withTemplate([sequenceOf('A', 0)], [sequenceOf('A', 0), sequenceOf('B', 2)]),
      /token types must be 0 to 1, got 2/,
    ],
    'a third token type for a text': [
      withTemplate([sequenceOf('A', 2)], [sequenceOf('A', 0), sequenceOf('B', 1)]),
      /token types must be 0 to 1, got 2/,
    ],
    'a tokenizer that cannot read a pair': [withTemplate([sequenceOf('A', 0)]), /'pair' must be a list/],
  };

  it.each(Object.entries(cases))('%s', async (_, [storage, message, path]) => {
    const error = await load(storage).then(
      () => expect.fail('it was loaded'),
      (error: unknown) => error as PeftError,
    );
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toMatch(message);
    expect(error.message).not.toContain('\n');
    expect(error.path).toBeTypeOf('string');
    if (path !== undefined) expect(error.path).toBe(path);
  });
});
