import { EigenvalueDecomposition, Matrix } from 'ml-matrix';
import { describe, expect, it } from 'vitest';
import { ConfigError, ShapeError } from '../errors.js';
import { createRng } from '../rng.js';
import { floats, hostIntegers, hostTensor, hostZeros, type HostTensor } from '../tensors.js';
import { truncatedSvd, type TruncatedSvd } from './truncated-svd.js';

const asMatrix = (tensor: HostTensor): Matrix =>
  Matrix.from1DArray(tensor.shape[0] as number, tensor.shape[1] as number, floats(tensor));

const gaussian = (rows: number, columns: number, seed = 1): HostTensor =>
  hostTensor(Float32Array.from({ length: rows * columns }, createRng(seed).normal), [rows, columns]);

/** The first `count` vectors of the orthonormal cosine basis: [length, count]. */
function cosines(length: number, count: number): Matrix {
  const basis = Matrix.zeros(length, count);
  for (let i = 0; i < length; i++) {
    for (let j = 0; j < count; j++) {
      basis.set(i, j, Math.sqrt((j === 0 ? 1 : 2) / length) * Math.cos((Math.PI * (i + 0.5) * j) / length));
    }
  }
  return basis;
}

/** sum_i s_i u_i v_i^T with cosine vectors: [rows, columns]. */
function withSpectrum(rows: number, columns: number, spectrum: readonly number[]): HostTensor {
  const left = cosines(rows, spectrum.length).mulRowVector([...spectrum]);
  const product = left.mmul(cosines(columns, spectrum.length).transpose());
  return hostTensor(Float32Array.from(product.to1DArray()), [rows, columns]);
}

function approximation({ u, s, v }: TruncatedSvd): Matrix {
  return asMatrix(u)
    .mulRowVector([...s])
    .mmul(asMatrix(v).transpose());
}

const errorOf = (matrix: HostTensor, svd: TruncatedSvd): number => asMatrix(matrix).sub(approximation(svd)).norm();

/** ||A - A_k|| of the best approximation, from all eigenvalues of the smaller Gram matrix. */
function bestError(matrix: HostTensor, rank: number): number {
  const a = asMatrix(matrix);
  const gram = a.rows <= a.columns ? a.mmul(a.transpose()) : a.transpose().mmul(a);
  const energies = new EigenvalueDecomposition(gram, { assumeSymmetric: true }).realEigenvalues.sort((x, y) => y - x);
  return Math.sqrt(energies.slice(rank).reduce((sum, energy) => sum + Math.max(energy, 0), 0));
}

/** Largest entry of |Q^T Q - I|. */
function skewness(q: HostTensor): number {
  const columns = asMatrix(q);
  return columns.transpose().mmul(columns).sub(Matrix.eye(columns.columns)).abs().max();
}

function expectOrthonormal({ u, s, v }: TruncatedSvd): void {
  expect(skewness(u)).toBeLessThan(1e-6);
  expect(skewness(v)).toBeLessThan(1e-6);
  expect([...s]).toEqual([...s].sort((a, b) => b - a));
  expect(Math.min(...s)).toBeGreaterThanOrEqual(0);
}

describe('truncatedSvd, exact', () => {
  it.each([
    [12, 12],
    [30, 7],
    [7, 30],
    [1, 9],
    [9, 1],
    [1, 1],
    [100, 256],
  ])('rebuilds a matrix [%i, %i] from all its triples', (rows, columns) => {
    const matrix = gaussian(rows, columns);
    const svd = truncatedSvd(matrix, Math.min(rows, columns));
    expect(errorOf(matrix, svd)).toBeLessThan(1e-6 * asMatrix(matrix).norm());
    expectOrthonormal(svd);
  });

  it('gives the best approximation of a matrix with a known spectrum', () => {
    const spectrum = [9, 7, 4, 2, 1, 0.5, 0.25];
    const matrix = withSpectrum(40, 25, spectrum);
    const svd = truncatedSvd(matrix, 3);
    spectrum.slice(0, 3).forEach((value, index) => expect(svd.s[index]).toBeCloseTo(value, 5));
    expect(errorOf(matrix, svd)).toBeCloseTo(Math.hypot(2, 1, 0.5, 0.25), 5);
    const overlap = cosines(40, 3).transpose().mmul(asMatrix(svd.u));
    expect(Matrix.abs(overlap).sub(Matrix.eye(3)).abs().max()).toBeLessThan(1e-5);
  });

  it('has as many triples as the matrix allows', () => {
    const { u, s, v } = truncatedSvd(gaussian(4, 6), 100);
    expect([u.shape, s.length, v.shape]).toEqual([[4, 4], 4, [6, 4]]);
  });

  it('completes the bases of a rank-deficient matrix', () => {
    const matrix = withSpectrum(20, 15, [3, 2]);
    const svd = truncatedSvd(matrix, 6);
    expectOrthonormal(svd);
    expect(Math.max(...svd.s.slice(2))).toBeLessThan(1e-6);
    expect(errorOf(matrix, svd)).toBeLessThan(1e-6);
  });

  it.each([
    [6, 4],
    [4, 6],
    [300, 290],
  ])('decomposes zeros [%i, %i]', (rows, columns) => {
    const svd = truncatedSvd(hostZeros([rows, columns]), 3);
    expect([...svd.s]).toEqual([0, 0, 0]);
    expectOrthonormal(svd);
  });

  it('finds the space of tied singular values', () => {
    const matrix = withSpectrum(30, 20, [5, 5, 5, 1]);
    const { u, s } = truncatedSvd(matrix, 3);
    [0, 1, 2].forEach((index) => expect(s[index]).toBeCloseTo(5, 5));
    const overlap = cosines(30, 3).transpose().mmul(asMatrix(u)); // orthogonal [3, 3] when the spaces are one
    expect(overlap.transpose().mmul(overlap).sub(Matrix.eye(3)).abs().max()).toBeLessThan(1e-5);
  });

  it('makes the largest entry of each left vector positive', () => {
    const { u } = truncatedSvd(gaussian(15, 10), 10);
    for (const column of asMatrix(u).transpose().to2DArray()) {
      expect(Math.max(...column)).toBe(Math.max(...column.map(Math.abs)));
    }
  });
});

describe('truncatedSvd, by search', () => {
  it('is as good as the best on a flat spectrum', () => {
    const matrix = gaussian(301, 903, 2);
    const svd = truncatedSvd(matrix, 8);
    expect(errorOf(matrix, svd) / bestError(matrix, 8) - 1).toBeLessThan(1e-5);
    expectOrthonormal(svd);
  });

  it('finds a known decaying spectrum', () => {
    const spectrum = Array.from({ length: 300 }, (_, index) => 10 / (index + 1));
    const matrix = withSpectrum(300, 900, spectrum);
    const svd = truncatedSvd(matrix, 8);
    svd.s.forEach((value, index) => expect(value).toBeCloseTo(spectrum[index] as number, 5));
    expect(errorOf(matrix, svd) / Math.hypot(...spectrum.slice(8)) - 1).toBeLessThan(1e-5);
    const overlap = cosines(300, 8).transpose().mmul(asMatrix(svd.u));
    expect(Matrix.abs(overlap).sub(Matrix.eye(8)).abs().max()).toBeLessThan(1e-5);
  });

  it('stays within half a percent of the best at a high rank on a flat spectrum', () => {
    const matrix = gaussian(400, 420, 3);
    expect(errorOf(matrix, truncatedSvd(matrix, 60)) / bestError(matrix, 60) - 1).toBeLessThan(5e-3);
  });

  it('finds all of many tied singular values', () => {
    const tied = Array.from({ length: 20 }, () => 4);
    const bulk = Array.from({ length: 280 }, (_, index) => 3.5 - index / 100);
    const { u, s } = truncatedSvd(withSpectrum(300, 310, [...tied, ...bulk]), 20);
    s.forEach((value) => expect(value).toBeCloseTo(4, 5));
    const overlap = cosines(300, 20).transpose().mmul(asMatrix(u));
    expect(overlap.transpose().mmul(overlap).sub(Matrix.eye(20)).abs().max()).toBeLessThan(1e-4);
  });

  it('continues when the matrix has no further directions', () => {
    const matrix = withSpectrum(300, 320, [3, 2]);
    const svd = truncatedSvd(matrix, 8);
    expectOrthonormal(svd);
    expect(errorOf(matrix, svd)).toBeLessThan(1e-5);
    expect(Math.max(...svd.s.slice(2))).toBeLessThan(1e-5);
  });

  it('always finds the same vectors', () => {
    const matrix = withSpectrum(
      280,
      290,
      Array.from({ length: 280 }, (_, index) => 0.9 ** index),
    );
    expect(truncatedSvd(matrix, 4)).toEqual(truncatedSvd(matrix, 4));
  });
});

describe('truncatedSvd, bad input', () => {
  it.each([0, -1, 1.5, NaN])('rejects rank %d', (rank) => {
    expect(() => truncatedSvd(gaussian(3, 3), rank)).toThrow(ConfigError);
  });

  it('rejects tensors that are no matrix of finite floats', () => {
    expect(() => truncatedSvd(hostZeros([4]), 1)).toThrow(ShapeError);
    expect(() => truncatedSvd(hostZeros([0, 4]), 1)).toThrow(ShapeError);
    expect(() => truncatedSvd(hostIntegers(Int32Array.of(1), [1, 1]), 1)).toThrow(ShapeError);
    expect(() => truncatedSvd(hostTensor(Float32Array.of(1, 2, 3, NaN), [2, 2]), 1)).toThrow('got NaN in row 1');
  });
});
