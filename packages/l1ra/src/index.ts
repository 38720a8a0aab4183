import { hostFilled, hostZeros, tensorAt, type CallableMethod } from '@peftjs/core/method';
import { rankMethod, startingRank } from '@peftjs/core/ranks';
import { normalValues } from '@peftjs/core/linalg';
import * as tf from '@tensorflow/tfjs-core';
import { l1raOptions, type L1raConfig } from './config.js';
import { l1raPolicy } from './policy.js';

/*
 * L1RA (Singh et al., 2025, arXiv 2509.04884), in row vectors:
 *
 *   y  = x W0 + b + s ((d(x) A) * c) B      x [rows, in]   A [in, r]   c [r]   B [r, out]   d: dropout
 *   s  = alpha / r                          with the initial r of the module
 *   dW = s A diag(c) B
 *   c <- min(max(c' - eta_c lambda, 0), 1)  update      c': c after a step of Adam with the constant rate eta_c
 *   A ~ N(0, 1 / r^2), B = 0, c = 1         start       also for ranks that a module gets later: policy.ts
 */

/**
 * L1RA (Singh et al., 2025): LoRA with a gate on every rank, which L1 regularization shrinks. Ranks whose gates vanish
 * are given to other modules. So ranks move to where they are needed while their number stays constant.
 *
 * @example attach(model, l1ra({ r: 8, targetModules: 'all-linear' }))
 */
export const l1ra: CallableMethod<L1raConfig> = rankMethod<L1raConfig>({
  name: 'l1ra',
  budget: 'moves',
  defaults: { r: 8, loraAlpha: 8 },
  options: l1raOptions,
  file: { peftType: 'L1RA', gate: '.lora_c' }, // the released code's name of c
  start: (site, count, config, rng) => ({
    loraA: normalValues(rng, [site.inFeatures, count], 1 / startingRank(site, config)),
    loraB: hostZeros([count, site.outFeatures]),
    gate: hostFilled([count], 1),
  }),
  train: ({ etaC }) => ({
    loraA: {},
    loraB: {},
    gate: { group: 'gate', decay: false, learningRate: etaC },
  }),
  update(proposed, { ctx }, { etaC, l1raLambda }) {
    const shrunk = tf.sub(tensorAt(proposed, 'gate'), etaC * l1raLambda);
    return { gate: tf.minimum(tf.maximum(shrunk, ctx.scalar('leastGate')), 1) }; // [ranks]
  },
  policy: l1raPolicy,
});

export type { L1raConfig } from './config.js';
