import type { HostTensor } from '../tensors.js';
import { addScaled, checkRank, columnOf, denseMatrix, dot, fromColumns } from './matrix.js';

/** A QR decomposition A = Q R. */
export interface QrFactors {
  /** Q `[rows, k]`, with orthonormal columns. */
  readonly q: HostTensor;
  /** R `[k, columns]`, upper triangular. */
  readonly r: HostTensor;
}

/**
 * Returns the reduced QR decomposition of a matrix `[rows, columns]` by Householder reflections in double precision,
 * with the signs of LAPACK and `torch.linalg.qr`. With a `rank`, only the first `rank` columns of Q and rows of R are
 * computed; k = min(rank, rows, columns).
 * @throws ShapeError when `matrix` is not a matrix, ConfigError when it is not finite or `rank` is below 1.
 */
export function qr(matrix: HostTensor, rank = Infinity): QrFactors {
  if (rank !== Infinity) checkRank(rank);
  const dense = denseMatrix(matrix);
  const k = Math.min(rank, dense.rows, dense.columns);
  const basis = householderBasis(dense.rows, k);
  const coordinates = Array.from({ length: dense.columns }, (_, column) => basis.add(columnOf(dense, column)));
  return { q: fromColumns(basis.vectors, dense.rows), r: fromColumns(coordinates, k) };
}

/** An orthonormal basis that grows vector by vector. */
export interface HouseholderBasis {
  /** The orthonormal vectors q_1, q_2, .. so far. */
  readonly vectors: readonly Float64Array[];
  /**
   * Extends the basis, unless it is full, by the new direction of `vector`. If there is none, it adds some direction
   * orthogonal to the others. Returns the coordinates q_1 . vector, q_2 . vector, ..
   */
  add(vector: Float64Array): Float64Array;
}

/**
 * Starts a Householder orthonormalisation in `length` dimensions, of up to `limit` vectors. The result is orthonormal
 * to rounding whatever is added, including dependent vectors and zeros. If the columns of a matrix are added in turn,
 * q_i and the coordinates are the columns of Q and R, with LAPACK's signs (`dgeqrf`, as in numpy and torch): R_kk is
 * -sign(x_k) |x| of the remaining part x, and x_k itself when all entries below it are zero.
 */
export function householderBasis(length: number, limit: number): HouseholderBasis {
  const reflectors: Float64Array[] = []; // w_k over entries k, k + 1, ..; H_k = I - w_k w_k^T
  const vectors: Float64Array[] = [];

  return {
    vectors,
    add(vector) {
      const reflected = Float64Array.from(vector);
      reflectors.forEach((reflector, k) => reflect(reflected, reflector, k));
      const k = reflectors.length;
      if (k < Math.min(limit, length)) {
        const reflector = reflectorOf(reflected.subarray(k));
        reflect(reflected, reflector, k);
        reflectors.push(reflector);
        vectors.push(unitVector(reflectors, length));
      }
      return reflected.slice(0, vectors.length);
    },
  };
}

/** Returns w with (I - w w^T) x = beta e_1 and |w|^2 = 2; zeros (the identity) when x is already a multiple of e_1. */
function reflectorOf(x: Float64Array): Float64Array {
  const first = x[0] as number;
  const below = dot(x, 1, x.subarray(1));
  if (below === 0) return new Float64Array(x.length);
  const norm = Math.sqrt(first * first + below);
  const beta = first < 0 ? norm : -norm;
  const w = Float64Array.from(x);
  w[0] = first - beta;
  const scale = 1 / Math.sqrt(beta * (beta - first)); // |w|^2 = 2 beta (beta - first) before
  return w.map((value) => value * scale);
}

/** Computes (I - w w^T) x in place, where w covers the entries of x from index `from`. */
function reflect(x: Float64Array, w: Float64Array, from: number): void {
  addScaled(x, from, -dot(x, from, w), w);
}

/** Returns q_k = H_1 H_2 .. H_k e_k for the last reflector k. */
function unitVector(reflectors: readonly Float64Array[], length: number): Float64Array {
  const vector = new Float64Array(length);
  vector[reflectors.length - 1] = 1;
  for (let k = reflectors.length - 1; k >= 0; k--) reflect(vector, reflectors[k] as Float64Array, k);
  return vector;
}
