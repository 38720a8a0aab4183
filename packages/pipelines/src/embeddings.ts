import type { PoolingMode } from '@peftjs/models';

/** Numbers in rows, as transformers.js's `Tensor` has them. */
export interface Embeddings {
  readonly data: Float32Array;
  /** `[texts, width]`, or `[texts, tokens, width]` without pooling. */
  readonly dims: readonly number[];
  /** The numbers as nested lists. */
  tolist(): number[][] | number[][][];
}

/** Rows of one length as embeddings. */
export function embeddings(data: Float32Array, dims: readonly number[]): Embeddings {
  return { data, dims, tolist: () => nested(data, dims) as number[][] | number[][][] };
}

function nested(data: Float32Array, [count = 0, ...inner]: readonly number[]): unknown[] {
  if (inner.length === 0) return Array.from(data);
  const size = data.length / count;
  return Array.from({ length: count }, (_, row) => nested(data.subarray(row * size, (row + 1) * size), inner));
}

/** Pools the tokens of a text, the first `tokens` rows of `width` numbers. */
export function pool(outputs: Float32Array, tokens: number, width: number, pooling: PoolingMode): Float32Array {
  if (pooling === 'cls') return outputs.slice(0, width);
  const sum = new Float64Array(width);
  for (let at = 0; at < tokens * width; at++) sum[at % width] = (sum[at % width] as number) + (outputs[at] as number);
  return Float32Array.from(sum, (value) => value / tokens);
}

/** The smallest length that is divided by, as in torch. */
const LEAST_NORM = 1e-12;

/** Gives each row of `width` numbers length 1; a row of zeros stays one. */
export function normalized(rows: Float32Array, width: number): Float32Array {
  const result = new Float32Array(rows.length);
  for (let start = 0; start < rows.length; start += width) {
    const row = rows.subarray(start, start + width);
    const norm = Math.max(Math.hypot(...row), LEAST_NORM);
    result.set(
      row.map((value) => value / norm),
      start,
    );
  }
  return result;
}
