import { TrainingError } from '@peftjs/core/method';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import type { SoraConfig } from './config.js';

/**
 * T_t(x) = sign(x) max(|x| - t, 0), the proximal operator of t |x|. Zeros in the result are +0, never -0.
 *
 * @param x any shape
 * @param threshold t >= 0, a number or a scalar tensor
 */
export function softThreshold(x: Tensor, threshold: number | Tensor): Tensor {
  return tf.where(tf.greater(tf.abs(x), threshold), towardsZero(x, threshold), tf.zerosLike(x));
}

/**
 * The operator of SoRA's released code: sign(x) (|x| - t) for |x| >= 2 t and 0 below, except that |x| = t stays as it
 * is. It jumps by t at 2 t, where the proximal operator is continuous. Zeros in the result are +0, never -0.
 *
 * @param x any shape
 * @param threshold t >= 0, a number or a scalar tensor
 */
export function referenceThreshold(x: Tensor, threshold: number | Tensor): Tensor {
  const zeros = tf.zerosLike(x);
  const size = tf.abs(x);
  const above = tf.where(tf.greaterEqual(size, tf.mul(threshold, 2)), towardsZero(x, threshold), zeros);
  const kept = tf.where(tf.equal(size, threshold), x, above);
  return tf.where(tf.greater(size, 0), kept, zeros);
}

/** Moves x towards zero by `step`. */
function towardsZero(x: Tensor, step: number | Tensor): Tensor {
  return tf.sub(x, tf.mul(tf.sign(x), step));
}

/** The learning rates of a step, by optimizer group. */
export type LearningRates = Readonly<Record<string, number>>;

/**
 * Returns the threshold of a step: eta_t * lambda, or xi itself.
 * @throws TrainingError when there is no learning rate for the gates.
 */
export function thresholdAt({ thresholdMode }: SoraConfig, sparseLambda: number, rates: LearningRates): number {
  return thresholdMode === 'lr' ? sparseLambda * gateRate(rates) : sparseLambda;
}

/** Returns the gates' learning rate. @throws TrainingError when there is none. */
export function gateRate(rates: LearningRates): number {
  const rate = rates.gate ?? rates.default;
  if (rate !== undefined) return rate;
  const groups = Object.keys(rates).join(', ') || 'none';
  throw new TrainingError(`SoRA needs a learning rate for the group 'gate', got only ${groups}`, 'gate');
}
