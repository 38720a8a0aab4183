import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished, test } from 'vitest';
import { fromFloat32, GgufError, openGguf, toFloat32, writeGguf, type GgufTensor } from '@peftjs/gguf';
import { metadata, opened, smallFile, tensorsOf } from './files.js';

it('a file on the disk holds what was written', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'peftjs-gguf-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const path = join(folder, 'small.gguf');
  await writeFile(path, smallFile());
  const file = await openGguf(path);
  expect(Object.fromEntries(file.metadata)).toEqual(metadata);
  expect(file.version).toBe(3);
  expect(file.names).toEqual(['a', 'b']);
  expect(file.spec('a')).toEqual({ type: 'Q8_0', shape: [2, 32] });
  expect(toFloat32(await file.read('b'))).toEqual(Float32Array.of(-20, -19, -18));
  await file.close();
  await expect(file.read('a')).rejects.toThrow(/small.gguf|closed/);
  await expect(openGguf(join(folder, 'none.gguf'))).rejects.toMatchObject({ code: 'PEFT_GGUF' });
});

it('tensors are aligned as the metadata say', async () => {
  const tensors = await tensorsOf(await opened(smallFile()));
  const wide = writeGguf(tensors, { 'general.alignment': { type: 'uint32', value: 256 } });
  expect(wide.byteLength % 256).toBe(0);
  expect(await tensorsOf(await opened(wide))).toEqual(tensors);
});

it('pieces are whole rows, together the tensor', async () => {
  const [rows, width] = [5000, 96];
  const values = Float32Array.from({ length: rows * width }, (_, i) => Math.sin(i));
  const flat = fromFloat32('F32', [values.length], values);
  const file = await opened(writeGguf({ a: { ...flat, shape: [rows, width] }, flat }));
  const together = new Float32Array(values.length);
  const starts: number[] = [];
  for await (const { start, rows: piece } of file.pieces('a')) {
    starts.push(start);
    together.set(toFloat32(piece), start * width);
  }
  expect(Buffer.from(together.buffer).equals(Buffer.from(values.buffer))).toBe(true);
  expect(starts.length).toBeGreaterThan(1);
  for await (const { rows: piece } of file.pieces('flat')) expect(piece.shape).toEqual(flat.shape); // of whole blocks
});

test.each([
  [1 / 3, 0x3555],
  [2049, 0x6800], // between 2048 and 2050: to the even one
  [2051, 0x6802],
  [65519, 0x7bff],
  [65520, 0x7c00],
  [2 ** -24, 1],
  [2 ** -25, 0], // between 0 and 2^-24
  [3 * 2 ** -25, 2],
  [-0, 0x8000],
  [-Infinity, 0xfc00],
  [NaN, 0x7e00],
])('the half nearest to %d is %s', (value, half) => {
  const { data } = fromFloat32('F16', [1], Float32Array.of(value));
  expect((data[0] as number) | ((data[1] as number) << 8)).toBe(half);
});

const one: GgufTensor = fromFloat32('F32', [1], Float32Array.of(1));

test.each<[string, () => unknown, RegExp]>([
  ['a long name', () => writeGguf({ ['n'.repeat(64)]: one }), /64 bytes, at most 63/],
  ['half a surrogate pair', () => writeGguf({}, { k: { type: 'string', value: '\ud800' } }), /'k': expected a string/],
  ['a number that does not fit', () => writeGguf({}, { k: { type: 'uint8', value: 256 } }), /'k'.*fit into uint8/],
  ['a fraction', () => writeGguf({}, { k: { type: 'int32', value: 0.5 } }), /'k'.*fit into int32/],
  ['an alignment of 3', () => writeGguf({}, { 'general.alignment': { type: 'uint32', value: 3 } }), /power of two/],
  ['wrong data', () => writeGguf({ a: { ...one, shape: [2] } }), /'a': F32 of shape \[2\] takes 8 bytes.* has 4/],
  ['part of a block', () => fromFloat32('Q8_0', [33], new Float32Array(33)), /multiple of 32/],
  ['values that do not fill the shape', () => fromFloat32('F16', [2], new Float32Array(3)), /2 values, got 3/],
  ['five axes', () => writeGguf({ a: { ...one, shape: [1, 1, 1, 1, 1] } }), /at most 4 axes/],
])('%s is refused', (_, write, message) => {
  expect(write).toThrow(GgufError);
  expect(write).toThrow(message);
});
