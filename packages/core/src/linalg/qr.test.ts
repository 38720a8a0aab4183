import { Matrix } from 'ml-matrix';
import { describe, expect, it } from 'vitest';
import { ConfigError, ShapeError } from '../errors.js';
import { createRng } from '../rng.js';
import { floats, hostTensor, hostZeros, type HostTensor } from '../tensors.js';
import { qr } from './qr.js';

const asMatrix = (tensor: HostTensor): Matrix =>
  Matrix.from1DArray(tensor.shape[0] as number, tensor.shape[1] as number, floats(tensor));

const gaussian = (rows: number, columns: number): HostTensor =>
  hostTensor(Float32Array.from({ length: rows * columns }, createRng(1).normal), [rows, columns]);

const distance = (a: Matrix, b: Matrix): number => Matrix.sub(a, b).abs().max();

function expectFactors(matrix: HostTensor): void {
  const [q, r] = [asMatrix(qr(matrix).q), asMatrix(qr(matrix).r)];
  expect(distance(q.mmul(r), asMatrix(matrix))).toBeLessThan(1e-5);
  expect(distance(q.transpose().mmul(q), Matrix.eye(q.columns))).toBeLessThan(1e-6);
  const below = r.to2DArray().flatMap((row, index) => row.slice(0, index));
  expect(below.every((value) => value === 0)).toBe(true);
}

describe('qr', () => {
  it.each([
    [6, 6],
    [20, 5],
    [5, 20],
    [1, 4],
    [4, 1],
  ])('factors a matrix [%i, %i]', (rows, columns) => {
    const k = Math.min(rows, columns);
    const matrix = gaussian(rows, columns);
    expect([qr(matrix).q.shape, qr(matrix).r.shape]).toEqual([
      [rows, k],
      [k, columns],
    ]);
    expectFactors(matrix);
  });

  it('has the signs of LAPACK', () => {
    // torch 2.15: torch.linalg.qr of [[1, 2], [2, -3], [-2, 1]] and of [[-3, 1], [4, 2]]
    const tall = qr(hostTensor(Float32Array.of(1, 2, 2, -3, -2, 1), [3, 2]));
    [-1 / 3, 0.8433, -2 / 3, -0.527, 2 / 3, -0.1054].forEach((q, index) =>
      expect(tall.q.data[index]).toBeCloseTo(q, 4),
    );
    [-3, 2, 0, 3.1623].forEach((r, index) => expect(tall.r.data[index]).toBeCloseTo(r, 4));
    const square = qr(hostTensor(Float32Array.of(-3, 1, 4, 2), [2, 2]));
    [-0.6, 0.8, 0.8, 0.6].forEach((q, index) => expect(square.q.data[index]).toBeCloseTo(q, 6));
    [5, 1, 0, 2].forEach((r, index) => expect(square.r.data[index]).toBeCloseTo(r, 6));
  });

  it('leaves a triangle unchanged, signs included', () => {
    const triangle = hostTensor(Float32Array.of(-2, 1, 0, 3), [2, 2]);
    expect([...qr(triangle).q.data]).toEqual([1, 0, 0, 1]);
    expect([...qr(triangle).r.data]).toEqual([-2, 1, 0, 3]);
  });

  it('stays orthonormal on dependent columns and zeros', () => {
    expectFactors(hostTensor(Float32Array.of(1, 2, 0, 1, 2, 0, 1, 2, 0), [3, 3]));
    expectFactors(hostZeros([4, 3]));
  });

  it('computes only the leading columns of Q and rows of R', () => {
    const matrix = gaussian(12, 9);
    const [whole, leading] = [qr(matrix), qr(matrix, 3)];
    expect(leading.q.shape).toEqual([12, 3]);
    expect(leading.r.shape).toEqual([3, 9]);
    expect(asMatrix(leading.q)).toEqual(asMatrix(whole.q).subMatrix(0, 11, 0, 2));
    expect(asMatrix(leading.r)).toEqual(asMatrix(whole.r).subMatrix(0, 2, 0, 8));
  });

  it('rejects tensors that are no matrix, and ranks below 1', () => {
    expect(() => qr(hostZeros([3]))).toThrow(ShapeError);
    expect(() => qr(gaussian(3, 3), 0)).toThrow(ConfigError);
  });
});
