import { hostFilled, tensorsAt, type CallableMethod } from '@peftjs/core/method';
import { rankMethod } from '@peftjs/core/ranks';
import { kaimingUniform, uniformValues } from '@peftjs/core/linalg';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { bayesLoraOptions, LOG_SIGMA2, type BayesLoraConfig } from './config.js';
import { bayesLoraPolicy, EPSILON } from './policy.js';

/*
 * BayesLoRA (Doyle, 2025, arXiv 2506.22809), in row vectors. A and B hold the means of normal distributions. All
 * entries of rank i, in column i of A and row i of B, share one variance sigma_i^2:
 *
 *   y  = x W0 + b + s (x A) B                 x [rows, in]   A [in, r]   B [r, out]; the means, no noise
 *   s  = alpha / r                            with the initial r of the module
 *   dW = s A B over the remaining ranks
 *   R  = kappa sum KL(a) over A and B         loss         kappa = klScale
 *   a  = sigma_i^2 / (mu^2 + 1e-8) + 1e-8     for each entry mu of A and B
 *   KL = k1 + ln(1 + 1/a) / 2 - k1 sigmoid(k2 + k3 ln a)   divergence: Molchanov et al., 2017, eq. 14
 *   A ~ U(-1/sqrt(in), 1/sqrt(in)), B ~ U(-1e-3, 1e-3)     start
 *
 * Ranks are pruned by ln a: policy.ts.
 */

const [K1, K2, K3] = [0.63576, 1.8732, 1.48695];

/** The limits of ln sigma^2 in the divergence. */
const [LEAST_LOG_SIGMA2, GREATEST_LOG_SIGMA2] = [-20, 2];

/** The ratio of the learning rate of ln sigma^2 to that of A and B. */
const LOG_SIGMA2_RATE = 0.1;

/** The largest initial |B_ij|. */
const INITIAL_B = 1e-3;

/**
 * BayesLoRA (Doyle, 2025): LoRA with a learned variance for every rank. Ranks whose entries are small compared to it
 * are pruned during training.
 *
 * @example attach(model, bayesLora({ r: 8, targetModules: 'all-linear' }))
 */
export const bayesLora: CallableMethod<BayesLoraConfig> = rankMethod<BayesLoraConfig>({
  name: 'bayes-lora',
  budget: 'prunes',
  identityAtInit: false,
  defaults: { r: 8, loraAlpha: 16 },
  options: bayesLoraOptions,
  start: ({ inFeatures, outFeatures }, count, { initLogSigma2 }, rng) => ({
    loraA: kaimingUniform(rng.fork('loraA'), inFeatures, count), // [in, r]
    loraB: uniformValues(rng.fork('loraB'), [count, outFeatures], INITIAL_B), // [r, out]
    logSigma2: hostFilled([count], initLogSigma2),
  }),
  // A file holds only the means; the variances start from their default.
  unsaved: ({ loraA }) => ({ logSigma2: hostFilled([loraA?.shape[1] ?? 0], LOG_SIGMA2) }),
  train: () => ({
    loraA: { decay: false },
    loraB: { decay: false },
    logSigma2: { decay: false, rateFactor: LOG_SIGMA2_RATE },
  }),
  loss:
    ({ klScale }) =>
    (p) => {
      const { loraA, loraB, logSigma2 } = tensorsAt(p, 'loraA', 'loraB', 'logSigma2');
      const ofA = divergence(loraA, logSigma2); // [in, r]
      const ofB = divergence(loraB, tf.expandDims(logSigma2, 1)); // [r, out]
      return tf.mul(tf.add(tf.sum(ofA), tf.sum(ofB)), klScale);
    },
  policy: bayesLoraPolicy,
});

/** Returns the KL divergence of each entry from the log-uniform prior, by the approximation of Molchanov et al. */
function divergence(mu: Tensor, logSigma2: Tensor): Tensor {
  const clamped = tf.minimum(tf.maximum(logSigma2, LEAST_LOG_SIGMA2), GREATEST_LOG_SIGMA2);
  const alpha = tf.add(tf.div(tf.exp(clamped), tf.add(tf.square(mu), EPSILON)), EPSILON);
  const squashed = tf.sigmoid(tf.add(tf.mul(tf.log(alpha), K3), K2));
  return tf.add(tf.mul(tf.log1p(tf.div(1, alpha)), 0.5), tf.mul(tf.sub(1, squashed), K1));
}

export type { BayesLoraConfig } from './config.js';
