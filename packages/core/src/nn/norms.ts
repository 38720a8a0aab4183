import type { Tensor } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import { withGradient } from './custom.js';
import { runFused } from './fused.js';
import { toRows } from './linear.js';

/**
 * Layer normalisation over the last axis: y = (x - mean) / sqrt(variance + epsilon) * gain + shift. One node in a
 * compiled step. First-order gradients only.
 *
 * @param x `[.., features]`
 * @param gain `[features]`
 * @param shift `[features]`
 * @returns `[.., features]`
 */
export function layerNorm(x: Tensor, gain: Tensor, shift: Tensor, epsilon: number): Tensor {
  return withGradient([x, gain, shift], (x, gain, shift) => layerNormed(x, gain, shift, epsilon), layerNormGradients);
}

/**
 * `layerNorm` with a frozen gain and shift: the backward pass computes nothing for them. First-order gradients of x
 * only.
 */
export function frozenLayerNorm(x: Tensor, gain: Tensor, shift: Tensor, epsilon: number): Tensor {
  return withGradient(
    [x],
    (x) => layerNormed(x, gain, shift, epsilon),
    (dy, [x, gain, mean, invStd]) => layerNormGradient(dy, { gain, centred: tf.sub(x, mean), invStd }),
  );
}

type LayerNormSaved = [x: Tensor, gain: Tensor, mean: Tensor, invStd: Tensor];

function layerNormed(
  x: Tensor,
  gain: Tensor,
  shift: Tensor,
  epsilon: number,
): { value: Tensor; saved: LayerNormSaved } {
  const fused = runFused('PeftLayerNorm', { x, gain, shift }, { epsilon });
  if (fused) return { value: fused[0], saved: [x, gain, fused[1], fused[2]] };
  const mean = tf.mean(x, -1, true); // [.., 1]
  const centred = tf.sub(x, mean);
  const invStd = tf.rsqrt(tf.add(tf.mean(tf.square(centred), -1, true), epsilon)); // [.., 1]
  return { value: tf.add(tf.mul(tf.mul(centred, invStd), gain), shift), saved: [x, gain, mean, invStd] };
}

/** With c = x - mean and s = 1 / std: dgain = sum(dy c s), dshift = sum(dy), and dx. */
function layerNormGradients(dy: Tensor, [x, gain, mean, invStd]: LayerNormSaved): Tensor[] {
  const centred = tf.sub(x, mean);
  const dgain = tf.sum(toRows(tf.mul(dy, tf.mul(centred, invStd))), 0); // [features]
  return [layerNormGradient(dy, { gain, centred, invStd }), dgain, tf.sum(toRows(dy), 0)];
}

/** With d = dy gain: dx = s (d - mean(d) - c s^2 mean(d c)), arranged to need few passes over the whole tensor. */
function layerNormGradient(
  dy: Tensor,
  { gain, centred, invStd }: { gain: Tensor; centred: Tensor; invStd: Tensor },
): Tensor {
  const scaled = tf.mul(dy, gain);
  const slope = tf.mul(tf.mean(tf.mul(scaled, centred), -1, true), tf.square(invStd)); // [.., 1]
  const level = tf.mean(scaled, -1, true); // [.., 1]
  return tf.mul(tf.sub(tf.sub(scaled, level), tf.mul(centred, slope)), invStd);
}

/**
 * Root-mean-square normalisation over the last axis (Zhang and Sennrich, 2019):
 * y = x / sqrt(mean(x^2) + epsilon) * gain. One node in a compiled step. First-order gradients only.
 *
 * @param x `[.., features]`
 * @param gain `[features]`
 * @returns `[.., features]`
 */
export function rmsNorm(x: Tensor, gain: Tensor, epsilon: number): Tensor {
  return withGradient([x, gain], (x, gain) => rmsNormed(x, gain, epsilon), rmsNormGradients);
}

/** `rmsNorm` with a frozen gain: the backward pass computes nothing for it. First-order gradients of x only. */
export function frozenRmsNorm(x: Tensor, gain: Tensor, epsilon: number): Tensor {
  return withGradient([x], (x) => rmsNormed(x, gain, epsilon), rmsNormGradient);
}

type RmsNormSaved = [x: Tensor, gain: Tensor, invRms: Tensor];

function rmsNormed(x: Tensor, gain: Tensor, epsilon: number): { value: Tensor; saved: RmsNormSaved } {
  const fused = runFused('PeftRmsNorm', { x, gain }, { epsilon });
  if (fused) return { value: fused[0], saved: [x, gain, fused[1]] };
  const invRms = tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), epsilon)); // [.., 1]
  return { value: tf.mul(tf.mul(x, invRms), gain), saved: [x, gain, invRms] };
}

/** With s = 1 / rms: dgain = sum(dy x s), and dx. */
function rmsNormGradients(dy: Tensor, [x, gain, invRms]: RmsNormSaved): Tensor[] {
  const dgain = tf.sum(toRows(tf.mul(dy, tf.mul(x, invRms))), 0); // [features]
  return [rmsNormGradient(dy, [x, gain, invRms]), dgain];
}

/** With d = dy gain: dx = s (d - x s^2 mean(d x)). */
function rmsNormGradient(dy: Tensor, [x, gain, invRms]: RmsNormSaved): Tensor {
  const scaled = tf.mul(dy, gain);
  const slope = tf.mul(tf.mean(tf.mul(scaled, x), -1, true), tf.square(invRms)); // [.., 1]
  return tf.mul(tf.sub(scaled, tf.mul(x, slope)), invRms);
}

/** The smallest divisor, as in torch's `normalize`. */
const MIN_NORM = 1e-12;

/** Returns x / max(||x||, 1e-12) of each row: x `[.., width]` -> `[.., width]`; a row of zeros stays zero. */
export function l2Normalize(x: Tensor): Tensor {
  const squares = tf.sum(tf.square(x), -1, true); // [.., 1]
  return tf.mul(x, tf.rsqrt(tf.maximum(squares, MIN_NORM ** 2)));
}
