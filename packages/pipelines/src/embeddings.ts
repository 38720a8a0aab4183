/** Embeddings, with the interface of transformers.js's `Tensor`. */
export interface Embeddings {
  /** The numbers in row-major order. */
  readonly data: Float32Array;
  /** The shape: `[texts, width]`, or `[texts, tokens, width]` without pooling. */
  readonly dims: readonly number[];
  /** Returns the numbers as nested lists. */
  tolist(): number[][] | number[][][];
}

/** Creates embeddings from numbers and their shape. */
export function embeddings(data: Float32Array, dims: readonly number[]): Embeddings {
  return { data, dims, tolist: () => nested(data, dims) as number[][] | number[][][] };
}

function nested(data: Float32Array, [count = 0, ...inner]: readonly number[]): unknown[] {
  if (inner.length === 0) return Array.from(data);
  const size = data.length / count;
  return Array.from({ length: count }, (_, row) => nested(data.subarray(row * size, (row + 1) * size), inner));
}

/** The minimum divisor, as in PyTorch. */
const MIN_NORM = 1e-12;

/** Scales each row of `width` numbers to length 1. A row of zeros stays zero. */
export function normalized(rows: Float32Array, width: number): Float32Array {
  const result = new Float32Array(rows.length);
  for (let start = 0; start < rows.length; start += width) {
    const row = rows.subarray(start, start + width);
    const norm = Math.max(Math.hypot(...row), MIN_NORM);
    const unit = row.map((value) => value / norm);
    result.set(unit, start);
  }
  return result;
}
