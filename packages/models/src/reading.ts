import { ShapeError } from '@peftjs/core/method';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';

/** Selects the tokens that the last layer is computed for: x [B, S, H] -> [B, Q, H]. */
export type Reader = (x: Tensor) => Tensor;

/** Selects all tokens. */
export const everyToken: Reader = (x) => x;

/** Selects the first token of each row, which represents the text in encoders. */
export const firstToken: Reader = (x) => tf.slice(x, [0, 0, 0], [-1, 1, -1]);

/** The last token of each row, which in a decoder has attended to all others. */
export interface LastToken {
  /** Selects it. */
  readonly read: Reader;
  /** Its position, int32 [B, 1]. */
  readonly positions: Tensor;
}

/** Returns the last token of each row of a mask [B, S] of 1 and 0. It is the first one of a row without tokens. */
export function lastToken(mask: Tensor): LastToken {
  const [batch, tokens] = mask.shape as [number, number];
  const indices = tf.range(0, tokens, 1, 'float32'); // [S]
  const last = tf.max(tf.mul(mask, indices), 1, true); // [B, 1]
  const chosen = tf.cast(tf.equal(indices, last), 'float32'); // [B, S], one 1 in a row
  return {
    positions: tf.cast(last, 'int32'),
    read: (x) => tf.matMul(tf.reshape(chosen, [batch, 1, tokens]), x),
  };
}

/** Returns 1 for the tokens that are not padding, else 0: ids int32 [B, S] -> float32 [B, S]. */
function tokenMask(ids: Tensor, padTokenId: number): Tensor {
  return tf.cast(tf.notEqual(ids, tf.scalar(padTokenId, 'int32')), 'float32');
}

/**
 * Returns the last token of each row in the mask [B, S] that is not `padTokenId`, as transformers' text classifiers do.
 * It may also be the token that ends a text, which is then left out. ids int32 [B, S]
 */
export function lastTokenBeforePadding(mask: Tensor, ids: Tensor, padTokenId: number): LastToken {
  return lastToken(tf.mul(mask, tokenMask(ids, padTokenId)));
}

/** Drops the axis of the single selected token: [B, 1, H] -> [B, H]. */
export function onlyToken(x: Tensor): Tensor {
  const [batch, , width] = x.shape as [number, number, number];
  return tf.reshape(x, [batch, width]);
}

/** Returns positions 0, 1, ..: int32 [1, tokens]. */
export function positionIds(tokens: number): Tensor {
  return tf.expandDims(tf.range(0, tokens, 1, 'int32'), 0);
}

/**
 * Returns positions that count the tokens of a row from `padTokenId + 1` on. Padding always has position `padTokenId`.
 * ids int32 [B, S] -> int32 [B, S]
 */
export function positionsOfTokens(ids: Tensor, padTokenId: number): Tensor {
  const isToken = tokenMask(ids, padTokenId);
  const counted = tf.mul(tf.cumsum(isToken, 1), isToken);
  return tf.cast(tf.add(counted, padTokenId), 'int32');
}

/**
 * Checks the length of the rows of a batch, ids [B, S].
 * @throws ShapeError when they are longer than the network's maximum.
 */
export function checkTokens(network: string, ids: Tensor, maxTokens: number): void {
  const tokens = ids.shape[1] as number;
  if (tokens <= maxTokens) return;
  throw new ShapeError(`${network} reads at most ${maxTokens} tokens, got ${tokens}: cut the sequences`, 'inputIds');
}

/**
 * Computes the mean over a row's tokens: x [B, S, H], mask [B, S] of 1 and 0 -> [B, H]. Zeros for a row without tokens.
 */
export function tokenMean(x: Tensor, mask: Tensor): Tensor {
  const [batch, tokens, width] = x.shape as [number, number, number];
  const count = tf.maximum(tf.sum(mask, 1, true), 1); // [B, 1]
  const shares = tf.reshape(tf.div(mask, count), [batch, 1, tokens]);
  return tf.reshape(tf.matMul(shares, x), [batch, width]); // [B, 1, S] x [B, S, H] -> [B, 1, H] -> [B, H]
}
