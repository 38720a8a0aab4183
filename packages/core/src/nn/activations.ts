import type { Tensor } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import { withGradient } from './custom.js';
import { runFused } from './fused.js';

/**
 * The exact Gaussian error linear unit: x Phi(x) with Phi(x) = (1 + erf(x / sqrt 2)) / 2. One node in a compiled step.
 * First-order gradients only.
 */
export function gelu(x: Tensor): Tensor {
  return withGradient([x], normalGate, normalGateGradient);
}

/** The composed form keeps Phi(x): recomputing the error function costs more than its memory. */
function normalGate(x: Tensor): { value: Tensor; saved: Tensor[] } {
  const fused = runFused('PeftGelu', { x });
  if (fused) return { value: fused, saved: [x] };
  const cdf = normalCdf(x);
  return { value: tf.mul(x, cdf), saved: [x, cdf] };
}

/** dx = dy (Phi(x) + x phi(x)), phi the normal density. */
function normalGateGradient(dy: Tensor, saved: Tensor[]): Tensor {
  const [x, cdf] = saved as [Tensor, Tensor?];
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
  const gate = (x: Tensor) => runFused('PeftGeluTanh', { x }) ?? tf.mul(x, tf.sigmoid(twiceU(x)));
  return withGradient([x], (x) => ({ value: gate(x), saved: [x] as [Tensor] }), tanhGradient);
}

const LINEAR = 2 * Math.sqrt(2 / Math.PI);
const CUBIC = LINEAR * 0.044715;

/** Returns 2 u, because (1 + tanh u) / 2 = sigmoid(2 u). */
function twiceU(x: Tensor): Tensor {
  return tf.mul(x, tf.add(tf.mul(tf.square(x), CUBIC), LINEAR));
}

/** With z = 2 u and s = sigmoid(z): dx = dy (s + s (1 - s) x dz/dx), x dz/dx = 3 z - 2 sqrt(8 / pi) x. */
function tanhGradient(dy: Tensor, [x]: [Tensor]): Tensor {
  const z = twiceU(x);
  const open = tf.sigmoid(z);
  const steep = tf.sub(tf.mul(z, 3), tf.mul(x, 2 * LINEAR)); // x dz/dx
  return tf.mul(dy, tf.mul(open, tf.add(tf.mul(tf.sub(1, open), steep), 1)));
}

/** The sigmoid linear unit, x sigma(x). One node in a compiled step. First-order gradients only. */
export function silu(x: Tensor): Tensor {
  const gate = (x: Tensor) => runFused('PeftSilu', { x }) ?? tf.mul(x, tf.sigmoid(x));
  return withGradient([x], (x) => ({ value: gate(x), saved: [x] as [Tensor] }), siluGradient);
}

/** dx = dy sigma(x) (1 + x (1 - sigma(x))) */
function siluGradient(dy: Tensor, [x]: [Tensor]): Tensor {
  const open = tf.sigmoid(x);
  return tf.mul(dy, tf.mul(open, tf.add(tf.mul(x, tf.sub(1, open)), 1)));
}

/**
 * Every activation that has a name in transformers (`ACT2FN`), except `prelu` and `xielu`, which have weights. Some
 * have several names. First-order gradients only.
 */
export const activations = {
  gelu,
  gelu_10: (x) => tf.clipByValue(gelu(x), -10, 10),
  gelu_accurate: geluTanh,
  gelu_fast: geluTanh,
  gelu_new: geluTanh,
  gelu_python: gelu,
  gelu_python_tanh: geluTanh,
  gelu_pytorch_tanh: geluTanh,
  hardswish: (x) => tf.mul(x, tf.div(tf.relu6(tf.add(x, 3)), 6)),
  laplace: (x) => tf.mul(tf.add(tf.erf(tf.div(tf.sub(x, 0.707107), 0.282095 * Math.SQRT2)), 1), 0.5),
  leaky_relu: (x) => tf.leakyRelu(x, 0.01),
  linear: (x) => x,
  mish: (x) => tf.mul(x, tf.tanh(tf.softplus(x))),
  quick_gelu: (x) => tf.mul(x, tf.sigmoid(tf.mul(x, 1.702))),
  relu: (x) => tf.relu(x),
  relu2: (x) => tf.square(tf.relu(x)),
  relu6: (x) => tf.relu6(x),
  sigmoid: (x) => tf.sigmoid(x),
  silu,
  sqrtsoftplus: (x) => tf.sqrt(tf.softplus(x)),
  swish: silu,
  tanh: (x) => tf.tanh(x),
} as const satisfies Readonly<Record<string, (x: Tensor) => Tensor>>;

/** The name of an activation in transformers. */
export type ActivationName = keyof typeof activations;
