import { CholeskyDecomposition, Matrix } from 'ml-matrix';
import { ConfigError, ShapeError } from '../errors.js';
import { floats, hostTensor, type HostTensor } from '../tensors.js';

/** A matrix ready to be decomposed: not empty, all values finite. */
export interface DenseMatrix {
  /** The number of rows. */
  readonly rows: number;
  /** The number of columns. */
  readonly columns: number;
  /** The values, row after row. */
  readonly values: Float32Array;
}

/**
 * Reads a float32 host matrix `[rows, columns]` without a copy.
 * @throws ShapeError when it is not a matrix, is empty or holds integers.
 * @throws ConfigError when a value is not finite.
 */
export function denseMatrix(matrix: HostTensor): DenseMatrix {
  const [rows = 0, columns = 0] = matrix.shape;
  if (matrix.shape.length !== 2 || rows === 0 || columns === 0) {
    throw new ShapeError(`a matrix with rows and columns is needed, got shape [${matrix.shape.join(', ')}]`, 'matrix');
  }
  const values = floats(matrix, 'matrix');
  const bad = values.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) {
    throw new ConfigError(
      `a matrix must be finite to be decomposed, got ${String(values[bad])} in row ${Math.floor(bad / columns)}`,
      'matrix',
    );
  }
  return { rows, columns, values };
}

/** Returns one column in double precision, `[rows]`. */
export function columnOf({ rows, columns, values }: DenseMatrix, column: number): Float64Array {
  return Float64Array.from({ length: rows }, (_, row) => values[row * columns + column] as number);
}

/** Returns one row in double precision, `[columns]`. */
export function rowOf({ columns, values }: DenseMatrix, row: number): Float64Array {
  return Float64Array.from(values.subarray(row * columns, (row + 1) * columns));
}

/** Joins vectors as columns of a matrix `[length, vectors]`. Shorter vectors are padded with zeros. */
export function fromColumns(vectors: readonly Float64Array[], length: number): HostTensor {
  const data = new Float32Array(length * vectors.length);
  vectors.forEach((vector, column) => {
    for (let row = 0; row < length; row++) data[row * vectors.length + column] = vector[row] ?? 0;
  });
  return hostTensor(data, [length, vectors.length]);
}

/** Checks a requested rank. @throws ConfigError when it is not an integer of at least 1. */
export function checkRank(rank: number): void {
  if (!Number.isInteger(rank) || rank < 1) {
    throw new ConfigError(`rank must be a whole number of at least 1, got ${rank}`, 'rank');
  }
}

/**
 * Returns sum_i a_i b_i over the entries of `b`, reading `a` from index `from`. Four partial sums run in parallel, for
 * speed.
 */
export function dot(a: Float64Array, from: number, b: Float64Array): number {
  let [s0, s1, s2, s3] = [0, 0, 0, 0];
  const whole = b.length - (b.length % 4);
  for (let i = 0; i < whole; i += 4) {
    s0 += (a[from + i] as number) * (b[i] as number);
    s1 += (a[from + i + 1] as number) * (b[i + 1] as number);
    s2 += (a[from + i + 2] as number) * (b[i + 2] as number);
    s3 += (a[from + i + 3] as number) * (b[i + 3] as number);
  }
  for (let i = whole; i < b.length; i++) s0 += (a[from + i] as number) * (b[i] as number);
  return s0 + s1 + (s2 + s3);
}

/** Computes target += factor * source, entry by entry, writing `target` from index `at`. */
export function addScaled(target: Float64Array, at: number, factor: number, source: Float64Array): void {
  for (let i = 0; i < source.length; i++) {
    target[at + i] = (target[at + i] as number) + factor * (source[i] as number);
  }
}

/** Returns A x for each x: vectors of `columns` numbers -> vectors of `rows` numbers. */
export function times(matrix: DenseMatrix, vectors: readonly Float64Array[]): Float64Array[] {
  return vectors.map((vector) => {
    const result = new Float64Array(matrix.rows);
    const whole = matrix.rows - (matrix.rows % 4);
    for (let row = 0; row < whole; row += 4) result.set(fourRowsTimes(matrix, row, vector), row);
    for (let row = whole; row < matrix.rows; row++) result[row] = dot(rowOf(matrix, row), 0, vector);
    return result;
  });
}

/** Returns A^T y for each y: vectors of `rows` numbers -> vectors of `columns` numbers. */
export function transposedTimes(matrix: DenseMatrix, vectors: readonly Float64Array[]): Float64Array[] {
  return vectors.map((vector) => {
    const result = new Float64Array(matrix.columns);
    const whole = matrix.rows - (matrix.rows % 4);
    for (let row = 0; row < whole; row += 4) addFourRows(result, matrix, row, vector);
    for (let row = whole; row < matrix.rows; row++) addScaled(result, 0, vector[row] as number, rowOf(matrix, row));
    return result;
  });
}

/** Returns sum_i c_i v_i: the vector with these coordinates in a basis. */
export function combination(basis: readonly Float64Array[], coordinates: ArrayLike<number>): Float64Array {
  const result = new Float64Array(basis[0]?.length ?? 0);
  basis.forEach((vector, index) => addScaled(result, 0, coordinates[index] as number, vector));
  return result;
}

function fourRowsTimes({ columns, values }: DenseMatrix, row: number, x: Float64Array): number[] {
  const [r0, r1, r2, r3] = [row * columns, (row + 1) * columns, (row + 2) * columns, (row + 3) * columns];
  let [s0, s1, s2, s3] = [0, 0, 0, 0];
  for (let i = 0; i < columns; i++) {
    const entry = x[i] as number;
    s0 += (values[r0 + i] as number) * entry;
    s1 += (values[r1 + i] as number) * entry;
    s2 += (values[r2 + i] as number) * entry;
    s3 += (values[r3 + i] as number) * entry;
  }
  return [s0, s1, s2, s3];
}

function addFourRows(result: Float64Array, { columns, values }: DenseMatrix, row: number, y: Float64Array): void {
  const [y0, y1, y2, y3] = [y[row] as number, y[row + 1] as number, y[row + 2] as number, y[row + 3] as number];
  const [r0, r1, r2, r3] = [row * columns, (row + 1) * columns, (row + 2) * columns, (row + 3) * columns];
  for (let i = 0; i < columns; i++) {
    result[i] =
      (result[i] as number) +
      (y0 * (values[r0 + i] as number) + y1 * (values[r1 + i] as number)) +
      (y2 * (values[r2 + i] as number) + y3 * (values[r3 + i] as number));
  }
}

/**
 * Returns (M + ridge I)^-1 of a small symmetric positive semidefinite matrix `[n, n]`, such as A^T A, by a Cholesky
 * decomposition in double precision. Only the symmetric part of M is used.
 * @param ridge a number above zero, which makes a singular matrix invertible
 * @throws ShapeError when `matrix` is not square, ConfigError when it is not finite or, with the ridge, not positive
 * definite.
 */
export function symmetricInverse(matrix: HostTensor, ridge: number): HostTensor {
  const dense = denseMatrix(matrix);
  if (dense.rows !== dense.columns) {
    throw new ShapeError(`a square matrix is needed to invert, got shape [${matrix.shape.join(', ')}]`, 'matrix');
  }
  const cholesky = new CholeskyDecomposition(symmetricPart(dense).add(Matrix.eye(dense.rows).mul(ridge)));
  if (!(ridge > 0) || !cholesky.isPositiveDefinite()) {
    throw new ConfigError(
      `the matrix [${matrix.shape.join(', ')}] with ridge ${ridge} is not positive definite: use a larger ridge`,
      'ridge',
    );
  }
  const inverse = cholesky.solve(Matrix.eye(dense.rows));
  return hostTensor(Float32Array.from(inverse.to1DArray()), matrix.shape);
}

/** Returns (M + M^T) / 2. */
function symmetricPart({ rows, columns, values }: DenseMatrix): Matrix {
  const full = Matrix.from1DArray(rows, columns, values);
  return full.clone().add(full.transpose()).mul(0.5);
}
