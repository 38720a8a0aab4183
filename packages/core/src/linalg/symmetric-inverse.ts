import { CholeskyDecomposition, Matrix } from 'ml-matrix';
import { ConfigError, ShapeError } from '../errors.js';
import { hostTensor, type HostTensor } from '../tensors.js';
import { denseMatrix, type DenseMatrix } from './matrix.js';

/** Relative rounding of float32. */
const EPSILON = 2 ** -23;

/** How to invert. */
export interface InverseOptions {
  /** Added to the diagonal; makes a singular matrix invertible. Default 0. */
  readonly ridge?: number;
}

/**
 * (M + ridge I)^-1 of a small symmetric positive definite matrix `[n, n]`, such as A^T A, by Cholesky's decomposition in
 * double precision. Only the symmetric part of M counts. Without a ridge, a matrix that is singular to float32's
 * rounding is refused.
 * @throws ShapeError when `matrix` is not square, ConfigError when it is not finite or not positive definite, or
 * when the ridge is negative.
 */
export function symmetricInverse(matrix: HostTensor, { ridge = 0 }: InverseOptions = {}): HostTensor {
  const dense = denseMatrix(matrix);
  if (dense.rows !== dense.columns) {
    throw new ShapeError(`a square matrix is needed to invert, got shape [${matrix.shape.join(', ')}]`, 'matrix');
  }
  if (!(ridge >= 0)) throw new ConfigError(`ridge must not be negative, got ${ridge}`, 'ridge');
  const raised = symmetricPart(dense).add(Matrix.eye(dense.rows).mul(ridge));
  const cholesky = new CholeskyDecomposition(raised);
  if (!cholesky.isPositiveDefinite() || smallestPivot(raised, cholesky) < (ridge > 0 ? 0 : EPSILON)) {
    throw new ConfigError(
      `the matrix [${matrix.shape.join(', ')}] with ridge ${ridge} is not positive definite: use a larger ridge`,
      'ridge',
    );
  }
  const inverse = cholesky.solve(Matrix.eye(dense.rows));
  return hostTensor(Float32Array.from(inverse.to1DArray()), matrix.shape);
}

/** (M + M^T) / 2. */
function symmetricPart({ rows, columns, values }: DenseMatrix): Matrix {
  const full = Matrix.from1DArray(rows, columns, values);
  return full.clone().add(full.transpose()).mul(0.5);
}

/** min_j L_jj^2 / M_jj: the share of row j that the rows before it do not explain. */
function smallestPivot(matrix: Matrix, { lowerTriangularMatrix }: CholeskyDecomposition): number {
  const diagonal = matrix.diagonal();
  return Math.min(...lowerTriangularMatrix.diagonal().map((entry, j) => entry ** 2 / (diagonal[j] as number)));
}
