/**
 * The term that DeBERTa adds to attention scores for the distance between two tokens (He et al., 2021):
 *
 *   b_ij = s (q_i . (r_d W_k) + k_j . (r_d W_q)),   d = i - j          content to position, and position to content
 *
 * r_d: a row of the table of relative positions; s: the scale of the scores. Distances beyond half the number of
 * buckets share rows, in buckets that grow with the distance.
 *
 * A row depends on i and j only through i - j. So products are computed once per distance, and each token's results are
 * then shifted by its position.
 */
import { splitHeads } from '@peftjs/core/nn';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor, Tensor1D } from '@tensorflow/tfjs-core';

/** How distances map to rows of the table. */
export interface RelativeConfig {
  /** The number of buckets on each side. Null: distances are clipped instead. */
  readonly positionBuckets: number | null;
  /** Distances are below this number, in tokens. */
  readonly maxRelativePositions: number;
}

/** Returns the number of distinct distances on each side: half of the table's rows. */
export function relativeSpan({ positionBuckets, maxRelativePositions }: RelativeConfig): number {
  return positionBuckets ?? maxRelativePositions;
}

/** Returns the row of the table for a distance in tokens. */
export function relativeRow(distance: number, config: RelativeConfig): number {
  const span = relativeSpan(config);
  return Math.max(0, Math.min(span + bucketOf(distance, config), 2 * span - 1));
}

/**
 * Returns the bucket of a distance. Computed in float32 as in transformers: at a bucket's edge the last digit decides.
 */
function bucketOf(distance: number, { positionBuckets, maxRelativePositions }: RelativeConfig): number {
  if (positionBuckets === null) return distance;
  const middle = Math.floor(positionBuckets / 2);
  const size = Math.abs(distance);
  if (size <= middle) return distance;
  const log = (x: number): number => Math.fround(Math.log(Math.fround(x / middle)));
  const share = Math.fround(log(size) / log(maxRelativePositions - 1));
  return Math.sign(distance) * (Math.ceil(Math.fround(share * (middle - 1))) + middle);
}

/** The row of the table for each distance to a token, int32 [R]. */
export interface Distances {
  /** Distances from a query to the keys, for r = 0, 1, .. */
  readonly toKeys: Tensor;
  /** Distances from a key to the queries. */
  readonly toQueries: Tensor;
}

/**
 * Returns the distances within a sequence: R = 2 S, the last of which is never read; R = S for its first token alone.
 * They are a slice of the distances of the longest sequence, in falling or rising order.
 * @param tokens S, the length of the sequence.
 * @param queries The number of tokens that attend: all `tokens`, or 1 for the first.
 * @param most The length of the longest sequence.
 */
export function distances(tokens: number, queries: number, most: number, config: RelativeConfig): Distances {
  const rows = (distance: (r: number) => number): Tensor1D =>
    tf.tensor1d(
      Int32Array.from({ length: 2 * most }, (_, r) => relativeRow(distance(r), config)),
      'int32',
    );
  const falling = rows((r) => most - 1 - r);
  if (queries < tokens) {
    const fromFirst = tf.slice(falling, [most - 1], [tokens]); // 0, -1, ..
    return { toKeys: fromFirst, toQueries: fromFirst };
  }
  const part = (all: Tensor1D): Tensor => tf.slice(all, [most - tokens], [2 * tokens]);
  return { toKeys: part(falling), toQueries: part(rows((r) => r - (most - 1))) };
}

/** q_i . p_d for q [B, Q, H] and p [R, H], both with `heads` heads -> [B, heads, Q, S], S = `tokens`. */
export function contentToPosition(q: Tensor, p: Tensor, heads: number, tokens: number): Tensor {
  const products = headProducts(q, p, heads); // [heads, B, Q, R]
  return tf.transpose(p.shape[0] === tokens ? products : aligned(products), [1, 0, 2, 3]);
}

/** k_j . p_d for k [B, S, H] and p [R, H], both with `heads` heads -> [B, heads, Q, S]. */
export function positionToContent(k: Tensor, p: Tensor, heads: number): Tensor {
  const [batch, tokens] = k.shape as [number, number];
  if (p.shape[0] !== tokens) return tf.transpose(aligned(headProducts(k, p, heads)), [1, 0, 3, 2]);
  const products = tf.mul(splitHeads(k, heads), positionHeads(p, heads)); // [B, heads, S, size]
  return tf.reshape(tf.sum(products, 3), [batch, heads, 1, tokens]);
}

/** Returns the products of each token of x [B, T, H] with each row of p [R, H], per head: [heads, B, T, R]. */
function headProducts(x: Tensor, p: Tensor, heads: number): Tensor {
  const [batch, tokens, width] = x.shape as [number, number, number];
  const [rows, size] = [p.shape[0], width / heads];
  const byHead = tf.transpose(splitHeads(x, heads), [1, 0, 2, 3]); // [heads, B, T, size]
  const positions = tf.reshape(positionHeads(p, heads), [heads, rows, size]);
  const products = tf.matMul(tf.reshape(byHead, [heads, batch * tokens, size]), positions, false, true);
  return tf.reshape(products, [heads, batch, tokens, rows]); // [heads, B * T, R] -> [heads, B, T, R]
}

/** [R, H] -> [1, heads, R, size] */
function positionHeads(p: Tensor, heads: number): Tensor {
  return splitHeads(tf.expandDims(p, 0), heads);
}

/** y[.., i, j] = x[.., i, S - 1 - i + j]: [heads, B, S, 2 S] -> [heads, B, S, S]. */
function aligned(x: Tensor): Tensor {
  const [heads, batch, tokens] = x.shape as [number, number, number];
  const flat = tf.reshape(x, [heads * batch, 2 * tokens * tokens]);
  const moved = tf.slice(flat, [0, tokens - 1], [heads * batch, tokens * (2 * tokens - 1)]);
  // Each row starts one place earlier than the previous one.
  const rows = tf.reshape(moved, [heads, batch, tokens, 2 * tokens - 1]);
  return tf.slice(rows, [0, 0, 0, 0], [heads, batch, tokens, tokens]);
}
