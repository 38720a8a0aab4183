import { describe, expect, it } from 'vitest';
import { hostTensor, type HostTensor } from '../tensors.js';
import { convolutionA, convolutionB, factorMatrix } from './lora-file.js';

const counting = (...shape: number[]): HostTensor =>
  hostTensor(
    Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, index) => index),
    shape,
  );

describe("a convolution's factors", () => {
  it('have the shapes of torch: A [r, in, height, width], B [out, r, 1, 1]', () => {
    const [r, height, width, channels] = [2, 3, 2, 4];
    const here = counting(r, height * width * channels);
    const there = convolutionA(here, [height, width]);
    expect(there.shape).toEqual([r, channels, height, width]);
    for (const [rank, i, j, channel] of [
      [0, 0, 0, 1],
      [0, 0, 1, 0],
      [0, 1, 0, 0],
      [1, 2, 1, 3],
    ] as const) {
      const at = ((rank * channels + channel) * height + i) * width + j;
      expect(there.data[at]).toBe(here.data[((rank * height + i) * width + j) * channels + channel]);
    }
    expect(convolutionB(counting(5, 2), [3, 2])).toEqual({ ...counting(5, 2), shape: [5, 2, 1, 1] });
  });

  it('convert back to the same matrices', () => {
    const [a, b] = [counting(3, 2 * 5 * 4), counting(6, 3)];
    expect(factorMatrix(convolutionA(a, [2, 5]))).toEqual(a);
    expect(factorMatrix(convolutionB(b, [2, 5]))).toEqual(b);
  });

  it('of a module without a kernel stay unchanged', () => {
    const matrix = counting(3, 4);
    expect([convolutionA(matrix, undefined), convolutionB(matrix, undefined), factorMatrix(matrix)]).toEqual([
      matrix,
      matrix,
      matrix,
    ]);
  });
});
