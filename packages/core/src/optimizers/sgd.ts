import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { keptShare, nonNegative, parseOptions, type OptionsOf } from '../config.js';
import { ConfigError } from '../errors.js';
import { tensorAt } from '../tensors.js';
import type { Optimizer } from './optimizer.js';

const options = {
  /** mu, the share of itself that the velocity keeps. Default 0: no velocity. */
  momentum: v.optional(keptShare, 0),
  /** tau: gradients are added to the velocity with factor 1 - tau, except the first. Default 0. */
  dampening: v.optional(keptShare, 0),
  /** Whether to use Nesterov momentum. Default false. */
  nesterov: v.optional(v.boolean(), false),
  /** Coupled weight decay lambda (L2 regularisation), for parameters with `decay`: g <- g + lambda theta. Default 0. */
  weightDecay: v.optional(nonNegative, 0),
};

/** Options of `sgd`. */
export type SgdOptions = OptionsOf<typeof options>;

/**
 * Stochastic gradient descent with momentum, as `torch.optim.SGD` computes it:
 *
 * ```text
 * g <- g + lambda theta
 * b <- mu b + (1 - tau) g, in the first step b <- g
 * theta <- theta - eta_t b, without momentum eta_t g, with Nesterov's eta_t (g + mu b)
 * ```
 *
 * Weight decay is torch's: coupled, so that it passes through the momentum. The other optimizers' is decoupled.
 * @throws ConfigError naming the option that is unknown or impossible, e.g. Nesterov momentum without momentum.
 */
export function sgd(given: SgdOptions = {}): Optimizer {
  const settings = parseOptions('sgd', options, given);
  const { momentum, dampening, nesterov, weightDecay } = settings;
  if (momentum === 0 && dampening > 0) {
    throw new ConfigError(`sgd: option 'dampening' needs a momentum above 0, got momentum ${momentum}`, 'dampening');
  }
  if (nesterov && (momentum === 0 || dampening > 0)) {
    throw new ConfigError(
      `sgd: option 'nesterov' needs a momentum above 0 and no dampening, got momentum ${momentum} and dampening ${dampening}`,
      'nesterov',
    );
  }
  return {
    name: 'sgd',
    settings,
    slots: momentum === 0 ? {} : { velocity: { carried: 'gradient' } },
    elementwise: true,
    ...(dampening > 0 && { scalars: (step) => ({ entering: step === 1 ? 1 : 1 - dampening }) }),
    update({ value, gradient: raw, slots, learningRate, decay, scalars }) {
      const gradient = decay && weightDecay > 0 ? tf.add(raw, tf.mul(value, weightDecay)) : raw;
      if (momentum === 0) return { value: tf.sub(value, tf.mul(gradient, learningRate)), slots: {} };
      const entering = dampening > 0 ? tf.mul(gradient, tensorAt(scalars, 'entering')) : gradient;
      const velocity = tf.add(tf.mul(tensorAt(slots, 'velocity'), momentum), entering);
      const direction = nesterov ? tf.add(gradient, tf.mul(velocity, momentum)) : velocity;
      return { value: tf.sub(value, tf.mul(direction, learningRate)), slots: { velocity } };
    },
  };
}
