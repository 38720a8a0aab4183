import type { HostTensor } from '../tensors.js';
import { addScaled, checkRank, columnOf, denseMatrix, dot, fromColumns } from './matrix.js';

/** A = Q R: the columns of q `[rows, k]` are orthonormal, r `[k, columns]` is upper triangular. */
export interface QrFactors {
  readonly q: HostTensor;
  readonly r: HostTensor;
}

/**
 * The reduced QR decomposition of a matrix `[rows, columns]` by Householder reflections in double precision, with
 * the signs of LAPACK and `torch.linalg.qr`. With a `rank`, only the first `rank` columns of Q and rows of R are
 * computed; k = min(rank, rows, columns).
 * @throws ShapeError when `matrix` is no matrix, ConfigError when it is not finite or `rank` is below 1.
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
   * Extends the basis, unless it is full, by the direction that `vector` adds. A vector that adds none gets some
   * direction orthogonal to the others. Returns the coordinates q_1 . vector, q_2 . vector, ..
   */
  add(vector: Float64Array): Float64Array;
}

/**
 * Householder orthonormalisation in `length` dimensions, up to `limit` vectors: orthonormal to rounding whatever is
 * added, dependent vectors and zeros included. With the vectors of a matrix added in turn, q_i and the coordinates
 * are the columns of Q and R, with LAPACK's signs (`dgeqrf`, so numpy's and torch's): R_kk is -sign(x_k) |x| of the
 * part x that is left, and x_k itself when nothing stands below it.
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

/** w with (I - w w^T) x = beta e_1 and |w|^2 = 2; zeros, the identity, when x is a multiple of e_1 already. */
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

/** (I - w w^T) x in place, with w over the entries of x from `from` on. */
function reflect(x: Float64Array, w: Float64Array, from: number): void {
  addScaled(x, from, -dot(x, from, w), w);
}

/** q_k = H_1 H_2 .. H_k e_k for the last reflector k. */
function unitVector(reflectors: readonly Float64Array[], length: number): Float64Array {
  const vector = new Float64Array(length);
  vector[reflectors.length - 1] = 1;
  for (let k = reflectors.length - 1; k >= 0; k--) reflect(vector, reflectors[k] as Float64Array, k);
  return vector;
}
