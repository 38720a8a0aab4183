import { hostTensor } from '@peftjs/core';
import {
  kaimingUniform,
  rankCost,
  tensorAt,
  tensorsAt,
  trained,
  startingRank,
  startingScaling,
  type AdapterLayer,
  type HostTensor,
  type HostTensors,
  type Rng,
  type Site,
} from '@peftjs/core/method';
import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import type { BayesLoraConfig } from './config.js';

/*
 * BayesLoRA (Doyle, 2025, arXiv 2506.22809), in row vectors. A and B hold the means of normal distributions. All
 * entries of rank i, in column i of A and row i of B, share one variance sigma_i^2:
 *
 *   y  = x W0 + b + s (x A) B                 forward      x [rows, in]   A [in, r]   B [r, out]; the means, no noise
 *   s  = alpha / r                            with the initial r of the module
 *   R  = kappa sum KL(a) over A and B         loss         kappa = klScale
 *   a  = sigma_i^2 / (mu^2 + 1e-8)            for each entry mu of A and B
 *   KL = k1 + ln(1 + 1/a) / 2 - k1 sigmoid(k2 + k3 ln a)   divergence: Molchanov et al., 2017, eq. 14
 *
 *   log a_i = (median_j(l_i - ln(A_ji^2 + 1e-8)) + median_j(l_i - ln(B_ij^2 + 1e-8))) / 2     controller.ts
 *   l_i = ln sigma_i^2
 *   dW = s A B over the remaining ranks       toLora
 *   A ~ U(-1/sqrt(in), 1/sqrt(in)), B ~ U(-1e-3, 1e-3)     initialTensors
 */

const [K1, K2, K3] = [0.63576, 1.8732, 1.48695];

/** Keeps mu^2 and alpha away from zero. */
export const EPSILON = 1e-8;

/** The limits of ln sigma^2 in the divergence. */
const [LEAST_LOG_SIGMA2, GREATEST_LOG_SIGMA2] = [-20, 2];

/** The ratio of the learning rate of ln sigma^2 to that of A and B. */
const LOG_SIGMA2_RATE = 0.1;

/** The largest initial |B_ij|. */
const INITIAL_B = 1e-3;

/**
 * Returns the BayesLoRA layer of one module.
 * @param initial `loraA` [in, r], `loraB` [r, out], `logSigma2` [r]
 */
export function bayesLoraLayer(site: Site, config: BayesLoraConfig, initial: HostTensors): AdapterLayer {
  const { loraA, loraB, logSigma2 } = tensorsAt(initial, 'loraA', 'loraB', 'logSigma2');
  const scaling = startingScaling(site, config);
  return {
    site,
    params: {
      loraA: trained(loraA, { decay: false }),
      loraB: trained(loraB, { decay: false }),
      logSigma2: { ...trained(logSigma2, { decay: false }), rateFactor: LOG_SIGMA2_RATE },
    },
    forward(x, p, at) {
      const { loraA, loraB } = tensorsAt(p, 'loraA', 'loraB');
      const hidden = tf.matMul(x, loraA); // [rows, in] -> [rows, r]
      return tf.add(at.base(), tf.mul(tf.matMul(hidden, loraB), scaling)); // [rows, out]
    },
    loss(p) {
      const { loraA, loraB, logSigma2 } = tensorsAt(p, 'loraA', 'loraB', 'logSigma2');
      const ofA = divergence(loraA, logSigma2); // [in, r]
      const ofB = divergence(loraB, tf.expandDims(logSigma2, 1)); // [r, out]
      return tf.mul(tf.add(tf.sum(ofA), tf.sum(ofB)), config.klScale);
    },
    toLora: (values) => ({ ...tensorsAt(values, 'loraA', 'loraB'), scaling }),
    counted: ['logSigma2'],
    storedParameters: (values) => ranksIn(values) * rankCost(site),
    rank: ranksIn,
  };
}

/** Returns the KL divergence of each entry from the log-uniform prior, by the approximation of Molchanov et al. */
function divergence(mu: Tensor, logSigma2: Tensor): Tensor {
  const clamped = tf.minimum(tf.maximum(logSigma2, LEAST_LOG_SIGMA2), GREATEST_LOG_SIGMA2);
  const alpha = tf.add(tf.div(tf.exp(clamped), tf.add(tf.square(mu), EPSILON)), EPSILON);
  const squashed = tf.sigmoid(tf.add(tf.mul(tf.log(alpha), K3), K2));
  return tf.add(tf.mul(tf.log1p(tf.div(1, alpha)), 0.5), tf.mul(tf.sub(1, squashed), K1));
}

/** Returns the initial tensors of a module. */
export function initialTensors(site: Site, config: BayesLoraConfig, rng: Rng): HostTensors {
  const r = startingRank(site, config);
  return {
    loraA: kaimingUniform(rng.fork('loraA'), site.inFeatures, r), // [in, r]
    loraB: initialB(rng.fork('loraB'), [r, site.outFeatures]),
    logSigma2: constant(r, config.initLogSigma2),
  };
}

/** Returns a vector of `count` equal values. */
export function constant(count: number, value: number): HostTensor {
  return hostTensor(new Float32Array(count).fill(value), [count]);
}

function initialB(rng: Rng, [r, outFeatures]: readonly [number, number]): HostTensor {
  const data = Float32Array.from({ length: r * outFeatures }, () => INITIAL_B * (2 * rng.uniform() - 1));
  return hostTensor(data, [r, outFeatures]);
}

function ranksIn(values: HostTensors): number {
  return tensorAt(values, 'logSigma2').data.length;
}
