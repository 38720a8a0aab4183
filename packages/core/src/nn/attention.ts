import type { Tensor } from '@tensorflow/tfjs';
import * as tf from '@tensorflow/tfjs';
import { ShapeError } from '../errors.js';

/** Options of {@link attention}. */
export interface AttentionOptions {
  readonly heads: number;
  /** Added to the scores before the softmax; broadcasts to `[batch, heads, queries, keys]`. See {@link maskBias}. */
  readonly maskBias?: Tensor;
  /** Factor of the scores; 1 / sqrt(features of a head) when left out. */
  readonly scale?: number;
}

/**
 * Multi-head scaled dot-product attention, softmax(scale q k^T + maskBias) v within each head.
 *
 * @param q `[batch, queries, features]`
 * @param k `[batch, keys, features]`
 * @param v `[batch, keys, features]`
 * @returns `[batch, queries, features]`
 * @throws ShapeError when the features do not divide into heads.
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions): Tensor {
  const { heads, maskBias } = options;
  const queries = splitHeads(q, heads); // [batch, heads, queries, size]
  const scale = options.scale ?? 1 / Math.sqrt(queries.shape.at(-1) ?? 1);
  const scores = tf.mul(tf.matMul(queries, splitHeads(k, heads), false, true), scale); // [batch, heads, queries, keys]
  const weights = tf.softmax(maskBias === undefined ? scores : tf.add(scores, maskBias));
  return mergeHeads(tf.matMul(weights, splitHeads(v, heads)));
}

/** `[batch, tokens, heads * size]` -> `[batch, heads, tokens, size]`. @throws ShapeError when heads do not divide the features. */
export function splitHeads(x: Tensor, heads: number): Tensor {
  const [batch, tokens, features] = x.shape as [number, number, number];
  if (x.shape.length !== 3 || features % heads !== 0) {
    throw new ShapeError(`${heads} heads need x [batch, tokens, heads * size], got [${x.shape.join(', ')}]`);
  }
  return tf.transpose(tf.reshape(x, [batch, tokens, heads, features / heads]), [0, 2, 1, 3]);
}

/** `[batch, heads, tokens, size]` -> `[batch, tokens, heads * size]`. */
export function mergeHeads(x: Tensor): Tensor {
  const [batch, heads, tokens, size] = x.shape as [number, number, number, number];
  return tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [batch, tokens, heads * size]);
}

/** What to add to the scores for a mask `[batch, keys]` of 1 (a token) and 0 (padding): `[batch, 1, 1, keys]`. */
export function maskBias(mask: Tensor): Tensor {
  const [batch, keys] = mask.shape as [number, number];
  // Far below any score, yet finite: a row that is padding throughout keeps finite numbers.
  return tf.mul(tf.sub(1, tf.reshape(mask, [batch, 1, 1, keys])), -1e9);
}
