// Files and numbers of the Python package: tools/golden/gguf.py.
import { createHash } from 'node:crypto';
import { beforeAll, describe, expect, it, test } from 'vitest';
import { fromFloat32, toFloat32, writeGguf, type EncodedType, type GgufFile } from '@peftjs/gguf';
import { golden, opened, tensorsOf } from './files.js';

interface Expected {
  readonly decoded: Readonly<Record<string, string>>;
  readonly encoded: Readonly<Record<string, string>>;
}

const bytes = await golden('blocks.gguf');
const expected = JSON.parse(new TextDecoder().decode(await golden('expected.json'))) as Expected;
let file: GgufFile;

beforeAll(async () => {
  file = await opened(bytes);
});

function sha(values: Float32Array | Uint8Array): string {
  const view = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return createHash('sha256').update(view).digest('hex');
}

describe('random blocks have the bits of Python', () => {
  test.each(Object.entries(expected.decoded))('decoded from %s', async (type, hash) => {
    const tensor = await file.read(type);
    expect(tensor).toMatchObject({ type, shape: [3, 512] });
    expect(sha(toFloat32(tensor))).toBe(hash);
  });

  test.each(Object.entries(expected.encoded))('encoded to %s', async (type, hash) => {
    const values = toFloat32(await file.read('F32'));
    expect(sha(fromFloat32(type as EncodedType, [3, 512], values).data)).toBe(hash);
  });
});

it('reads a Buffer, as Node reads files, like other bytes', async () => {
  const other = await opened(Buffer.from(bytes));
  expect(other.metadata).toEqual(file.metadata);
  expect(sha(toFloat32(await other.read('F16')))).toBe(expected.decoded['F16']);
});

it('reads metadata of every type that Python writes', () => {
  expect(Object.fromEntries(file.metadata)).toEqual({
    'general.architecture': { type: 'string', value: 'llama' },
    'one.uint8': { type: 'uint8', value: 255 },
    'one.int8': { type: 'int8', value: -128 },
    'one.uint16': { type: 'uint16', value: 65535 },
    'one.int16': { type: 'int16', value: -32768 },
    'one.uint32': { type: 'uint32', value: 2 ** 32 - 1 },
    'one.int32': { type: 'int32', value: -(2 ** 31) },
    'one.float32': { type: 'float32', value: 1.5 },
    'one.uint64': { type: 'uint64', value: 2n ** 64n - 1n },
    'one.int64': { type: 'int64', value: -(2n ** 63n) },
    'one.float64': { type: 'float64', value: 0.1 },
    'one.bool': { type: 'bool', value: true },
    'one.string': { type: 'string', value: 'Grüße, 世界' },
    'many.int32': { type: 'array', of: 'int32', value: Int32Array.of(1, -2) },
    'many.float32': { type: 'array', of: 'float32', value: Float32Array.of(0.5, -0.25) },
    'many.bool': { type: 'array', of: 'bool', value: [true, false] },
    'many.string': { type: 'array', of: 'string', value: ['a', ''] },
  });
});

it('writes the bytes that Python writes', async () => {
  expect(Buffer.from(bytes).equals(writeGguf(await tensorsOf(file), file.metadata))).toBe(true);
});
