/**
 * The tokens that a decoder attends to in one pass: over a whole text, or over one more token with cached keys and
 * values.
 *
 *   softmax(q k^T + bias) v     bias: 0 at the token itself and at earlier ones (with a window of w: the last w - 1),
 *                               -1e9 or less elsewhere
 *
 * A cached layer has room for `capacity` tokens, [B, capacity, width], indexed by position. Unwritten positions are 0,
 * so a token is written by adding it. Positions of padding stay 0 too, and later tokens fill them.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import type { Tensors } from '@peftjs/core/method';
import { causalBias, maskBias, mergeHeads, splitHeads, type AttentionOptions } from '@peftjs/core/nn';
import { batchInput } from './architecture.js';
import { lastToken, lastTokenBeforePadding, type LastToken } from './reading.js';

/** The keys and values of a layer's tokens. */
export interface KeysAndValues {
  /** [B, tokens, width] */
  readonly keys: Tensor;
  /** [B, tokens, width] */
  readonly values: Tensor;
}

/** The biases added to attention scores. */
export interface Biases {
  /** The bias of all tokens, which broadcasts to [B, 1, S, keys]. */
  readonly bias: Tensor;
  /** The bias of the token of each row that {@link TextContext.last} reads, [B, 1, 1, keys]. */
  readonly lastBias: Tensor;
  /**
   * For keys of the same tokens: the options of `attention` that hide those after a token's own, which `bias` does not.
   * Default: none.
   */
  readonly hiding?: Pick<AttentionOptions, 'causal' | 'window'>;
}

/** The positions of the tokens in a pass and the tokens they attend to. */
export interface Context extends Biases {
  /** The position of each token, int32 [B, S]. Default 0, 1, .. */
  readonly positions?: Tensor;
  /** The number of positions. */
  readonly reach: number;
  /** Returns the biases if a token attends only to the last `window` tokens, including itself. */
  within(window: number): Biases;
  /** Returns the length of the longest text so far, including this pass, as a scalar. */
  length(): Tensor;
  /** Returns the keys and values that a layer attends to, [B, keys, width], given those of this pass, [B, S, width]. */
  attended(layer: number, own: KeysAndValues): KeysAndValues;
}

/** The context of whole texts. */
export interface TextContext extends Context {
  /** Returns the last token of each row, which represents its text. */
  last(): LastToken;
}

/**
 * Returns the context of whole texts: inputs `inputIds` and `attentionMask` [B, S].
 * @param keep Called with the keys and values of each layer.
 * @param padTokenId The token that cannot be a text's last one. Default: none; the last token is the last in the mask.
 */
export function wholeText(
  inputs: Tensors,
  keep: (layer: number, own: KeysAndValues) => void = () => undefined,
  padTokenId?: number,
): TextContext {
  const ids = batchInput(inputs, 'inputIds');
  const tokens = ids.shape[1] as number;
  const mask = batchInput(inputs, 'attentionMask'); // [B, S]
  const range = (first: number): Tensor => tf.range(first, first + tokens, 1, 'float32'); // [S]
  let kept: LastToken | undefined;
  const last = (): LastToken =>
    (kept ??= padTokenId === undefined ? lastToken(mask) : lastTokenBeforePadding(mask, ids, padTokenId));
  const position = (): Tensor => tf.cast(last().positions, 'float32'); // [B, 1]
  const textBias = maskBias(mask); // [B, 1, 1, S]
  const isRead = (): Tensor => tf.mul(mask, tf.cast(tf.lessEqual(range(0), position()), 'float32')); // [B, S]
  const lastBias = padTokenId === undefined ? textBias : maskBias(isRead()); // no token after the one that is read
  return {
    last,
    reach: tokens,
    bias: textBias,
    lastBias,
    hiding: { causal: true },
    within(window) {
      const isNear = tf.cast(tf.greater(range(0), tf.sub(position(), window)), 'float32'); // [B, S]
      const near = tf.add(lastBias, maskBias(isNear));
      return { bias: textBias, lastBias: near, hiding: { causal: true, window } };
    },
    length: () => tf.max(tf.mul(mask, range(1))),
    attended(layer, own) {
      keep(layer, own);
      return own;
    },
  };
}

/**
 * Returns the context of prompts. Writes their keys and values to `cache`, named by {@link cacheNames}, with room for
 * `capacity` tokens.
 */
export function cachedPrompt(inputs: Tensors, capacity: number, cache: Tensors): TextContext {
  const mask = tf.expandDims(batchInput(inputs, 'attentionMask'), 2); // [B, S, 1]
  const tokens = mask.shape[1] as number;
  const widened = (x: Tensor): Tensor =>
    tf.pad(tf.mul(x, mask), [
      [0, 0],
      [0, capacity - tokens],
      [0, 0],
    ]); // [B, S, width] -> [B, capacity, width]
  return wholeText(inputs, (layer, { keys, values }) => {
    const names = cacheNames(layer);
    cache[names.keys] = widened(keys);
    cache[names.values] = widened(values);
  });
}

/**
 * Returns the context of one more token: inputs `positions` [B, 1] and the cached tensors. Writes the updated ones to
 * `cache`.
 */
export function nextToken(inputs: Tensors, capacity: number, cache: Tensors): Context {
  const positions = batchInput(inputs, 'positions');
  const slots = tf.range(0, capacity, 1, 'float32'); // [capacity]
  const at = tf.cast(positions, 'float32');
  const isOwn = tf.expandDims(tf.cast(tf.equal(slots, at), 'float32'), 2); // [B, capacity, 1]
  const isWritten = tf.lessEqual(slots, at); // [B, capacity]
  const bias = maskBias(tf.cast(isWritten, 'float32')); // [B, 1, 1, capacity]
  const written = (name: string, own: Tensor): Tensor =>
    (cache[name] = tf.add(batchInput(inputs, name), tf.mul(isOwn, own))); // [B, capacity, 1] x [B, 1, width]
  return {
    positions,
    reach: capacity,
    bias,
    lastBias: bias,
    within(window) {
      const isSeen = tf.logicalAnd(isWritten, tf.greater(slots, tf.sub(at, window)));
      const near = maskBias(tf.cast(isSeen, 'float32'));
      return { bias: near, lastBias: near };
    },
    length: () => tf.add(tf.max(at), 1),
    attended(layer, { keys, values }) {
      const names = cacheNames(layer);
      return { keys: written(names.keys, keys), values: written(names.values, values) };
    },
  };
}

/**
 * Returns the context of tokens after a past: inputs `inputIds` and `positions` [B, S], `attentionMask` [B, P + S] and
 * the past of each layer, `past_key_values.<layer>.key` and `.value` [B, keyHeads, P, size]. Writes past and new keys
 * and values, the past of the next pass, to `present` as `present.<layer>.key` and `.value`.
 * @param maxTokens The longest text in tokens, if limited: later positions have no angles.
 */
export function afterPast(inputs: Tensors, keyHeads: number, present: Tensors, maxTokens?: number): Context {
  const mask = batchInput(inputs, 'attentionMask'); // [B, T], T = P + S
  const total = mask.shape[1] as number;
  const tokens = batchInput(inputs, 'inputIds').shape[1] as number;
  const positions = batchInput(inputs, 'positions');
  const lastBias = maskBias(mask); // [B, 1, 1, T]
  /** Returns the biases of the last S tokens and of the last one. */
  const biasesOf = (causal: Tensor): Biases => {
    const rows = (count: number): Tensor => tf.slice(causal, [0, 0, total - count, 0], [1, 1, count, total]);
    return { bias: tf.add(rows(tokens), lastBias), lastBias: tf.add(rows(1), lastBias) };
  };
  const joined = (name: string, own: Tensor): Tensor => {
    const all = tf.concat([batchInput(inputs, `past_key_values.${name}`), splitHeads(own, keyHeads)], 2);
    present[`present.${name}`] = all; // [B, keyHeads, T, size]
    return mergeHeads(all); // [B, T, width]
  };
  return {
    ...biasesOf(causalBias(total)),
    positions,
    reach: maxTokens ?? total + 1, // transformers.js counts the positions of Gemma 3 from 1
    within: (window) => biasesOf(causalBias(total, window)),
    length: () => tf.add(tf.max(tf.cast(positions, 'float32')), 1),
    attended: (layer, { keys, values }) => ({
      keys: joined(`${layer}.key`, keys),
      values: joined(`${layer}.value`, values),
    }),
  };
}

/** Returns the names of a layer's cached keys and values. */
export function cacheNames(layer: number): { readonly keys: string; readonly values: string } {
  return { keys: `keys.${layer}`, values: `values.${layer}` };
}
