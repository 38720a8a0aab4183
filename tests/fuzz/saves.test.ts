import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  activeAdapter,
  addAdapter,
  attach,
  diskStorage,
  hostTensor,
  loadPretrained,
  memoryStorage,
  savePretrained,
  type PeftModel,
  type Storage,
} from '@peftjs/core';
import { CheckpointError } from '@peftjs/core/method';
import { replaceAdapter } from '@peftjs/core/model';
import { toyModel } from '@peftjs/conformance';
import { lora } from '@peftjs/lora';
import { fromPretrained, saveMerged } from '@peftjs/models';
import { describe, expect, it } from 'vitest';
import { folderOfTest, temporaryFolder } from '../../tools/vitest/temporary-folder.js';

/** A user's storage, which cannot replace files together. Write number `n`, counted from 0, fails if `fails(n)`. */
function plainStorage(files: Map<string, Uint8Array>, fails: (n: number) => boolean = () => false): Storage {
  let writes = 0;
  const { read, exists, write } = memoryStorage(files);
  return {
    read,
    exists,
    write: (path, bytes) => (fails(writes++) ? Promise.reject(new Error('killed')) : write(path, bytes)),
  };
}

/** A storage that is killed before write number `n`. */
const killedBefore = (n: number, files: Map<string, Uint8Array>): Storage => plainStorage(files, (write) => write >= n);

const toy = toyModel();
const withAlpha = (loraAlpha: number): PeftModel => attach(toy, lora({ r: 2, loraAlpha }), { seed: loraAlpha });

/** The query weights, which differ between the two adapters, and their scaling. */
function seenIn(peft: PeftModel): unknown {
  const adapter = activeAdapter(peft);
  const path = 'encoder.layer.0.attention.query';
  return [adapter.values[`${path}.loraA`]?.data, (adapter.config as { loraAlpha?: number }).loraAlpha];
}

const seenAt = async (folder: string, storage: Storage): Promise<unknown> =>
  seenIn(await loadPretrained(toy, folder, { methods: [lora], storage }));

describe('an adapter saved over another in a storage that cannot replace files together', () => {
  it.each([0, 1, 2, 3])('and killed after %i writes is the old one or rejected, never a mixture', async (writes) => {
    const files = new Map<string, Uint8Array>();
    await savePretrained(withAlpha(4), 'a', { storage: memoryStorage(files) });
    await expect(savePretrained(withAlpha(32), 'a', { storage: killedBefore(writes, files) })).rejects.toThrow(
      'killed',
    );
    const loaded = seenAt('a', memoryStorage(files));
    if (writes === 0) expect(await loaded).toEqual(seenIn(withAlpha(4)));
    else await expect(loaded).rejects.toThrow(/a\/adapter_config\.json: a save into this folder was cut short/);
  });

  it('and saved again is the new one', async () => {
    const files = new Map<string, Uint8Array>();
    await savePretrained(withAlpha(4), 'a', { storage: memoryStorage(files) });
    await savePretrained(withAlpha(32), 'a', { storage: killedBefore(2, files) }).catch(() => undefined);
    await savePretrained(withAlpha(32), 'a', { storage: memoryStorage(files) });
    expect(await seenAt('a', memoryStorage(files))).toEqual(seenIn(withAlpha(32)));
  });

  it('is the old one if its weights do not fit', async () => {
    const files = new Map<string, Uint8Array>();
    await savePretrained(withAlpha(4), 'a', { storage: memoryStorage(files) });
    const storage = plainStorage(files, (write) => write === 1);
    await expect(savePretrained(withAlpha(32), 'a', { storage })).rejects.toThrow('killed');
    expect(await seenAt('a', storage)).toEqual(seenIn(withAlpha(4)));
  });
});

describe('two saves into one folder at once', () => {
  const folder = temporaryFolder();

  it.each([
    ['on the disk', diskStorage()],
    ['in memory', memoryStorage()],
    ['in a storage that cannot replace files together', plainStorage(new Map())],
  ])('end as one of them, complete, 20 times of 20 %s', async (_, storage) => {
    const both = [withAlpha(4), withAlpha(32)];
    const [first, second] = both.map(seenIn);
    for (let round = 0; round < 20; round++) {
      await Promise.all(both.map((peft) => savePretrained(peft, join(folder, 'a'), { storage })));
      expect([first, second]).toContainEqual(await seenAt(join(folder, 'a'), storage));
    }
  });
});

it('an adapter that is replaced while it is read is the new one', async () => {
  const files = new Map<string, Uint8Array>();
  const storage = memoryStorage(files);
  await savePretrained(withAlpha(4), 'a', { storage });
  let reads = 0;
  const read = async (path: string): Promise<Uint8Array> => {
    if (reads++ === 1) await savePretrained(withAlpha(32), 'a', { storage });
    return storage.read(path);
  };
  expect(await seenAt('a', { ...storage, read })).toEqual(seenIn(withAlpha(32)));
});

it('several adapters are all saved, or none of them', async () => {
  const folder = folderOfTest();
  const peft = withAlpha(4);
  await savePretrained(peft, folder);
  const changed = withAlpha(32);
  addAdapter(changed, lora({ r: 2 }), { adapterName: 'other' });
  await writeFile(join(folder, 'other'), 'a file where the second adapter must go');
  const saving = savePretrained(changed, folder);
  await expect(saving).rejects.toThrow(CheckpointError);
  await expect(saving).rejects.toThrow(/cannot save into .*other: .*choose another one, then save again$/);
  expect(await seenAt(folder, diskStorage())).toEqual(seenIn(peft));
});

describe('a merged model saved over another', () => {
  const bert = fileURLToPath(new URL('../models/fixtures/bert-tiny', import.meta.url));
  const source = new Map(
    ['config.json', 'model.safetensors', 'tokenizer.json'].map((file) => [
      `bert/${file}`,
      readFileSync(join(bert, file)),
    ]),
  );

  it.each([1, 2, 3])('and killed after %i writes is rejected', async (writes) => {
    const files = new Map<string, Uint8Array>(source);
    const options = { source: 'bert', sourceStorage: memoryStorage(files) };
    const model = await fromPretrained('bert', { storage: memoryStorage(files) });
    await saveMerged(model, 'm', { ...options, storage: memoryStorage(files) });
    await expect(saveMerged(model, 'm', { ...options, storage: killedBefore(writes, files) })).rejects.toThrow(
      'killed',
    );
    await expect(fromPretrained('m', { storage: memoryStorage(files) })).rejects.toThrow(
      /m\/config\.json: a save into this folder was cut short/,
    );
  });

  it('is not written with a weight that is not a number', async () => {
    const model = await fromPretrained('bert', { storage: memoryStorage(new Map(source)) });
    const name = 'bert.pooler.dense.bias';
    const bias = model.weights[name];
    const nothing = hostTensor(new Float32Array(bias?.data.length ?? 0).fill(NaN), bias?.shape ?? []);
    const broken = { ...model, weights: { ...model.weights, [name]: nothing } };
    const files = new Map<string, Uint8Array>();
    const saving = saveMerged(broken, 'm', {
      source: 'bert',
      sourceStorage: memoryStorage(new Map(source)),
      storage: memoryStorage(files),
    });
    await expect(saving).rejects.toThrow(/bert\.pooler\.dense\.bias' holds NaN/);
    expect(files.size).toBe(0);
  });
});

it('an adapter with a value that is not a number is neither saved nor read', async () => {
  const files = new Map<string, Uint8Array>();
  const peft = withAlpha(4);
  await savePretrained(peft, 'a', { storage: memoryStorage(files) });
  const key = 'encoder.layer.0.attention.query.loraA';
  const shape = activeAdapter(peft).values[key]?.shape ?? [];
  replaceAdapter(peft, {
    values: { ...activeAdapter(peft).values, [key]: hostTensor(new Float32Array(16).fill(NaN), shape) },
  });
  const saving = savePretrained(peft, 'b', { storage: memoryStorage(files) });
  await expect(saving).rejects.toThrow(CheckpointError);
  await expect(saving).rejects.toThrow(/query\.lora_A\.weight' holds NaN/);

  const weights = files.get('a/adapter_model.safetensors') as Uint8Array;
  new DataView(weights.buffer, weights.byteOffset).setFloat32(weights.length - 4, NaN, true);
  const loading = loadPretrained(toy, 'a', { methods: [lora], storage: memoryStorage(files) });
  await expect(loading).rejects.toThrow(/holds NaN/);
});
