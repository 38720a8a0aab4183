import type { Tensor } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import { ShapeError } from '../errors.js';
import { withGradient } from './custom.js';
import { fusedKernel, type AttentionInputs } from './fused.js';

/** Options of {@link attention}. */
export interface AttentionOptions {
  /** The number of heads of q. */
  readonly heads: number;
  /** The number of heads of k and v, each shared by consecutive heads of q. Default: `heads`. */
  readonly keyHeads?: number;
  /**
   * Hides keys: added to the scores before the softmax, and broadcasts to `[batch, heads, queries, keys]`. It has no
   * gradient. See {@link maskBias}. Default: none.
   */
  readonly maskBias?: Tensor;
  /** A learned bias in place of `maskBias`, added to the scores in the same way. */
  readonly bias?: Tensor;
  /** Whether each query reads only the keys up to its own; there are as many queries as keys. Default: false. */
  readonly causal?: boolean;
  /** The most keys that a query of a causal attention reads, its own included. Default: all. */
  readonly window?: number;
  /**
   * The most tokens that a text may have. A compiled step does not keep the weights of a longer text than
   * {@link MOST_KEPT}. Default: 0, so that they are always kept.
   */
  readonly maxTokens?: number;
  /** The factor of the scores. Default: 1 / sqrt(features of a head). */
  readonly scale?: number | undefined;
  /** Applied to the weights, after the softmax: `[batch, heads, queries, keys]`. Default: nothing, as in inference. */
  readonly dropout?: (weights: Tensor) => Tensor;
  /** Soft-capping: scores s become softcap tanh(s / softcap) before the bias is added. Default: no capping. */
  readonly softcap?: number | undefined;
}

/**
 * Multi-head scaled dot-product attention, softmax(scale q k^T + maskBias) v within each head; with a softcap c,
 * softmax(c tanh(scale q k^T / c) + maskBias) v (Gemma Team, 2024). Causal attention also adds {@link causalBias} to
 * the scores.
 *
 * @param q `[batch, queries, heads * size]`
 * @param k `[batch, keys, keyHeads * size]`
 * @param v `[batch, keys, keyHeads * size]`
 * @returns `[batch, queries, heads * size]`
 * @throws ShapeError when the features do not divide into heads, or the heads of q into those of k.
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions): Tensor {
  const { heads, keyHeads = heads } = options;
  return mergeHeads(headAttention(splitHeads(q, heads), splitHeads(k, keyHeads), splitHeads(v, keyHeads), options));
}

/** Options of {@link headAttention}. */
export type HeadAttentionOptions = Omit<AttentionOptions, 'heads' | 'keyHeads'>;

/**
 * {@link attention} of heads that are split already.
 *
 * @param q `[batch, heads, queries, size]`
 * @param k `[batch, keyHeads, keys, size]`
 * @param v `[batch, keyHeads, keys, size]`
 * @returns `[batch, heads, queries, size]`
 * @throws ShapeError when the heads of q do not divide into those of k.
 */
export function headAttention(q: Tensor, k: Tensor, v: Tensor, options: HeadAttentionOptions): Tensor {
  const [heads, keyHeads] = [q, k].map(({ shape }) => shape[1]) as [number, number];
  if (heads % keyHeads !== 0) throw new ShapeError(`${heads} query heads cannot share ${keyHeads} key heads`);
  return fusedAttention([q, k, v], options) ?? composedAttention([q, k, v], options);
}

/** q `[batch, heads, queries, size]`, k and v `[batch, keyHeads, keys, size]` */
type Heads = readonly [q: Tensor, k: Tensor, v: Tensor];

/** `[batch, heads, queries, size]` */
function composedAttention([q, k, v]: Heads, options: HeadAttentionOptions): Tensor {
  const { softcap, dropout } = options;
  const bias = wholeBias(q.shape[2] as number, options);
  const products = tf.mul(perKeyHead(q, k, true), scaleOf(q, options)); // [batch, heads, queries, keys]
  const scores = softcap === undefined ? products : softCapped(products, softcap);
  const weights = tf.softmax(bias === undefined ? scores : tf.add(scores, bias));
  return perKeyHead(dropout?.(weights) ?? weights, v, false);
}

/** All that is added to the scores, which broadcasts to them. */
function wholeBias(tokens: number, options: HeadAttentionOptions): Tensor | undefined {
  const { maskBias, bias = maskBias, causal = false, window } = options;
  if (!causal) return bias;
  const later = causalBias(tokens, window); // [1, 1, tokens, tokens]
  return bias === undefined ? later : tf.add(later, bias);
}

/** The longest texts whose weights are kept: longer causal ones are faster without, others only need less memory. */
const MOST_KEPT = { causal: 256, other: 1024 };

/**
 * The same by the backend's kernel; undefined if it has none, if no text can be longer than {@link MOST_KEPT}, or if
 * scores or weights are changed in another way.
 */
function fusedAttention(split: Heads, options: HeadAttentionOptions): Tensor | undefined {
  const { maskBias, bias, causal = false, window = 0, maxTokens = 0, softcap, dropout } = options;
  const kept = causal ? MOST_KEPT.causal : MOST_KEPT.other;
  if (maxTokens <= kept || bias !== undefined || softcap !== undefined) return undefined;
  const [kernel, gradient] = [fusedKernel('PeftAttention'), fusedKernel('PeftAttentionGrad')];
  if (kernel === undefined || gradient === undefined) return undefined;
  // Only a dropout that drops nothing returns its operand.
  if (dropout !== undefined && dropout(split[0]) !== split[0]) return undefined;
  const settings = { scale: scaleOf(split[0], options), causal, window, kept };
  const inputs = (tensors: readonly Tensor[]): AttentionInputs<Tensor> => {
    const [q, k, v, maskBias] = tensors as [Tensor, Tensor, Tensor, Tensor?];
    return { q, k, v, ...(maskBias && { maskBias }) };
  };
  const forward = (...heads: Tensor[]): { value: Tensor; saved: Tensor[] } => {
    const read = [...heads, ...(maskBias ? [maskBias] : [])];
    const [value, weights] = kernel(inputs(read), settings);
    return { value, saved: [weights, ...read] };
  };
  return withGradient([...split], forward, (dy, [weights, ...read]) =>
    gradient({ dy, weights: weights as Tensor, ...inputs(read) }, settings),
  );
}

function scaleOf(q: Tensor, { scale = 1 / Math.sqrt(q.shape.at(-1) ?? 1) }: HeadAttentionOptions): number {
  return scale;
}

/**
 * Multiplies every head of `a` with the head of `b` that it uses. Heads that share one become extra rows of one
 * product. a `[batch, heads, rows, inner]`, b `[batch, keyHeads, ..]` -> `[batch, heads, rows, columns]`
 */
function perKeyHead(a: Tensor, b: Tensor, transposeB: boolean): Tensor {
  const [batch, heads, rows, inner] = a.shape as [number, number, number, number];
  const keyHeads = b.shape[1] as number;
  if (heads === keyHeads) return tf.matMul(a, b, false, transposeB);
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

/**
 * What is added to the score of a hidden key: far below any score, yet finite, so that a row of padding only keeps
 * finite numbers.
 */
export const HIDDEN = -1e9;

/** Returns the bias of the scores for a mask `[batch, keys]` of 1 (a token) and 0 (padding): `[batch, 1, 1, keys]`. */
export function maskBias(mask: Tensor): Tensor {
  const [batch, keys] = mask.shape as [number, number];
  return tf.mul(tf.sub(1, tf.reshape(mask, [batch, 1, 1, keys])), HIDDEN);
}

/**
 * Returns the bias of the scores that hides later tokens and, with a window, those before the last `window` tokens (the
 * token itself included): `[1, 1, tokens, tokens]`.
 */
export function causalBias(tokens: number, window?: number): Tensor {
  const places = tf.range(0, tokens, 1, 'float32'); // [tokens]
  const own = tf.expandDims(places, 1); // [tokens, 1]
  const ahead = tf.cast(tf.greater(places, own), 'float32'); // [tokens, tokens]
  const behind = (most: number): Tensor => tf.cast(tf.lessEqual(places, tf.sub(own, most)), 'float32');
  const hidden = window === undefined ? ahead : tf.maximum(ahead, behind(window)); // WebGPU has no logical or
  return tf.mul(tf.reshape(hidden, [1, 1, tokens, tokens]), HIDDEN);
}

/** Returns c tanh(x / c): close to x while it is small, and never beyond c. */
export function softCapped(x: Tensor, c: number): Tensor {
  return tf.mul(tf.tanh(tf.div(x, c)), c);
}
