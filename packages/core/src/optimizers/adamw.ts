import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { keptShare, nonNegative, parseOptions, positive, type OptionsOf } from '../config.js';
import { tensorsAt } from '../tensors.js';
import { decayed, type Optimizer } from './optimizer.js';

const options = {
  /** Decoupled weight decay lambda, for parameters with `decay`: theta <- theta - eta_t lambda theta. Default 0. */
  weightDecay: v.optional(nonNegative, 0),
  /** The share that the first moment keeps per step. Default 0.9. */
  beta1: v.optional(keptShare, 0.9),
  /** The share that the second moment keeps per step. Default 0.999. */
  beta2: v.optional(keptShare, 0.999),
  /** A small number added to the denominator. Default 1e-8. */
  epsilon: v.optional(positive, 1e-8),
  /**
   * Where epsilon is added: to the root of the bias-corrected second moment (torch), or of the raw one (transformers'
   * old AdamW). Default 'corrected'.
   */
  epsilonOn: v.optional(v.picklist(['corrected', 'raw']), 'corrected'),
};

/** Options of `adamW`. */
export type AdamWOptions = OptionsOf<typeof options>;

/**
 * AdamW (Loshchilov and Hutter, 2019, arXiv 1711.05101, algorithm 2), as `torch.optim.AdamW` computes it:
 *
 * ```text
 * m <- beta1 m + (1 - beta1) g            v <- beta2 v + (1 - beta2) g^2
 * theta <- theta (1 - eta_t lambda) - eta_t / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
 * ```
 *
 * The defaults are torch's, without decay.
 * @throws ConfigError naming the option that is unknown or impossible.
 */
export function adamW(given: AdamWOptions = {}): Optimizer {
  const settings = parseOptions('adamW', options, given);
  const { weightDecay, beta1, beta2, epsilon, epsilonOn } = settings;
  return {
    name: 'adamw',
    settings,
    slots: { moment1: { carried: 'gradient' }, moment2: { carried: 'squaredGradient' } },
    elementwise: true,
    // Computed in double precision on the host: 1 - 0.999 loses five digits in float32.
    scalars: (step) => ({ correction1: 1 - beta1 ** step, correction2: Math.sqrt(1 - beta2 ** step) }),
    update({ value, gradient, slots, learningRate, decay, scalars }) {
      const { moment1, moment2 } = tensorsAt(slots, 'moment1', 'moment2');
      const { correction1, correction2 } = tensorsAt(scalars, 'correction1', 'correction2');
      const m = tf.add(tf.mul(moment1, beta1), tf.mul(gradient, 1 - beta1));
      const v = tf.add(tf.mul(moment2, beta2), tf.mul(tf.square(gradient), 1 - beta2));
      const root = tf.sqrt(v);
      const denominator =
        epsilonOn === 'corrected'
          ? tf.add(tf.div(root, correction2), epsilon)
          : tf.div(tf.add(root, epsilon), correction2);
      const change = tf.div(tf.mul(m, tf.div(learningRate, correction1)), denominator);
      return {
        value: tf.sub(decayed(value, learningRate, decay ? weightDecay : 0), change),
        slots: { moment1: m, moment2: v },
      };
    },
  };
}
