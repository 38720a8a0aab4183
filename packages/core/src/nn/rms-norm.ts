import type { GradSaveFunc, Tensor } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import { toRows } from './linear.js';
import { runFused } from './fused.js';

/**
 * Root-mean-square normalisation over the last axis (Zhang and Sennrich, 2019):
 * y = x / sqrt(mean(x^2) + epsilon) * gain. One node in a compiled step. First-order gradients only.
 *
 * @param x `[.., features]`
 * @param gain `[features]`
 * @returns `[.., features]`
 */
export function rmsNorm(x: Tensor, gain: Tensor, epsilon: number): Tensor {
  return tf.customGrad((...args) => {
    const [x, gain, save] = args as [Tensor, Tensor, GradSaveFunc];
    const { y, invRms } = normalise(x, gain, epsilon);
    save([x, gain, invRms]);
    return { value: y, gradFunc: (dy, saved) => gradients(dy, saved as [Tensor, Tensor, Tensor]) };
  })(x, gain);
}

/** `rmsNorm` with a frozen gain: the backward pass computes nothing for it. First-order gradients of x only. */
export function frozenRmsNorm(x: Tensor, gain: Tensor, epsilon: number): Tensor {
  return tf.customGrad((...args) => {
    const [x, save] = args as [Tensor, GradSaveFunc];
    const { y, invRms } = normalise(x, gain, epsilon);
    save([x, gain, invRms]);
    return { value: y, gradFunc: (dy, saved) => inputGradient(dy, saved as [Tensor, Tensor, Tensor]) };
  })(x);
}

function normalise(x: Tensor, gain: Tensor, epsilon: number): { y: Tensor; invRms: Tensor } {
  const fused = runFused('PeftRmsNorm', { x, gain }, { epsilon });
  if (fused) return { y: fused[0], invRms: fused[1] };
  const invRms = tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), epsilon)); // [.., 1]
  return { y: tf.mul(tf.mul(x, invRms), gain), invRms };
}

/** With s = 1 / rms: dgain = sum(dy x s), and dx. */
function gradients(dy: Tensor, [x, gain, invRms]: [Tensor, Tensor, Tensor]): Tensor[] {
  const dgain = tf.sum(toRows(tf.mul(dy, tf.mul(x, invRms))), 0); // [features]
  return [inputGradient(dy, [x, gain, invRms]), dgain];
}

/** With d = dy gain: dx = s (d - x s^2 mean(d x)). */
function inputGradient(dy: Tensor, [x, gain, invRms]: [Tensor, Tensor, Tensor]): Tensor {
  const scaled = tf.mul(dy, gain);
  const slope = tf.mul(tf.mean(tf.mul(scaled, x), -1, true), tf.square(invRms)); // [.., 1]
  return tf.mul(tf.sub(scaled, tf.mul(x, slope)), invRms);
}
