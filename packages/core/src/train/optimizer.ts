import * as tf from '@tensorflow/tfjs';
import type { Scalar, Tensor } from '@tensorflow/tfjs';

/** AdamW (Loshchilov and Hutter, 2019). */
export interface AdamWConfig {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Where epsilon is added: to the root of the bias-corrected second moment (torch), or of the raw one (transformers' old AdamW). */
  readonly epsilonOn: 'corrected' | 'raw';
  /** Decoupled decay of the parameters that ask for it. */
  readonly weightDecay: number;
}

/** The defaults of `torch.optim.AdamW`, without decay. */
export const defaultAdamW: AdamWConfig = {
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  epsilonOn: 'corrected',
  weightDecay: 0,
};

/** Scalars of one step. The corrections are computed in double precision on the host: 1 - 0.999 loses five digits in float32. */
export interface AdamWStep {
  readonly learningRate: Scalar;
  /** 1 - beta1^t */
  readonly correction1: Scalar;
  /** sqrt(1 - beta2^t) */
  readonly correction2: Scalar;
}

/** A tensor with its first and second moment. */
export interface Moments {
  readonly value: Tensor;
  readonly moment1: Tensor;
  readonly moment2: Tensor;
}

/** One step of AdamW: m, v and p from the gradient. */
export function adamW(
  { value, moment1, moment2 }: Moments,
  gradient: Tensor,
  { learningRate, correction1, correction2 }: AdamWStep,
  { beta1, beta2, epsilon, epsilonOn, weightDecay }: AdamWConfig,
): Moments {
  const m = tf.add(tf.mul(moment1, beta1), tf.mul(gradient, 1 - beta1));
  const v = tf.add(tf.mul(moment2, beta2), tf.mul(tf.square(gradient), 1 - beta2));
  const root = tf.sqrt(v);
  const denominator =
    epsilonOn === 'corrected' ? tf.add(tf.div(root, correction2), epsilon) : tf.div(tf.add(root, epsilon), correction2);
  const change = tf.div(tf.mul(m, tf.div(learningRate, correction1)), denominator);
  const decayed = weightDecay === 0 ? value : tf.mul(value, tf.sub(1, tf.mul(learningRate, weightDecay)));
  return { value: tf.sub(decayed, change), moment1: m, moment2: v };
}

/** The host's part of a step: 1 - beta1^t and sqrt(1 - beta2^t). */
export function biasCorrections(
  step: number,
  { beta1, beta2 }: AdamWConfig,
): { correction1: number; correction2: number } {
  return { correction1: 1 - beta1 ** step, correction2: Math.sqrt(1 - beta2 ** step) };
}

/** min(1, maxNorm / norm) for the norm over several tensors, as torch's `clip_grad_norm_` computes it. */
export function clipFactor(norms: Tensor, maxNorm: number): Scalar {
  const total = tf.sqrt(tf.sum(tf.square(norms))); // [tensors] -> scalar
  return tf.minimum(1, tf.div(maxNorm, tf.add(total, 1e-6)));
}
