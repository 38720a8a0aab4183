import { ShapeError } from '@peftjs/core/method';
import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';

/** Which tokens the last layer is computed for: x [B, S, H] -> [B, Q, H]. */
export type Reader = (x: Tensor) => Tensor;

/** All of them. */
export const everyToken: Reader = (x) => x;

/** The first one of a row, where encoders put what stands for the text. */
export const firstToken: Reader = (x) => tf.slice(x, [0, 0, 0], [-1, 1, -1]);

/** The last token of each row, which in a decoder is the one that has seen the others. */
export interface LastToken {
  readonly read: Reader;
  /** Where it stands, int32 [B, 1]. */
  readonly positions: Tensor;
}

/** The last token of each row of a mask [B, S] of 1 and 0; zeros for a row without tokens. */
export function lastToken(mask: Tensor): LastToken {
  const [batch, tokens] = mask.shape as [number, number];
  const places = tf.range(0, tokens, 1, 'float32'); // [S]
  const counted = tf.mul(mask, tf.add(places, 1)); // [B, S]
  const isLast = tf.cast(tf.equal(counted, tf.max(counted, 1, true)), 'float32');
  const chosen = tf.mul(isLast, mask); // [B, S], one 1 in a row
  const positions = tf.cast(tf.sum(tf.mul(chosen, places), 1, true), 'int32');
  return { positions, read: (x) => tf.matMul(tf.reshape(chosen, [batch, 1, tokens]), x) };
}

/** The one token that was read: [B, 1, H] -> [B, H]. */
export function onlyToken(x: Tensor): Tensor {
  const [batch, , width] = x.shape as [number, number, number];
  return tf.reshape(x, [batch, width]);
}

/** 0, 1, .. as a row of positions: int32 [1, tokens]. */
export function positionIds(tokens: number): Tensor {
  return tf.expandDims(tf.range(0, tokens, 1, 'int32'), 0);
}

/**
 * Positions that count the tokens of a row, from the one after `padTokenId` on; a token of that id is at that position, wherever it
 * stands. ids int32 [B, S] -> int32 [B, S]
 */
export function positionsOfTokens(ids: Tensor, padTokenId: number): Tensor {
  const isToken = tf.cast(tf.notEqual(ids, tf.scalar(padTokenId, 'int32')), 'float32');
  const counted = tf.mul(tf.cumsum(isToken, 1), isToken);
  return tf.cast(tf.add(counted, padTokenId), 'int32');
}

/** Holds a batch to what a network reads. @throws ShapeError when a batch [B, S] has longer rows than the network reads. */
export function checkTokens(network: string, ids: Tensor, maxTokens: number): void {
  const tokens = ids.shape[1] as number;
  if (tokens <= maxTokens) return;
  throw new ShapeError(`${network} reads at most ${maxTokens} tokens, got ${tokens}: cut the sequences`, 'inputIds');
}

/** The mean over a row's tokens: x [B, S, H], mask [B, S] of 1 and 0 -> [B, H]; zeros for a row without tokens. */
export function tokenMean(x: Tensor, mask: Tensor): Tensor {
  const [batch, tokens, width] = x.shape as [number, number, number];
  const count = tf.maximum(tf.sum(mask, 1, true), 1); // [B, 1]
  const shares = tf.reshape(tf.div(mask, count), [batch, 1, tokens]);
  return tf.reshape(tf.matMul(shares, x), [batch, width]); // [B, 1, S] x [B, S, H] -> [B, 1, H] -> [B, H]
}
