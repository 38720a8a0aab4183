import type { DenseMatrix } from './matrix.js';

/** sum_i a_i b_i over the entries of `b`, with `a` read from `from` on. Four sums run side by side. */
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

/** target += factor * source, entry by entry; `target` is written from `at` on. */
export function addScaled(target: Float64Array, at: number, factor: number, source: Float64Array): void {
  for (let i = 0; i < source.length; i++) {
    target[at + i] = (target[at + i] as number) + factor * (source[i] as number);
  }
}

/** A x for each x: vectors of `columns` numbers -> vectors of `rows` numbers. */
export function times(matrix: DenseMatrix, vectors: readonly Float64Array[]): Float64Array[] {
  return vectors.map((vector) => {
    const result = new Float64Array(matrix.rows);
    const whole = matrix.rows - (matrix.rows % 4);
    for (let row = 0; row < whole; row += 4) result.set(fourRowsTimes(matrix, row, vector), row);
    for (let row = whole; row < matrix.rows; row++) result[row] = rowTimes(matrix, row, vector);
    return result;
  });
}

/** A^T y for each y: vectors of `rows` numbers -> vectors of `columns` numbers. */
export function transposedTimes(matrix: DenseMatrix, vectors: readonly Float64Array[]): Float64Array[] {
  return vectors.map((vector) => {
    const result = new Float64Array(matrix.columns);
    const whole = matrix.rows - (matrix.rows % 4);
    for (let row = 0; row < whole; row += 4) addFourRows(result, matrix, row, vector);
    for (let row = whole; row < matrix.rows; row++) addRow(result, matrix, row, vector[row] as number);
    return result;
  });
}

/** sum_i c_i v_i: the vector that has these coordinates in a basis. */
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

function rowTimes({ columns, values }: DenseMatrix, row: number, x: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < columns; i++) sum += (values[row * columns + i] as number) * (x[i] as number);
  return sum;
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

function addRow(result: Float64Array, { columns, values }: DenseMatrix, row: number, factor: number): void {
  for (let i = 0; i < columns; i++) {
    result[i] = (result[i] as number) + factor * (values[row * columns + i] as number);
  }
}
