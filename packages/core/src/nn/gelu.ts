import type { GradSaveFunc, Tensor } from '@tensorflow/tfjs';
import * as tf from '@tensorflow/tfjs';
import { runFused } from './fused.js';

/**
 * The exact Gaussian error linear unit, x Phi(x) with Phi(x) = (1 + erf(x / sqrt 2)) / 2. One node in a compiled step.
 * First-order gradients only.
 */
export function gelu(x: Tensor): Tensor {
  return tf.customGrad((...args) => {
    const [x, save] = args as [Tensor, GradSaveFunc];
    const [y = tf.mul(x, normalCdf(x))] = runFused('PeftGelu', { x }, {}) ?? [];
    save([x]);
    return { value: y, gradFunc: (dy, saved) => gradient(dy, saved[0] as Tensor) };
  })(x);
}

/** dx = dy (Phi(x) + x phi(x)), phi the normal density. */
function gradient(dy: Tensor, x: Tensor): Tensor {
  const [fused] = runFused('PeftGeluGrad', { dy, x }, {}) ?? [];
  if (fused !== undefined) return fused;
  const density = tf.mul(tf.exp(tf.mul(tf.square(x), -0.5)), 1 / Math.sqrt(2 * Math.PI));
  return tf.mul(dy, tf.add(normalCdf(x), tf.mul(x, density)));
}

function normalCdf(x: Tensor): Tensor {
  return tf.mul(tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1), 0.5);
}
