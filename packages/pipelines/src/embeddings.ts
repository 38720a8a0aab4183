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

/** Pools the tokens of a text, the first `tokens` rows of `width` numbers, as `Pooling` of @peftjs/models says; several modes side by side. */
export function pool(
  outputs: Float32Array,
  tokens: number,
  width: number,
  pooling: PoolingMode | readonly PoolingMode[],
): Float32Array {
  const modes = typeof pooling === 'string' ? [pooling] : pooling;
  return Float32Array.from(modes.flatMap((mode) => [...pooledBy(mode, outputs, tokens, width)]));
}

function pooledBy(mode: PoolingMode, outputs: Float32Array, tokens: number, width: number): Float32Array {
  if (mode === 'cls') return outputs.slice(0, width);
  if (mode === 'lasttoken') return outputs.slice((tokens - 1) * width, tokens * width);
  const isLargest = mode === 'max';
  const result = new Float64Array(width).fill(isLargest ? -Infinity : 0);
  for (let at = 0; at < tokens * width; at++) {
    const [own, value] = [result[at % width] as number, outputs[at] as number];
    const weight = mode === 'weightedmean' ? Math.floor(at / width) + 1 : 1;
    result[at % width] = isLargest ? Math.max(own, value) : own + weight * value;
  }
  const total = {
    max: 1,
    mean: tokens,
    mean_sqrt_len_tokens: Math.sqrt(tokens),
    weightedmean: (tokens * (tokens + 1)) / 2,
  };
  return Float32Array.from(result, (value) => value / total[mode]);
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
