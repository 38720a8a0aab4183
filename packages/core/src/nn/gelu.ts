import type { GradSaveFunc, Tensor } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import { runFused } from './fused.js';

/**
 * The exact Gaussian error linear unit: x Phi(x) with Phi(x) = (1 + erf(x / sqrt 2)) / 2. One node in a compiled step.
 * First-order gradients only.
 */
export function gelu(x: Tensor): Tensor {
  return tf.customGrad((...args) => {
    const [x, save] = args as [Tensor, GradSaveFunc];
    const { y, kept } = normalGate(x);
    save(kept);
    return { value: y, gradFunc: (dy, saved) => gradient(dy, saved as [Tensor, Tensor?]) };
  })(x);
}

/**
 * Returns y and what its gradient needs. The composed form keeps Phi(x): recomputing the error function costs more than
 * its memory.
 */
function normalGate(x: Tensor): { y: Tensor; kept: Tensor[] } {
  const fused = runFused('PeftGelu', { x });
  if (fused) return { y: fused, kept: [x] };
  const cdf = normalCdf(x);
  return { y: tf.mul(x, cdf), kept: [x, cdf] };
}

/** dx = dy (Phi(x) + x phi(x)), phi the normal density. */
function gradient(dy: Tensor, [x, cdf]: [Tensor, Tensor?]): Tensor {
  const fused = runFused('PeftGeluGrad', { dy, x });
  if (fused) return fused;
  const density = tf.mul(tf.exp(tf.mul(tf.square(x), -0.5)), 1 / Math.sqrt(2 * Math.PI));
  return tf.mul(dy, tf.add(cdf ?? normalCdf(x), tf.mul(x, density)));
}

function normalCdf(x: Tensor): Tensor {
  return tf.mul(tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1), 0.5);
}

/**
 * The tanh approximation of GELU, x (1 + tanh u) / 2 with u = sqrt(2 / pi) (x + 0.044715 x^3), used by GPT-2. One node
 * in a compiled step. First-order gradients only.
 */
export function geluTanh(x: Tensor): Tensor {
  return tf.customGrad((...args) => {
    const [x, save] = args as [Tensor, GradSaveFunc];
    const y = runFused('PeftGeluTanh', { x }) ?? tf.mul(x, tf.sigmoid(twiceU(x)));
    save([x]);
    return { value: y, gradFunc: (dy, saved) => tanhGradient(dy, saved[0] as Tensor) };
  })(x);
}

const LINEAR = 2 * Math.sqrt(2 / Math.PI);
const CUBIC = LINEAR * 0.044715;

/** Returns 2 u, because (1 + tanh u) / 2 = sigmoid(2 u). */
function twiceU(x: Tensor): Tensor {
  return tf.mul(x, tf.add(tf.mul(tf.square(x), CUBIC), LINEAR));
}

/** With z = 2 u and s = sigmoid(z): dx = dy (s + s (1 - s) x dz/dx), x dz/dx = 3 z - 2 sqrt(8 / pi) x. */
function tanhGradient(dy: Tensor, x: Tensor): Tensor {
  const z = twiceU(x);
  const open = tf.sigmoid(z);
  const steep = tf.sub(tf.mul(z, 3), tf.mul(x, 2 * LINEAR)); // x dz/dx
  return tf.mul(dy, tf.mul(open, tf.add(tf.mul(tf.sub(1, open), steep), 1)));
}
