import type { Tensor } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import { gelu, geluTanh } from './gelu.js';
import { silu } from './silu.js';

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
