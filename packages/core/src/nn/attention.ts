import type { Tensor } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import { ShapeError } from '../errors.js';

/** Options of {@link attention}. */
export interface AttentionOptions {
  /** The number of heads of q. */
  readonly heads: number;
  /** The number of heads of k and v, each shared by consecutive heads of q. Default: `heads`. */
  readonly keyHeads?: number;
  /**
   * Added to the scores before the softmax; broadcasts to `[batch, heads, queries, keys]`. See {@link maskBias}.
   * Default: none.
   */
  readonly maskBias?: Tensor;
  /** The factor of the scores. Default: 1 / sqrt(features of a head). */
  readonly scale?: number;
  /** Applied to the weights, after the softmax: `[batch, heads, queries, keys]`. Default: nothing, as in inference. */
  readonly dropout?: (weights: Tensor) => Tensor;
  /** Soft-capping: scores s become softcap tanh(s / softcap) before the bias is added. Default: no capping. */
  readonly softcap?: number;
}

/**
 * Multi-head scaled dot-product attention, softmax(scale q k^T + maskBias) v within each head; with a softcap c,
 * softmax(c tanh(scale q k^T / c) + maskBias) v (Gemma Team, 2024).
 *
 * @param q `[batch, queries, heads * size]`
 * @param k `[batch, keys, keyHeads * size]`
 * @param v `[batch, keys, keyHeads * size]`
 * @returns `[batch, queries, heads * size]`
 * @throws ShapeError when the features do not divide into heads, or the heads of q into those of k.
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions): Tensor {
  const { heads, keyHeads = heads, maskBias, softcap, dropout = (all: Tensor): Tensor => all } = options;
  const queries = splitHeads(q, heads); // [batch, heads, queries, size]
  const scale = options.scale ?? 1 / Math.sqrt(queries.shape.at(-1) ?? 1);
  const products = perKeyHead(queries, splitHeads(k, keyHeads), true); // [batch, heads, queries, keys]
  const scores = softcap === undefined ? tf.mul(products, scale) : softCapped(tf.mul(products, scale), softcap);
  const weights = dropout(tf.softmax(maskBias === undefined ? scores : tf.add(scores, maskBias)));
  return mergeHeads(perKeyHead(weights, splitHeads(v, keyHeads), false)); // [batch, heads, queries, size]
}

/**
 * Multiplies every head of `a` with the head of `b` that it uses. Heads that share one become extra rows of one
 * product. a `[batch, heads, rows, inner]`, b `[batch, keyHeads, ..]` -> `[batch, heads, rows, columns]`
 */
function perKeyHead(a: Tensor, b: Tensor, transposeB: boolean): Tensor {
  const [batch, heads, rows, inner] = a.shape as [number, number, number, number];
  const keyHeads = b.shape[1] as number;
  if (heads === keyHeads) return tf.matMul(a, b, false, transposeB);
  if (heads % keyHeads !== 0) throw new ShapeError(`${heads} query heads cannot share ${keyHeads} key heads`);
  const shared = tf.reshape(a, [batch, keyHeads, (heads / keyHeads) * rows, inner]);
  return tf.reshape(tf.matMul(shared, b, false, transposeB), [batch, heads, rows, -1]);
}

/**
 * Splits heads: `[batch, tokens, heads * size]` -> `[batch, heads, tokens, size]`. @throws ShapeError when heads do not
 * divide the features.
 */
export function splitHeads(x: Tensor, heads: number): Tensor {
  const [batch, tokens, features] = x.shape as [number, number, number];
  if (x.shape.length !== 3 || features % heads !== 0) {
    throw new ShapeError(`${heads} heads need x [batch, tokens, heads * size], got [${x.shape.join(', ')}]`);
  }
  return tf.transpose(tf.reshape(x, [batch, tokens, heads, features / heads]), [0, 2, 1, 3]);
}

/** Merges heads: `[batch, heads, tokens, size]` -> `[batch, tokens, heads * size]`. */
export function mergeHeads(x: Tensor): Tensor {
  const [batch, heads, tokens, size] = x.shape as [number, number, number, number];
  return tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [batch, tokens, heads * size]);
}

/** Returns the bias of the scores for a mask `[batch, keys]` of 1 (a token) and 0 (padding): `[batch, 1, 1, keys]`. */
export function maskBias(mask: Tensor): Tensor {
  const [batch, keys] = mask.shape as [number, number];
  // Far below any score, yet finite, so that a row of padding only keeps finite numbers.
  return tf.mul(tf.sub(1, tf.reshape(mask, [batch, 1, 1, keys])), -1e9);
}

/**
 * Returns the bias of the scores that hides later tokens and, with a window, those before the last `window` tokens (the
 * token itself included): `[1, 1, tokens, tokens]`.
 */
export function causalBias(tokens: number, window?: number): Tensor {
  const places = tf.range(0, tokens, 1, 'float32'); // [tokens]
  const own = tf.expandDims(places, 1); // [tokens, 1]
  const isAhead = tf.greater(places, own); // [tokens, tokens]
  const isHidden = window === undefined ? isAhead : tf.logicalOr(isAhead, tf.lessEqual(places, tf.sub(own, window)));
  return tf.mul(tf.cast(tf.reshape(isHidden, [1, 1, tokens, tokens]), 'float32'), -1e9);
}

/** Returns c tanh(x / c): close to x while it is small, and never beyond c. */
export function softCapped(x: Tensor, c: number): Tensor {
  return tf.mul(tf.tanh(tf.div(x, c)), c);
}
