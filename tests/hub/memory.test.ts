import { freemem } from 'node:os';
import { memoryStorage } from '@peftjs/core';
import { CheckpointError } from '@peftjs/core/method';
import { fromPretrained, hubFiles } from '@peftjs/models';
import { onnxFormats } from '@peftjs/onnx/formats';
import { readSafetensors, toFloat32, writeSafetensors } from '@peftjs/safetensors';
import { describe, expect, it } from 'vitest';
import { bertFiles, bertFolder, bertInMemory } from '../models/bert-tiny.js';
import { packageName } from '../models/use-lite.js';
import { BERT, bertRepo, filesAsked, FIRST, useHub } from './harness.js';
import { inShards } from './shards.js';

const use = useHub();
const weights = bertFiles['model.safetensors'] as Uint8Array;
const floats = 4 * [...readSafetensors(weights).values()].reduce((sum, { data }) => sum + data.length, 0);

describe('a model too large for memory is rejected', () => {
  const refused = (bytes: string, limit: string) =>
    `the model needs ${bytes} of memory, the limit is ${limit}: use a smaller model or a larger machine, or set memoryLimit`;

  it('with both figures, before its weights are read', async () => {
    const seen: unknown[] = [];
    const loading = fromPretrained(bertFolder, { memoryLimit: floats - 1, onProgress: (info) => seen.push(info) });
    await expect(loading).rejects.toThrow(refused(`${floats} bytes`, `${floats - 1} bytes`));
    await expect(loading).rejects.toMatchObject({ code: 'PEFT_CHECKPOINT', path: `${bertFolder}/model.safetensors` });
    expect(seen).toEqual([]);
    await expect(fromPretrained(bertFolder, { memoryLimit: floats })).resolves.toBeDefined();
  });

  it('by the size of its weights as float32, whatever the type in the file', async () => {
    const halves = writeSafetensors(
      new Map(
        [...readSafetensors(weights)].map(([name, tensor]) => [name, asBrainFloats(toFloat32(tensor), tensor.shape)]),
      ),
    );
    const storage = bertInMemory({ 'model.safetensors': halves });
    expect(halves.length).toBeLessThan(0.6 * floats);
    await expect(fromPretrained('bert', { storage, memoryLimit: floats - 1 })).rejects.toThrow(CheckpointError);
    await expect(fromPretrained('bert', { storage, memoryLimit: floats })).resolves.toBeDefined();
  });

  it('in shards, and as a TensorFlow.js graph', async () => {
    const files = Object.entries({ ...bertFiles, ...inShards(weights) }).filter(
      ([name]) => name !== 'model.safetensors',
    );
    const storage = memoryStorage(new Map(files.map(([name, bytes]) => [`bert/${name}`, bytes])));
    await expect(fromPretrained('bert', { storage, memoryLimit: 1000 })).rejects.toThrow(
      refused(`${floats} bytes`, '1000 bytes'),
    );
    await expect(fromPretrained(packageName, { memoryLimit: 20e6 })).rejects.toThrow(refused('0.03 GB', '0.02 GB'));
  });

  it('before it is downloaded from the hub, counting all shards', async () => {
    await expect(fromPretrained(BERT, { memoryLimit: 100_000 })).rejects.toThrow(
      refused(`${weights.length} bytes`, '100000 bytes'),
    );
    const { 'model.safetensors': _, ...rest } = bertFiles;
    const shards = inShards(weights);
    use.hub.repos.splice(0, 1, bertRepo({ commits: { [FIRST]: { ...rest, ...shards } } }));
    await expect(fromPretrained(BERT, { memoryLimit: 100_000 })).rejects.toThrow(/the model needs 14\d{4} bytes/);
    expect(filesAsked(use.hub).filter((path) => /model.*\.safetensors$/.test(path))).toEqual([]);
  });

  it.each([
    ['small.gguf', {}],
    ['onnx/model.onnx', { formats: onnxFormats() }],
  ])('as a single file before it is downloaded: %s', async (path, options) => {
    use.hub.repos.splice(0, 1, bertRepo({ commits: { [FIRST]: { [path]: new Uint8Array(9000) } } }));
    await expect(fromPretrained(`${BERT}/${path}`, { memoryLimit: 8999, ...options })).rejects.toThrow(
      refused('9000 bytes', '8999 bytes'),
    );
    expect(filesAsked(use.hub)).toEqual([]);
  });

  it('but not if it may fit in fewer bits', async () => {
    const fewer = { dtype: 'q4', memoryLimit: weights.length - 1 } as const;
    await expect(fromPretrained(BERT, fewer)).resolves.toBeDefined();
  });

  it('if the machine has less memory, by default', async () => {
    const isWeights = (file: object): boolean => 'path' in file && file.path === 'model.safetensors';
    const huge = { size: 4 * freemem(), lfs: undefined };
    use.hub.listing = (files) => files.map((file) => (isWeights(file) ? { ...file, ...huge } : file));
    await expect(fromPretrained(BERT)).rejects.toThrow(/needs \d+\.\d\d GB of memory, the limit is \d+\.\d\d GB/);
    const { read } = await hubFiles({ repo: BERT });
    await expect(read('model.safetensors')).rejects.toThrow(/the file needs \d+\.\d\d GB of memory/);
    expect(filesAsked(use.hub)).not.toContain('model.safetensors');
  });
});

/** The upper halves of float32 numbers. */
function asBrainFloats(values: Float32Array, shape: readonly number[]) {
  const halves = new Uint16Array(values.buffer, values.byteOffset, 2 * values.length).filter(
    (_, index) => index % 2 === 1,
  );
  return { dtype: 'BF16', shape, data: halves } as const;
}
