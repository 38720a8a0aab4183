import { memoryStorage, PeftError, type Storage } from '@peftjs/core';
import { CheckpointError, UnsupportedError } from '@peftjs/core/method';
import { fromPretrained } from '@peftjs/models';
import {
  bytesSource,
  openSafetensors,
  readSafetensors,
  SafetensorsError,
  toFloat32,
  writeSafetensors,
  type StoredTensor,
} from '@peftjs/safetensors';
import { describe, expect, it } from 'vitest';
import { bertFiles, bertInMemory } from '../models/bert-tiny.js';
import { networks, tiny } from '../models/tiny.js';
import { text } from './harness.js';
import { damagedTexts } from './mutations.js';
import { inShards } from './shards.js';

const weights = bertFiles['model.safetensors'] as Uint8Array;
const tensors = readSafetensors(weights);
const prefix = new DataView(weights.buffer, weights.byteOffset);
const headerLength = Number(prefix.getBigUint64(0, true));
const header = new TextDecoder().decode(weights.subarray(8, 8 + headerLength));
const data = weights.subarray(8 + headerLength);
const contentOf = (file: string): string => new TextDecoder().decode(bertFiles[file]);

/** The checkpoint with another header, whose length is stated correctly. */
function withHeader(json: string): Uint8Array {
  const bytes = text(json);
  const file = new Uint8Array(8 + bytes.length + data.length);
  new DataView(file.buffer).setBigUint64(0, BigInt(bytes.length), true);
  file.set(bytes, 8);
  file.set(data, 8 + bytes.length);
  return file;
}

/** Loads, or fails with one clear line that names something; any other error fails the test. */
async function loadedOrRefused(storage: Storage, what: string): Promise<'loaded' | 'refused'> {
  const error = await fromPretrained('bert', { storage }).then(
    () => undefined,
    (error: unknown) => error,
  );
  if (error === undefined) return 'loaded';
  const isOurs = error instanceof CheckpointError || error instanceof UnsupportedError;
  if (!isOurs) throw new PeftError('PEFT_TEST', `neither loaded nor refused: ${what}`, { cause: error });
  expect(error.message, what).not.toContain('\n');
  expect(error.message.length, what).toBeLessThan(600);
  expect(error.path, what).toBeTypeOf('string');
  return 'refused';
}

/** The number of loads and of errors with one damaged file. */
async function tally(file: string, copies: Iterable<Uint8Array>) {
  const count = { loaded: 0, refused: 0 };
  for (const copy of copies) {
    const storage = bertInMemory({ [file]: copy });
    count[await loadedOrRefused(storage, new TextDecoder().decode(copy.subarray(0, 900)))]++;
  }
  return count;
}

/** The memory that this thread uses, in bytes. */
function held(): number {
  const { arrayBuffers, heapUsed } = process.memoryUsage();
  return arrayBuffers + heapUsed;
}

function* asBytes(texts: Iterable<string>): Generator<Uint8Array> {
  for (const each of texts) yield text(each);
}

describe('10,000 damaged headers of a real checkpoint', () => {
  it('are read within their bounds or rejected, and take no more memory than the file', async () => {
    let [accepted, refused, longest, most] = [0, 0, 0, 0];
    for (const json of damagedTexts(header, 10_000, 1)) {
      const file = withHeader(json);
      const inner = bytesSource(file);
      const source = {
        size: inner.size,
        read(offset: number, length: number) {
          longest = Math.max(longest, offset + length - file.length);
          return inner.read(offset, length);
        },
      };
      const before = held();
      try {
        const opened = await openSafetensors(source);
        let bytes = 0;
        for (const name of opened.names) bytes += (await opened.read(name)).data.byteLength;
        expect(bytes).toBe(data.length);
        accepted++;
      } catch (error) {
        if (!(error instanceof SafetensorsError)) throw error;
        expect(error.message).not.toContain('\n');
        refused++;
      }
      most = Math.max(most, held() - before);
    }
    expect(longest).toBe(0); // never a byte beyond the end
    expect(accepted + refused).toBe(10_000);
    expect(Math.min(accepted, refused)).toBeGreaterThan(100); // both occur, so that both checks are exercised
    // The memory that one load adds, including garbage, so that the time of collection does not matter: a file is 0.15
    // MB, and a header that got the memory it claims would add gigabytes.
    expect(most).toBeLessThan(16 * 2 ** 20);
  });

  it('are, as models, loaded or rejected by name', async () => {
    const copies = [...damagedTexts(header, 600, 2)].map(withHeader);
    const { loaded, refused } = await tally('model.safetensors', copies);
    expect(loaded).toBeGreaterThan(5);
    expect(refused).toBeGreaterThan(300);
  });
});

describe('damaged files other than the weights', () => {
  it('600 config.json', async () => {
    const { loaded, refused } = await tally('config.json', asBytes(damagedTexts(contentOf('config.json'), 600, 3)));
    expect(loaded).toBeGreaterThan(20);
    expect(refused).toBeGreaterThan(100);
  });

  it('600 tokenizer.json', async () => {
    const { loaded, refused } = await tally(
      'tokenizer.json',
      asBytes(damagedTexts(contentOf('tokenizer.json'), 600, 4)),
    );
    expect(loaded).toBeGreaterThan(20);
    expect(refused).toBeGreaterThan(100);
  });

  it('300 tokenizer_config.json', async () => {
    const settings = JSON.stringify({ eos_token: '[SEP]', bos_token: { content: '[CLS]' }, model_max_length: 64 });
    const copies = asBytes(damagedTexts(settings, 300, 6));
    const { loaded, refused } = await tally('tokenizer_config.json', copies);
    expect(loaded).toBeGreaterThan(20);
    expect(refused).toBeGreaterThan(50);
  });

  it('600 indexes of shards, which never lead to another folder', async () => {
    const { 'model.safetensors.index.json': index, ...shards } = inShards(weights);
    const asked = new Set<string>();
    let refused = 0;
    for (const json of damagedTexts(new TextDecoder().decode(index), 600, 5)) {
      const files = { ...bertFiles, ...shards, 'model.safetensors.index.json': text(json) };
      const entries = Object.entries(files).filter(([name]) => name !== 'model.safetensors');
      const storage = memoryStorage(new Map(entries.map(([name, bytes]) => [`bert/${name}`, bytes])));
      const watched: Storage = {
        ...storage,
        read(path) {
          asked.add(path);
          return storage.read(path);
        },
      };
      if ((await loadedOrRefused(watched, json.slice(0, 300))) === 'refused') refused++;
    }
    expect(refused).toBeGreaterThan(100);
    expect([...asked].filter((path) => !/^bert\/[\w-][\w.+-]*$/.test(path))).toEqual([]);
  });
});

describe('a checkpoint with false claims', () => {
  const shaped = { dtype: 'F16', shape: [32] } as const;
  const bias = 'bert.pooler.dense.bias';
  const replaced = (tensor: StoredTensor): Uint8Array =>
    writeSafetensors(new Map([...tensors].map(([name, own]) => [name, name === bias ? tensor : own])));
  const sharded = (change: (parts: Record<string, Uint8Array>) => Record<string, Uint8Array | undefined>) =>
    bertInMemory({ 'model.safetensors': undefined, ...change(inShards(weights)) });
  const SECOND = 'model-00002-of-00002.safetensors';
  const halves = new Uint16Array(32);

  it.each<[what: string, storage: Storage, message: RegExp, path: string]>([
    [
      'NaN in F16',
      bertInMemory({ 'model.safetensors': replaced({ ...shaped, data: halves.with(3, 0x7e00) }) }),
      /holds NaN at position 3/,
      bias,
    ],
    [
      'infinity in F16',
      bertInMemory({ 'model.safetensors': replaced({ ...shaped, data: halves.with(4, 0xfc00) }) }),
      /holds -Infinity at position 4/,
      bias,
    ],
    [
      'NaN in BF16',
      bertInMemory({ 'model.safetensors': replaced({ ...shaped, dtype: 'BF16', data: halves.with(5, 0x7fc0) }) }),
      /holds NaN at position 5/,
      bias,
    ],
    [
      'an F64 number that float32 cannot hold',
      bertInMemory({
        'model.safetensors': replaced({ dtype: 'F64', shape: [32], data: new Float64Array(32).with(6, 1e300) }),
      }),
      /holds Infinity at position 6/,
      bias,
    ],
    [
      'another shape',
      bertInMemory({ 'model.safetensors': replaced({ ...shaped, shape: [2, 16], data: halves }) }),
      /must be float32 \[32\], got float32 \[2, 16\]/,
      bias,
    ],
    [
      'bytes after the last tensor',
      bertInMemory({ 'model.safetensors': Uint8Array.from([...weights, 0]) }),
      /the tensors fill 1\d+ bytes, the file has 1\d+/,
      'bert/model.safetensors',
    ],
    [
      'a truncated shard',
      sharded((parts) => ({ ...parts, [SECOND]: parts[SECOND]?.slice(0, -1) })),
      /model-00002-of-00002\.safetensors: tensor '.+' ends at byte .* it is truncated/,
      '',
    ],
    [
      'a missing shard',
      sharded((parts) => ({ ...parts, [SECOND]: undefined })),
      /cannot open model-00002-of-00002\.safetensors/,
      SECOND,
    ],
    [
      'a shard in place of the other',
      sharded((parts) => ({ ...parts, [SECOND]: parts['model-00001-of-00002.safetensors'] })),
      /there is no tensor '/,
      '',
    ],
    [
      'a header of 2^62 bytes',
      bertInMemory({ 'model.safetensors': announcing(2n ** 62n) }),
      /announce a header of 4611686018427387904 bytes/,
      'bert/model.safetensors',
    ],
  ])('%s', async (_, storage, message, path) => {
    const error = await fromPretrained('bert', { storage }).then(
      () => expect.fail('it was loaded'),
      (error: unknown) => error as PeftError,
    );
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toMatch(message);
    expect(error.message).not.toContain('\n');
    if (path !== '') expect(error.path).toBe(path);
  });

  it('weights of one network with the settings of another are rejected by the name of a weight', async () => {
    const read = networks.map((name) => [name, tiny(name)] as const);
    for (const [settings, { config }] of read) {
      for (const [name, { weights: others }] of read) {
        if (name === settings) continue;
        const storage = bertInMemory({
          'config.json': text(JSON.stringify(config)),
          'model.safetensors': writeSafetensors(others),
          'tokenizer.json': text(JSON.stringify(fewWords)),
        });
        const error = await fromPretrained('bert', { storage }).catch((error: unknown) => error);
        expect(error, `${name} as ${settings}`).toBeInstanceOf(CheckpointError);
        expect((error as CheckpointError).message).toMatch(
          /weight '[\w.]+' (?:is missing; expected a checkpoint of|must be float32)/,
        );
      }
    }
  });
});

/** A tokenizer that fits any embedding table. */
const fewWords = {
  version: '1.0',
  added_tokens: [],
  normalizer: null,
  pre_tokenizer: { type: 'Whitespace' },
  post_processor: null,
  decoder: null,
  model: { type: 'WordPiece', unk_token: 'a', vocab: { a: 0, b: 1 } },
};

/** The checkpoint with another stated length of its header. */
function announcing(length: bigint): Uint8Array {
  const file = weights.slice();
  new DataView(file.buffer).setBigUint64(0, length, true);
  return file;
}

it('values of half precision are read exactly', () => {
  const values = toFloat32({ dtype: 'F16', shape: [4], data: Uint16Array.of(0x3c00, 0xc000, 0x0001, 0x7bff) });
  expect([...values]).toEqual([1, -2, 2 ** -24, 65504]);
});
