import type { PoolingMode } from '@peftjs/models';

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

/**
 * Pools the tokens of a text, the first `tokens` rows of `width` numbers, like `Pooling` of @peftjs/models. The results
 * of several modes are concatenated.
 */
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
