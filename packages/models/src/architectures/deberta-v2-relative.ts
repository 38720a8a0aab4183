/**
 * What DeBERTa's attention adds to the scores for the distance between two tokens (He et al., 2021):
 *
 *   b_ij = s (q_i . (r_d W_k) + k_j . (r_d W_q)),   d = i - j          content to position, and position to content
 *
 * r_d: a row of the table of relative positions, s: the scale of the scores. A distance beyond half the number of buckets shares
 * its row with others, the more the farther.
 *
 * Rows depend on i and j by i - j alone. So products are taken with one row for each distance, in the order in which they meet a
 * token, and each token's results are then moved by its own place.
 */
import { splitHeads } from '@peftjs/core/nn';
import * as tf from '@tensorflow/tfjs';
import type { Tensor, Tensor1D } from '@tensorflow/tfjs';

/** How distances are told apart. */
export interface RelativeConfig {
  /** Buckets on each side; distances are clipped instead where there are none. */
  readonly positionBuckets: number | null;
  readonly maxRelativePositions: number;
}

/** Distances told apart on each side: half of the rows of the table. */
export function relativeSpan({ positionBuckets, maxRelativePositions }: RelativeConfig): number {
  return positionBuckets ?? maxRelativePositions;
}

/** The row of the table for a distance. */
export function relativeRow(distance: number, config: RelativeConfig): number {
  const span = relativeSpan(config);
  return Math.max(0, Math.min(span + bucketOf(distance, config), 2 * span - 1));
}

/** The bucket of a distance, computed in float32 as it is in transformers: near the edges the last digit decides. */
function bucketOf(distance: number, { positionBuckets, maxRelativePositions }: RelativeConfig): number {
  if (positionBuckets === null) return distance;
  const middle = Math.floor(positionBuckets / 2);
  const size = Math.abs(distance);
  if (size <= middle) return distance;
  const log = (x: number): number => Math.fround(Math.log(Math.fround(x / middle)));
  const share = Math.fround(log(size) / log(maxRelativePositions - 1));
  return Math.sign(distance) * (Math.ceil(Math.fround(share * (middle - 1))) + middle);
}

/** Rows of the table for each distance that a token meets, int32 [R]. */
export interface Distances {
  /** From a query to the keys: for r = 0, 1, .. */
  readonly toKeys: Tensor;
  /** From a key to the queries. */
  readonly toQueries: Tensor;
}

/**
 * The distances of a row of tokens: R = 2 S, of which the last is never read; of its first token alone: R = S. They are a part of the
 * distances of the longest row there is, falling or rising.
 * @param most tokens of the longest row
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

/** q_i . p_d: q [B, Q, H], p [R, H], both of `heads` heads -> [B, heads, Q, S], S = `tokens`. */
export function contentToPosition(q: Tensor, p: Tensor, heads: number, tokens: number): Tensor {
  const products = headProducts(q, p, heads); // [heads, B, Q, R]
  return tf.transpose(p.shape[0] === tokens ? products : aligned(products), [1, 0, 2, 3]);
}

/** k_j . p_d: k [B, S, H], p [R, H], both of `heads` heads -> [B, heads, Q, S]. */
export function positionToContent(k: Tensor, p: Tensor, heads: number): Tensor {
  const [batch, tokens] = k.shape as [number, number];
  if (p.shape[0] !== tokens) return tf.transpose(aligned(headProducts(k, p, heads)), [1, 0, 3, 2]);
  const products = tf.mul(splitHeads(k, heads), positionHeads(p, heads)); // [B, heads, S, size]
  return tf.reshape(tf.sum(products, 3), [batch, heads, 1, tokens]);
}

/** Products of every token of x [B, T, H] with every row of p [R, H] within each head: [heads, B, T, R]. */
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
  const rows = tf.reshape(moved, [heads, batch, tokens, 2 * tokens - 1]); // each begins one place earlier than the one before
  return tf.slice(rows, [0, 0, 0, 0], [heads, batch, tokens, tokens]);
}
