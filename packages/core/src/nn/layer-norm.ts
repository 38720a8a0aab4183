import type { GradSaveFunc, Tensor } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import { toRows } from './linear.js';
import { runFused } from './fused.js';

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
  return tf.customGrad((...args) => {
    const [x, gain, shift, save] = args as [Tensor, Tensor, Tensor, GradSaveFunc];
    const { y, mean, invStd } = normalise(x, gain, shift, epsilon);
    save([x, gain, mean, invStd]);
    return { value: y, gradFunc: (dy, saved) => gradients(dy, saved as [Tensor, Tensor, Tensor, Tensor]) };
  })(x, gain, shift);
}

/**
 * `layerNorm` with a frozen gain and shift: the backward pass computes nothing for them. First-order gradients of x
 * only.
 */
export function frozenLayerNorm(x: Tensor, gain: Tensor, shift: Tensor, epsilon: number): Tensor {
  return tf.customGrad((...args) => {
    const [x, save] = args as [Tensor, GradSaveFunc];
    const { y, mean, invStd } = normalise(x, gain, shift, epsilon);
    save([x, gain, mean, invStd]);
    return {
      value: y,
      gradFunc: (dy, saved) => {
        const [x, gain, mean, invStd] = saved as [Tensor, Tensor, Tensor, Tensor];
        return inputGradient(dy, { gain, centred: tf.sub(x, mean), invStd });
      },
    };
  })(x);
}

function normalise(x: Tensor, gain: Tensor, shift: Tensor, epsilon: number) {
  const fused = runFused('PeftLayerNorm', { x, gain, shift }, { epsilon });
  if (fused) return { y: fused[0], mean: fused[1], invStd: fused[2] };
  const mean = tf.mean(x, -1, true); // [.., 1]
  const centred = tf.sub(x, mean);
  const invStd = tf.rsqrt(tf.add(tf.mean(tf.square(centred), -1, true), epsilon)); // [.., 1]
  return { y: tf.add(tf.mul(tf.mul(centred, invStd), gain), shift), mean, invStd };
}

/** With c = x - mean and s = 1 / std: dgain = sum(dy c s), dshift = sum(dy), and dx. */
function gradients(dy: Tensor, [x, gain, mean, invStd]: [Tensor, Tensor, Tensor, Tensor]): Tensor[] {
  const centred = tf.sub(x, mean);
  const dgain = tf.sum(toRows(tf.mul(dy, tf.mul(centred, invStd))), 0); // [features]
  return [inputGradient(dy, { gain, centred, invStd }), dgain, tf.sum(toRows(dy), 0)];
}

/** With d = dy gain: dx = s (d - mean(d) - c s^2 mean(d c)), arranged to need few passes over the whole tensor. */
function inputGradient(
  dy: Tensor,
  { gain, centred, invStd }: { gain: Tensor; centred: Tensor; invStd: Tensor },
): Tensor {
  const scaled = tf.mul(dy, gain);
  const slope = tf.mul(tf.mean(tf.mul(scaled, centred), -1, true), tf.square(invStd)); // [.., 1]
  const level = tf.mean(scaled, -1, true); // [.., 1]
  return tf.mul(tf.sub(tf.sub(scaled, level), tf.mul(centred, slope)), invStd);
}
