import { Matrix } from 'ml-matrix';
import { describe, expect, it } from 'vitest';
import { ConfigError, ShapeError } from '../errors.js';
import { createRng } from '../rng.js';
import { floats, hostTensor, hostZeros, type HostTensor } from '../tensors.js';
import { symmetricInverse } from './matrix.js';

const square = (n: number, ...values: number[]): HostTensor => hostTensor(Float32Array.from(values), [n, n]);

const asMatrix = (tensor: HostTensor): Matrix =>
  Matrix.from1DArray(tensor.shape[0] as number, tensor.shape[1] as number, floats(tensor));

/** A^T A of a Gaussian A [rows, n]. */
function gram(rows: number, n: number): HostTensor {
  const a = Matrix.from1DArray(rows, n, Float64Array.from({ length: rows * n }, createRng(1).normal));
  return hostTensor(Float32Array.from(a.transpose().mmul(a).to1DArray()), [n, n]);
}

describe('symmetricInverse', () => {
  it('has the closed form of two by two', () => {
    const inverse = symmetricInverse(square(2, 4, 1, 1, 3), 1e-12);
    [3 / 11, -1 / 11, -1 / 11, 4 / 11].forEach((value, index) => expect(inverse.data[index]).toBeCloseTo(value, 6));
    expect(inverse.shape).toEqual([2, 2]);
  });

  it('times the matrix is the identity', () => {
    const matrix = gram(40, 8);
    const product = asMatrix(matrix).mmul(asMatrix(symmetricInverse(matrix, 1e-12)));
    expect(product.sub(Matrix.eye(8)).abs().max()).toBeLessThan(1e-5);
  });

  it('adds the ridge to the diagonal, which makes a singular matrix invertible', () => {
    const inverse = symmetricInverse(square(2, 1, 1, 1, 1), 1);
    [2 / 3, -1 / 3, -1 / 3, 2 / 3].forEach((value, index) => expect(inverse.data[index]).toBeCloseTo(value, 6));
    expect(symmetricInverse(square(2, 1, 1, 1, 1 + 2 ** -23), 1e-8).data[0]).toBeGreaterThan(1e6);
    expect(symmetricInverse(hostZeros([3, 3]), 0.5).data[0]).toBe(2);
  });

  it('rejects matrices that are not positive definite or not square, and ridges of zero or less', () => {
    expect(() => symmetricInverse(square(2, 1, 2, 2, 1), 1e-8)).toThrow('use a larger ridge');
    expect(() => symmetricInverse(hostZeros([2, 3]), 1)).toThrow(ShapeError);
    expect(() => symmetricInverse(square(1, 1), 0)).toThrow(ConfigError);
    expect(() => symmetricInverse(square(1, 2), -1)).toThrow(ConfigError);
  });
});
