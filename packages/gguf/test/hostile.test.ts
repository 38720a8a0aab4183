import { expect, it, test } from 'vitest';
import { bytesSource, type ByteSource } from '@peftjs/safetensors';
import { GgufError, openGguf, writeGguf } from '@peftjs/gguf';
import { opened, smallFile } from './files.js';

/** A file with these bytes after magic, version and counts. */
function fileOf(tensors: bigint, entries: bigint, ...parts: readonly (Uint8Array | readonly number[])[]): Uint8Array {
  const start = new DataView(new ArrayBuffer(24));
  start.setUint32(0, 0x46554747, true);
  start.setUint32(4, 3, true);
  start.setBigUint64(8, tensors, true);
  start.setBigUint64(16, entries, true);
  return Uint8Array.from([...new Uint8Array(start.buffer), ...parts.flatMap((part) => [...part])]);
}

const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
const u64 = (value: number | bigint): Uint8Array => new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);
const text = (value: string): number[] => [...u64(value.length), ...new TextEncoder().encode(value)];
const info = (name: string, { sizes = [1], type = 0, offset = 0 } = {}): number[] => [
  ...text(name),
  ...u32(sizes.length),
  ...sizes.flatMap((size) => [...u64(size)]),
  ...u32(type),
  ...u64(offset),
];
const space = new Uint8Array(200);

test.each<[string, Uint8Array, RegExp]>([
  ['nothing', new Uint8Array(), /starts with the bytes 'GGUF'/],
  ['another format', new TextEncoder().encode('PK\u0003\u0004 and more'), /starts with the bytes 'GGUF'/],
  ['only the magic', fileOf(0n, 0n).subarray(0, 4), /truncated/],
  ['version 1', fileOf(0n, 0n).fill(1, 4, 5), /version 1 of the format, expected 2 or 3/],
  ['big-endian', Uint8Array.from([...fileOf(0n, 0n).subarray(0, 4), 0, 0, 0, 3, ...space]), /big-endian/],
  ['2^64 - 1 tensors', fileOf(2n ** 64n - 1n, 0n), /announces .* tensors; at most 65536/],
  ['more entries than bytes', fileOf(0n, 1000n, space), /1000 entries of metadata.*224 bytes/],
  ['a key of 2^40 bytes', fileOf(0n, 1n, u64(2 ** 40), space), /bytes of a key; at most 65535/],
  ['a key twice', fileOf(0n, 2n, text('k'), u32(0), [1], text('k'), u32(0), [1]), /'k' appears twice/],
  ['an unknown type', fileOf(0n, 1n, text('k'), u32(13), space), /'k' has the unknown type 13/],
  ['a boolean of 2', fileOf(0n, 1n, text('k'), u32(7), [2]), /boolean of 'k' must be 0 or 1/],
  ['not UTF-8', fileOf(0n, 1n, text('k'), u32(8), u64(1), [0xff]), /value of 'k' is not valid UTF-8/],
  ['a long array', fileOf(0n, 1n, text('k'), u32(9), u32(6), u64(1e6), space), /1000000 elements of 'k'/],
  [
    'deep arrays',
    fileOf(0n, 1n, text('k'), u32(9), ...Array.from({ length: 9 }, () => [...u32(9), ...u64(1)]), space),
    /'k' are nested more than 4 deep/,
  ],
  ['an alignment of 12', fileOf(0n, 1n, text('general.alignment'), u32(4), u32(12)), /power of two/],
  ['five axes', fileOf(1n, 0n, info('a', { sizes: [1, 1, 1, 1, 1] }), space), /'a' has 5 axes, at most 4/],
  ['a type that is not read', fileOf(1n, 0n, info('a', { type: 10 }), space), /'a' has type Q2_K; known ones are F32/],
  ['an unknown tensor type', fileOf(1n, 0n, info('a', { type: 99 }), space), /'a' has type number 99/],
  ['an empty axis', fileOf(1n, 0n, info('a', { sizes: [0] }), space), /'a' has shape \[0\]/],
  ['sizes that overflow', fileOf(1n, 0n, info('a', { sizes: [2 ** 31, 2 ** 31] }), space), /'a' has shape/],
  ['part of a block', fileOf(1n, 0n, info('a', { sizes: [33], type: 8 }), space), /'a'.* a multiple of 32/],
  ['a tensor beyond the end', fileOf(1n, 0n, info('a', { sizes: [100] }), space), /'a' ends at byte .* truncated/],
  ['a gap', fileOf(1n, 0n, info('a', { offset: 32 }), space), /'a' starts at byte 32 of the data, expected 0/],
  ['an overlap', fileOf(2n, 0n, info('a'), info('b'), space), /'b' starts at byte 0 of the data, expected 32/],
  ['a name twice', fileOf(2n, 0n, info('a'), info('a', { offset: 32 }), space), /'a' appears twice/],
])('%s is refused', async (_, file, message) => {
  const opening = opened(file);
  await expect(opening).rejects.toThrow(GgufError);
  await expect(opening).rejects.toThrow(message);
});

it('a source that fails or gives fewer bytes is reported and closed', async () => {
  const bytes = smallFile();
  const closed: string[] = [];
  const failing = (name: string, read: ByteSource['read']): ByteSource => ({
    size: bytes.length,
    read,
    close: () => Promise.resolve(void closed.push(name)),
  });
  await expect(openGguf(failing('short', () => Promise.resolve(bytes.subarray(1))))).rejects.toThrow(
    /got \d+.*changed/,
  );
  await expect(openGguf(failing('lost', () => Promise.reject(new Error('lost'))))).rejects.toThrow(/cannot read.*lost/);
  expect(closed).toEqual(['short', 'lost']);
});

it('a header longer than the first read is read whole', async () => {
  const entries = { words: { type: 'array', of: 'string', value: Array<string>(90_000).fill('token') } } as const;
  const reads: number[] = [];
  const bytes = writeGguf({}, entries);
  const inner = bytesSource(bytes);
  const file = await openGguf({
    size: bytes.length,
    read(offset, length) {
      reads.push(length);
      return inner.read(offset, length);
    },
  });
  expect(file.metadata.get('words')?.value).toHaveLength(90_000);
  expect(reads).toEqual([2 ** 20, bytes.length]);
});
