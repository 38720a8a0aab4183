import { ConfigError, ShapeError } from '../errors.js';
import { floats, hostTensor, type HostTensor } from '../tensors.js';

/** A matrix that decompositions can work on: not empty, every value finite, row after row. */
export interface DenseMatrix {
  readonly rows: number;
  readonly columns: number;
  readonly values: Float32Array;
}

/**
 * Reads a float32 matrix at rest `[rows, columns]`, without a copy.
 * @throws ShapeError when it is no matrix, is empty or holds integers.
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

/** One column in double precision: rows numbers. */
export function columnOf({ rows, columns, values }: DenseMatrix, column: number): Float64Array {
  return Float64Array.from({ length: rows }, (_, row) => values[row * columns + column] as number);
}

/** One row in double precision: columns numbers. */
export function rowOf({ columns, values }: DenseMatrix, row: number): Float64Array {
  return Float64Array.from(values.subarray(row * columns, (row + 1) * columns));
}

/** Vectors of `length` side by side: `[length, vectors]`. A shorter one ends in zeros. */
export function fromColumns(vectors: readonly Float64Array[], length: number): HostTensor {
  const data = new Float32Array(length * vectors.length);
  vectors.forEach((vector, column) => {
    for (let row = 0; row < length; row++) data[row * vectors.length + column] = vector[row] ?? 0;
  });
  return hostTensor(data, [length, vectors.length]);
}

/** A rank that can be asked for. @throws ConfigError when it is no whole number from 1. */
export function checkRank(rank: number): void {
  if (!Number.isInteger(rank) || rank < 1) {
    throw new ConfigError(`rank must be a whole number of at least 1, got ${rank}`, 'rank');
  }
}
