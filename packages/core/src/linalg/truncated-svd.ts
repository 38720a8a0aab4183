import { Matrix, SingularValueDecomposition } from 'ml-matrix';
import { createRng } from '../rng.js';
import type { HostTensor } from '../tensors.js';
import { householderBasis } from './qr.js';
import {
  checkRank,
  columnOf,
  combination,
  denseMatrix,
  fromColumns,
  rowOf,
  times,
  transposedTimes,
  type DenseMatrix,
} from './matrix.js';

/**
 * The number of random directions beyond the rank. They separate the wanted singular values from those that are left
 * out.
 */
const OVERSAMPLING = 8;
/**
 * The number of directions after which a search ends, even if values still move. Smaller matrices are decomposed
 * exactly.
 */
const WIDTH = 256;
/** The number of blocks that a search may use at any rank, even where they exceed `WIDTH`. */
const BLOCKS = 4;
/** A singular value has converged when another block moves it by at most this share of the largest. */
const TOLERANCE = 1e-7;

/** A truncated singular value decomposition A ~ U diag(s) V^T. */
export interface TruncatedSvd {
  /** U `[rows, k]`, with orthonormal columns. */
  readonly u: HostTensor;
  /** The singular values, descending, `[k]`. */
  readonly s: Float64Array;
  /** V `[columns, k]`, with orthonormal columns. */
  readonly v: HostTensor;
}

/** The same decomposition as vectors in double precision. */
interface Triples {
  readonly u: readonly Float64Array[];
  readonly s: readonly number[];
  readonly v: readonly Float64Array[];
}

/**
 * Returns the k = min(rank, rows, columns) largest singular values of a matrix `[rows, columns]` and their vectors,
 * i.e. the best approximation of rank k (Eckart and Young, 1936). The entry of largest magnitude in each column of u is
 * positive.
 *
 * The result is exact to rounding where the smaller side is at most 256 or four times the rank; the cost grows with its
 * cube (some ten seconds for 768). Larger matrices use a randomized block Krylov search (Halko, Martinsson and Tropp,
 * 2011; Musco and Musco, 2015), from a fixed seed. It ends when no value moves by more than 1e-7 of the largest, or
 * after some 260 directions (four times the rank, if that is more). The latter happens only on flat spectra. Vectors of
 * nearly equal values may then still be mixed with their neighbours, and the error of the approximation is above the
 * best by up to 1e-5 at ranks to 16 and 0.5 % at any rank (measured on Gaussian noise).
 * @throws ShapeError when `matrix` is not a matrix, ConfigError when it is not finite or `rank` is below 1.
 */
export function truncatedSvd(matrix: HostTensor, rank: number): TruncatedSvd {
  checkRank(rank);
  const dense = denseMatrix(matrix);
  const smaller = Math.min(dense.rows, dense.columns);
  const wanted = Math.min(rank, smaller);
  const block = wanted + OVERSAMPLING;
  const blocks = Math.max(BLOCKS, Math.ceil(WIDTH / block));
  const { u, s, v } = withSigns(
    smaller <= block * blocks ? exact(dense, wanted) : search(dense, wanted, { block, blocks }),
  );
  return { u: fromColumns(u, dense.rows), s: Float64Array.from(s), v: fromColumns(v, dense.columns) };
}

/** Decomposes exactly, by QR over the longer side and the SVD of the small triangle: A = Q R = (Q U_R) S V^T. */
function exact(matrix: DenseMatrix, rank: number): Triples {
  const { rows, columns } = matrix;
  const tall = rows >= columns;
  const basis = householderBasis(Math.max(rows, columns), Math.min(rows, columns));
  const triangle = Array.from({ length: Math.min(rows, columns) }, (_, index) =>
    basis.add(tall ? columnOf(matrix, index) : rowOf(matrix, index)),
  );
  const { u, s, v } = triangleSvd(triangle, rank);
  const long = u.map((coordinates) => combination(basis.vectors, coordinates));
  return tall ? { u: long, s, v } : { u: v, s, v: long };
}

/**
 * Golub-Kahan bidiagonalisation by blocks: V spans the Krylov space of A^T A on a random block, A V = U R, and the
 * singular triples of R give those of A (Rayleigh and Ritz). The block is wider than the rank, so that all equal
 * singular values are found.
 */
function search(matrix: DenseMatrix, rank: number, { block, blocks }: { block: number; blocks: number }): Triples {
  const rng = createRng(0);
  const left = householderBasis(matrix.rows, block * blocks);
  const right = householderBasis(matrix.columns, block * blocks);
  const triangle: Float64Array[] = [];
  let directions: Float64Array[] = Array.from({ length: block }, () =>
    Float64Array.from({ length: matrix.columns }, rng.normal),
  );
  let before: readonly number[] = [];
  for (let step = 1; ; step++) {
    directions.forEach((direction) => right.add(direction));
    const images = times(matrix, right.vectors.slice(-block));
    triangle.push(...images.map((image) => left.add(image)));
    if (step === blocks) break;
    const values = triangleValues(triangle, rank);
    if (converged(values, before)) break;
    before = values;
    directions = transposedTimes(matrix, left.vectors.slice(-block));
  }
  const { u, s, v } = triangleSvd(triangle, rank);
  return {
    u: u.map((coordinates) => combination(left.vectors, coordinates)),
    s,
    v: v.map((coordinates) => combination(right.vectors, coordinates)),
  };
}

function converged(values: readonly number[], before: readonly number[]): boolean {
  const tolerance = TOLERANCE * (values[0] as number);
  return values.every((value, index) => Math.abs(value - (before[index] ?? Infinity)) <= tolerance);
}

/** Returns the leading singular triples of an upper triangle given by its columns. */
function triangleSvd(columns: readonly Float64Array[], rank: number): Triples {
  const svd = new SingularValueDecomposition(triangular(columns));
  const leading = (vectors: Matrix): Float64Array[] =>
    Array.from({ length: rank }, (_, index) => Float64Array.from(vectors.getColumn(index)));
  return {
    u: leading(svd.leftSingularVectors),
    s: svd.diagonal.slice(0, rank),
    v: leading(svd.rightSingularVectors),
  };
}

/** Returns only the leading singular values, at a quarter of the cost. */
function triangleValues(columns: readonly Float64Array[], rank: number): readonly number[] {
  const valuesOnly = { computeLeftSingularVectors: false, computeRightSingularVectors: false };
  return new SingularValueDecomposition(triangular(columns), valuesOnly).diagonal.slice(0, rank);
}

/** Builds the upper triangular matrix [n, n] from its columns, each given down to the diagonal. */
function triangular(columns: readonly Float64Array[]): Matrix {
  const matrix = Matrix.zeros(columns.length, columns.length);
  columns.forEach((column, index) => column.forEach((value, row) => matrix.set(row, index, value)));
  return matrix;
}

/**
 * Flips the sign of each pair of vectors so that the entry of largest magnitude in u (the first of equals) is positive.
 */
function withSigns({ u, s, v }: Triples): Triples {
  const signs = u.map(signOf);
  const turned = (vectors: readonly Float64Array[]): Float64Array[] =>
    vectors.map((vector, index) => vector.map((value) => (signs[index] as number) * value));
  return { u: turned(u), s, v: turned(v) };
}

function signOf(vector: Float64Array): number {
  const largest = vector.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  const entry = vector.find((value) => Math.abs(value) >= largest * (1 - 1e-6)) as number;
  return entry < 0 ? -1 : 1;
}
