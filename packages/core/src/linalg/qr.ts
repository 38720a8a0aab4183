import type { HostTensor } from '../tensors.js';
import { householderBasis } from './householder.js';
import { checkRank, columnOf, denseMatrix, fromColumns } from './matrix.js';

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
