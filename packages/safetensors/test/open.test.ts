import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bytesSource, openSafetensors, SafetensorsError, toFloat32, writeSafetensors } from '@peftjs/safetensors';
import { golden, goldenPath } from './files.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'safetensors-'));
});
afterAll(() => rm(folder, { recursive: true }));

const pair = writeSafetensors({
  first: { dtype: 'F32', shape: [2], data: Float32Array.of(1, 2) },
  second: { dtype: 'I32', shape: [1], data: Int32Array.of(3) },
});

describe('a file on the disk', () => {
  test('returns its metadata and specs and reads one tensor', async () => {
    const file = await openSafetensors(goldenPath('adapter.safetensors'));
    expect(file.metadata).toEqual({ format: 'pt' });
    const [name = ''] = file.names;
    expect(file.spec(name)).toEqual({ dtype: 'F32', shape: [2, 3] });
    expect(toFloat32(await file.read(name))).toEqual(Float32Array.of(-2.5, -1.5, -0.5, 0.5, 1.5, 2.5));
    await file.close();
  });

  test('names itself and a missing tensor in errors', async () => {
    const path = goldenPath('adapter.safetensors');
    const file = await openSafetensors(path);
    expect(() => file.spec('lora')).toThrow(`${path}: there is no tensor 'lora' among 2`);
    await expect(file.read('lora')).rejects.toMatchObject({ code: 'PEFT_SAFETENSORS', path: 'lora' });
    await file.close();
  });

  test('cannot be read once closed, and may be closed twice', async () => {
    const file = await openSafetensors(goldenPath('adapter.safetensors'));
    await file.close();
    await file.close();
    await expect(file.read(file.names[0] ?? '')).rejects.toThrow(/the file is closed/);
  });

  test('is rejected with its path when it is missing, a folder or broken', async () => {
    const missing = join(folder, 'missing.safetensors');
    await expect(openSafetensors(missing)).rejects.toMatchObject({ name: 'SafetensorsError', path: missing });
    await expect(openSafetensors(folder)).rejects.toThrow(`cannot open ${folder}: it is not a file`);
    const broken = join(folder, 'broken.safetensors');
    await writeFile(broken, 'not a model');
    const refusal = openSafetensors(broken);
    await expect(refusal).rejects.toThrow(`${broken}: the first 8 bytes announce`);
    await expect(refusal).rejects.toMatchObject({ path: broken });
  });

  test('reports an error when it shrinks while open', async () => {
    const path = join(folder, 'shrinking.safetensors');
    await writeFile(path, pair);
    const file = await openSafetensors(path);
    await truncate(path, pair.length - 2);
    await expect(file.read('second')).rejects.toThrow(/expected 4 bytes.*got 2/);
    expect(await file.read('first')).toMatchObject({ data: Float32Array.of(1, 2) });
    await file.close();
  });
});

describe('a tensor in pieces', () => {
  const values = Float32Array.from({ length: 3 * 2 ** 18 }, (_, i) => i);
  const large = writeSafetensors({
    large: { dtype: 'F32', shape: [3, 2 ** 18], data: values },
    scalar: { dtype: 'BF16', shape: [], data: Uint16Array.of(0x3f80) },
    empty: { dtype: 'F32', shape: [0, 2], data: new Float32Array(0) },
  });

  test('is read row by row into the same memory', async () => {
    const path = join(folder, 'large.safetensors');
    await writeFile(path, large);
    const file = await openSafetensors(path);
    const read = new Float32Array(values.length);
    const memories = new Set<unknown>();
    for await (const { start, rows } of file.pieces('large')) {
      expect(rows.shape).toEqual([1, 2 ** 18]);
      memories.add(rows.data.buffer);
      read.set(toFloat32(rows), start * 2 ** 18);
    }
    await file.close();
    expect(Buffer.compare(Buffer.from(read.buffer), Buffer.from(values.buffer))).toBe(0);
    expect(memories.size).toBe(1);
  });

  test('is one piece for a scalar and none without rows, and needs an open file', async () => {
    const file = await openSafetensors(bytesSource(large));
    const piecesOf = async (name: string) => {
      const found = [];
      for await (const { rows } of file.pieces(name)) found.push({ shape: rows.shape, values: toFloat32(rows) });
      return found;
    };
    expect(await piecesOf('scalar')).toEqual([{ shape: [], values: Float32Array.of(1) }]);
    expect(await piecesOf('empty')).toEqual([]);
    await file.close();
    await expect(piecesOf('large')).rejects.toThrow(/the file is closed/);
  });
});

describe('a source', () => {
  test('is only read for the header and the requested tensor', async () => {
    const reads: [number, number][] = [];
    const inner = bytesSource(pair);
    const file = await openSafetensors({
      size: inner.size,
      read(offset, length) {
        reads.push([offset, length]);
        return inner.read(offset, length);
      },
    });
    await file.read('second');
    const header = Number(new DataView(pair.buffer).getBigUint64(0, true));
    expect(reads).toEqual([
      [0, 8],
      [8, header],
      [8 + header + 8, 4],
    ]);
  });

  test('may be a Blob', async () => {
    const blob = new Blob([pair]);
    const file = await openSafetensors({
      size: blob.size,
      read: async (offset, length) => new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer()),
    });
    expect(await file.read('second')).toEqual({ dtype: 'I32', shape: [1], data: Int32Array.of(3) });
  });

  test('is closed once with the file, and when opening fails', async () => {
    let closed = 0;
    const closing = (bytes: Uint8Array) => ({
      ...bytesSource(bytes),
      close: () => {
        closed++;
        return Promise.resolve();
      },
    });
    const file = await openSafetensors(closing(pair));
    expect(closed).toBe(0);
    await file.close();
    await file.close();
    expect(closed).toBe(1);
    await expect(openSafetensors(closing(golden('expected.json')))).rejects.toThrow(SafetensorsError);
    expect(closed).toBe(2);
  });

  test('that fails or returns too many bytes causes one clear error', async () => {
    const failure = new RangeError('connection lost');
    const failing = openSafetensors({ size: 100, read: () => Promise.reject(failure) });
    await expect(failing).rejects.toThrow(/cannot read 8 bytes from byte 0 on: connection lost/);
    await expect(failing).rejects.toMatchObject({ code: 'PEFT_SAFETENSORS', cause: failure });
    const generous = openSafetensors({ size: 100, read: () => Promise.resolve(new Uint8Array(100)) });
    await expect(generous).rejects.toThrow(/expected 8 bytes from byte 0 on, got 100/);
  });
});
