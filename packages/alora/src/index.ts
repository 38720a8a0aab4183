import { hostFilled, hostZeros, type CallableMethod } from '@peftjs/core/method';
import { rankMethod } from '@peftjs/core/ranks';
import { kaimingUniform } from '@peftjs/core/linalg';
import { aloraOptions, type AloraConfig } from './config.js';
import { aloraPolicy } from './policy.js';

/*
 * ALoRA (Liu et al., 2024, arXiv 2403.16187), in row vectors:
 *
 *   y  = x W0 + b + s ((d(x) A) * g) B      x [rows, in]   A [in, r]   g [r]   B [r, out]   d: dropout
 *   s  = alpha / r                          with the initial r of the module
 *   dW = s A diag(g) B
 *   A ~ U(-1/sqrt(in), 1/sqrt(in)), B = 0, g = 1, also for ranks that a module gets later: policy.ts
 *
 * Gates are not trained. They are 1, except for ranks that a probe leaves out.
 */

/**
 * ALoRA (Liu et al., 2024): LoRA whose ranks move in a few rounds, from where their removal raises the loss least to
 * the modules that lost none.
 *
 * @example attach(model, alora({ r: 8, targetModules: 'all-linear' }))
 */
export const alora: CallableMethod<AloraConfig> = rankMethod<AloraConfig>({
  name: 'alora',
  budget: 'moves',
  defaults: { r: 8, loraAlpha: 8 },
  options: aloraOptions,
  file: { peftType: 'ALORA', gate: '.gate' },
  start: ({ inFeatures, outFeatures }, count, _config, rng) => ({
    loraA: kaimingUniform(rng, inFeatures, count), // [in, count]
    loraB: hostZeros([count, outFeatures]),
    gate: hostFilled([count], 1),
  }),
  policy: aloraPolicy,
});

export type { AloraConfig } from './config.js';
