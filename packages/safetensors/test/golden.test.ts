import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { bytesSource, openSafetensors, readSafetensors, toFloat32, writeSafetensors } from '@peftjs/safetensors';
import { expected, golden, goldenPath, hex } from './files.js';

const files = Object.entries(expected.files);

describe.each(files)('%s.safetensors, written by the Python library', (name, tensors) => {
  test('is read correctly', () => {
    const read = readSafetensors(golden(`${name}.safetensors`));
    const summary = Object.fromEntries(
      [...read].map(([key, { dtype, shape, data }]) => [key, { dtype, shape, bytes: hex(data) }]),
    );
    const wanted = Object.fromEntries(
      Object.entries(tensors).map(([key, { dtype, shape, bytes }]) => [key, { dtype, shape, bytes }]),
    );
    expect(summary).toEqual(wanted);
  });

  test('returns the same tensors when read one at a time', async () => {
    const file = await openSafetensors(goldenPath(`${name}.safetensors`));
    const all = readSafetensors(golden(`${name}.safetensors`));
    expect(file.names).toEqual([...all.keys()]);
    for (const [key, tensor] of all) {
      expect(file.spec(key)).toEqual({ dtype: tensor.dtype, shape: tensor.shape });
      expect(await file.read(key)).toEqual(tensor);
    }
    await file.close();
  });

  test('has the same float32 values', () => {
    const read = readSafetensors(golden(`${name}.safetensors`));
    for (const [key, { float32 }] of Object.entries(tensors)) {
      const tensor = read.get(key);
      if (tensor && float32 !== undefined) expect(`${key} ${hex(toFloat32(tensor))}`).toBe(`${key} ${float32}`);
    }
  });
});

test.each(files.map(([name]) => name).filter((name) => name !== 'unaligned'))(
  'our writer reproduces %s.safetensors byte for byte, in any order of its tensors',
  async (name) => {
    const bytes = golden(`${name}.safetensors`);
    const { metadata } = await openSafetensors(bytesSource(bytes));
    const noted = Object.keys(metadata).length > 0 ? metadata : undefined;
    const backwards = new Map([...readSafetensors(bytes)].reverse());
    expect(hex(writeSafetensors(backwards, noted))).toBe(hex(bytes));
  },
);

test('a file at an unaligned address reads the same', () => {
  const bytes = golden('every-dtype.safetensors');
  const shifted = Buffer.alloc(bytes.length + 1).subarray(1);
  shifted.set(bytes);
  expect(readSafetensors(shifted)).toEqual(readSafetensors(bytes));
});

test('a file written here equals the one written by Python', () => {
  const path = 'base_model.model.encoder.layer.0.attention.query';
  const written = writeSafetensors(
    {
      [`${path}.lora_B.weight`]: {
        dtype: 'F32',
        shape: [4, 2],
        data: Float32Array.from({ length: 8 }, (_, i) => i / 8),
      },
      [`${path}.lora_A.weight`]: {
        dtype: 'F32',
        shape: [2, 3],
        data: Float32Array.from({ length: 6 }, (_, i) => i - 2.5),
      },
    },
    { format: 'pt' },
  );
  expect(hex(written)).toBe(hex(golden('adapter.safetensors')));
});

test.each(['F16', 'BF16'] as const)('all 65,536 bit patterns of %s convert as in Python', (dtype) => {
  const data = Uint16Array.from({ length: 65_536 }, (_, pattern) => pattern);
  const values = toFloat32({ dtype, shape: [65_536], data });
  const bits = new Uint32Array(values.buffer);
  values.forEach((value, i) => {
    if (Number.isNaN(value)) bits[i] = 0x7fc00000;
  });
  expect(createHash('sha256').update(bits).digest('hex')).toBe(expected.float32OfAllPatterns[dtype]);
});
