import { describe, expect, test } from 'vitest';
import { readSafetensors, SafetensorsError, toFloat32, writeSafetensors, type StoredTensor } from '@peftjs/safetensors';

const one: StoredTensor = { dtype: 'F32', shape: [1], data: Float32Array.of(1) };

const headerOf = (bytes: Uint8Array) => {
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  return new TextDecoder().decode(bytes.subarray(8, 8 + length));
};

test('the widest elements come first, then names by their UTF-8 bytes', () => {
  const bytes = writeSafetensors({
    '10': one,
    '9': one,
    '\u{1f600}': one,
    '\uffff': one,
    long: { dtype: 'I64', shape: [1], data: BigInt64Array.of(1n) },
    byte: { dtype: 'U8', shape: [1], data: Uint8Array.of(1) },
  });
  expect([...readSafetensors(bytes).keys()]).toEqual(['long', '10', '9', '\uffff', '\u{1f600}', 'byte']);
  expect(headerOf(bytes)).toMatch(/^\{"long":\{"dtype":"I64","shape":\[1\],"data_offsets":\[0,8\]\},"10":/);
});

test('metadata comes first and sorted, even if empty', () => {
  expect(headerOf(writeSafetensors({}, { b: '1', a: '"' }))).toBe('{"__metadata__":{"a":"\\"","b":"1"}}     ');
  expect(headerOf(writeSafetensors(new Map(), new Map()))).toBe('{"__metadata__":{}}     ');
});

test('the file is a copy: later changes of a tensor do not affect it', () => {
  const data = Float32Array.of(1, 2);
  const bytes = writeSafetensors({ a: { dtype: 'F32', shape: [1], data: data.subarray(1) } });
  data[1] = 7;
  expect(readSafetensors(bytes).get('a')?.data).toEqual(Float32Array.of(2));
});

describe('rejects and names what cannot be written', () => {
  test.each<[string, Record<string, unknown>, RegExp]>([
    ['data of another length', { a: { ...one, shape: [2] } }, /'a': F32 of shape \[2\] takes 8 bytes, its data has 4/],
    ['data of another type', { a: { ...one, dtype: 'I32' } }, /'a': data is not an array of I32 elements/],
    ['floats instead of raw halves', { a: { dtype: 'F16', shape: [1], data: new Float32Array(1) } }, /array of F16/],
    ['an unknown dtype', { a: { ...one, dtype: 'F8' } }, /'a' has dtype 'F8'/],
    ['a negative size', { a: { ...one, shape: [-1] } }, /'a': axis 0 has size -1/],
    ['a size that is NaN', { a: { ...one, shape: [NaN] } }, /'a': axis 0 has size NaN/],
    ['too many axes', { a: { ...one, shape: Array<number>(65).fill(1) } }, /'a' has 65 axes, at most 64/],
    ['half a surrogate pair', { '\ud800': one }, /tensor name must be a string of Unicode characters/],
    ['the name of the metadata', { ['__metadata__']: one }, /cannot be a tensor's name/],
  ])('%s', (_, tensors, says) => {
    const attempt = () => writeSafetensors(tensors as Record<string, StoredTensor>);
    expect(attempt).toThrow(SafetensorsError);
    expect(attempt).toThrow(says);
    expect(attempt).toThrow(expect.objectContaining({ path: Object.keys(tensors)[0] }));
  });

  test('metadata that is not text', () => {
    const attempt = () => writeSafetensors({}, { epoch: 3 } as unknown as Record<string, string>);
    expect(attempt).toThrow(/metadata of 'epoch' must be a string of Unicode characters, got '3'/);
  });

  test('more tensors or metadata than the reader accepts', () => {
    const many = Array.from({ length: 262_144 }, (_, i) => i.toString(36));
    expect(() => writeSafetensors(new Map(many.map((name) => [name, one])))).toThrow(/fewer than 262144 tensors/);
    expect(() => writeSafetensors({}, new Map(many.map((key) => [key, ''])))).toThrow(/fewer than 262144 entries/);
    const most = new Map(many.slice(1).map((name) => [name, one]));
    expect(readSafetensors(writeSafetensors(most, { format: 'pt' })).size).toBe(262_143);
  });

  test('metadata beyond the header limit', () => {
    expect(() => writeSafetensors({}, { text: 'x'.repeat(100_000_000) })).toThrow(/at most 100000000 are allowed/);
  });
});

describe('toFloat32', () => {
  test('returns the data of F32 itself and rounds F64', () => {
    expect(toFloat32(one)).toBe(one.data);
    const wide: StoredTensor = { dtype: 'F64', shape: [2], data: Float64Array.of(0.1, 1e300) };
    expect(toFloat32(wide)).toEqual(Float32Array.of(Math.fround(0.1), Infinity));
  });

  test('rejects integers, which it might change', () => {
    const ids: StoredTensor = { dtype: 'I64', shape: [1], data: BigInt64Array.of(1n) };
    expect(() => toFloat32(ids)).toThrow(/expected a tensor of F32, F16, BF16 or F64, got I64/);
  });
});
