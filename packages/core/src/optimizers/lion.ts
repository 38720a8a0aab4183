import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { keptShare, nonNegative, parseOptions, type OptionsOf } from '../config.js';
import { tensorAt } from '../tensors.js';
import { decayed, type Optimizer } from './optimizer.js';

const options = {
  /** The share of the momentum in a step's direction. Default 0.9. */
  beta1: v.optional(keptShare, 0.9),
  /** The share of itself that the momentum keeps. Default 0.99. */
  beta2: v.optional(keptShare, 0.99),
  /** Decoupled weight decay lambda, for parameters with `decay`. Default 0. */
  weightDecay: v.optional(nonNegative, 0),
};

/** Options of `lion`. */
export type LionOptions = OptionsOf<typeof options>;

/**
 * Lion (Chen et al., 2023, arXiv 2302.06675, algorithm 2):
 *
 * ```text
 * theta <- theta (1 - eta_t lambda) - eta_t sign(beta1 m + (1 - beta1) g)
 * m <- beta2 m + (1 - beta2) g
 * ```
 *
 * Every element moves by the learning rate, whatever its gradient. The paper uses a learning rate 3 to 10 times smaller
 * than AdamW's, and a weight decay larger by the same factor. An element whose gradient has always been 0 does not
 * move.
 * @throws ConfigError naming the option that is unknown or impossible.
 */
export function lion(given: LionOptions = {}): Optimizer {
  const settings = parseOptions('lion', options, given);
  const { beta1, beta2, weightDecay } = settings;
  return {
    name: 'lion',
    settings,
    slots: { momentum: { carried: 'gradient' } },
    elementwise: true,
    update({ value, gradient, slots, learningRate, decay }) {
      const momentum = tensorAt(slots, 'momentum');
      const direction = tf.sign(tf.add(tf.mul(momentum, beta1), tf.mul(gradient, 1 - beta1)));
      const next = tf.add(tf.mul(momentum, beta2), tf.mul(gradient, 1 - beta2));
      const from = decayed(value, learningRate, decay ? weightDecay : 0);
      return { value: tf.sub(from, tf.mul(direction, learningRate)), slots: { momentum: next } };
    },
  };
}
