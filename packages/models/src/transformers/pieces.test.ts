import { hostTensor } from '@peftjs/core';
import type { Site } from '@peftjs/core/method';
import { isQuantized, quantized } from '@peftjs/core/model';
import { transposed } from '@peftjs/core/linalg';
import { bytesSource, openSafetensors, writeSafetensors, type StoredTensor } from '@peftjs/safetensors';
import { expect, it } from 'vitest';
import { precisionOf } from '../checkpoint.js';
import { readWeight } from './pieces.js';

const [OUTER, WIDTH] = [2, 150_000]; // more than one piece: a row each
const site: Site = {
  path: 'dense',
  kind: 'linear',
  role: 'ffn.out',
  inFeatures: WIDTH,
  outFeatures: OUTER,
  hasBias: false,
};

function read(data: Float32Array, dtype: 'fp32' | 'q8', isTransposed: boolean) {
  const stored: StoredTensor = { dtype: 'F32', shape: [OUTER, WIDTH], data };
  const wanted = {
    name: 'dense.weight',
    path: 'model',
    precision: precisionOf(dtype, { sites: [site], encodeOnly: [] }),
  };
  return openSafetensors(bytesSource(writeSafetensors({ key: stored }))).then((file) =>
    readWeight(file, { ...stored, key: 'key', transposed: isTransposed }, wanted),
  );
}

const values = Float32Array.from({ length: OUTER * WIDTH }, (_, i) => Math.sin(i));
const matrix = hostTensor(values, [OUTER, WIDTH]);

it.each([
  { isTransposed: false, expected: matrix },
  { isTransposed: true, expected: transposed(matrix) },
])('reads a weight in several pieces, transposed $isTransposed', async ({ isTransposed, expected }) => {
  const weight = await read(values, 'fp32', isTransposed);
  expect(weight.shape).toEqual(expected.shape);
  expect(same(weight.data, expected.data)).toBe(true);
  const small = await read(values, 'q8', isTransposed);
  const whole = quantized(expected);
  expect(small.shape).toEqual(expected.shape);
  expect(
    isQuantized(small) &&
      same(small.parts.values.data, whole.parts.values.data) &&
      same(small.parts.scale.data, whole.parts.scale.data),
  ).toBe(true);
});

it.each([
  { isTransposed: false, position: WIDTH + 2 },
  { isTransposed: true, position: 2 * OUTER + 1 },
])('reports the position of a NaN in the weight, transposed $isTransposed', async ({ isTransposed, position }) => {
  const broken = values.slice();
  broken[WIDTH + 2] = NaN;
  await expect(read(broken, 'q8', isTransposed)).rejects.toThrow(
    `model: weight 'dense.weight' holds NaN at position ${position}`,
  );
});

function same(a: ArrayBufferView, b: ArrayBufferView): boolean {
  const bytes = ({ buffer, byteOffset, byteLength }: ArrayBufferView) => Buffer.from(buffer, byteOffset, byteLength);
  return bytes(a).equals(bytes(b));
}
