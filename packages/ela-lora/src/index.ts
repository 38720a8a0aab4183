import { hostZeros, tensorsAt, type CallableMethod, type Tensors } from '@peftjs/core/method';
import { orthonormalityErrors, rankMethod, softSqrt } from '@peftjs/core/ranks';
import { normalValues } from '@peftjs/core/linalg';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { elaLoraOptions, type ElaLoraConfig } from './config.js';
import { elaLoraPolicy } from './policy.js';
import { FACTORS, noScores, scored } from './scores.js';

/*
 * ElaLoRA (Chang et al., 2025, arXiv 2504.00254), in row vectors; a rank is (A_i, E_i, B_i), and E is called `gate`:
 *
 *   y    = x W0 + b + s ((d(x) A) * E) B       x [rows, in]   A [in, r]   E [r]   B [r, out]   d: dropout
 *   s    = alpha / r                           with the initial r of the module
 *   dW   = s A diag(E) B
 *   A, B ~ N(0, 0.02^2), E = 0                 start
 *   R    = 1 / (2 n) sum ||A^T A - I|| + ||B B^T - I||   loss, times a weight; Frobenius norms, over n modules
 *   S_i                                        update: the importance of rank i (scores.ts), by which ranks move
 *                                              between modules (policy.ts)
 */

/** The standard deviation of the initial A and B. */
const INITIAL_STD = 0.02;

/**
 * ElaLoRA (Chang et al., 2025): AdaLoRA's triplets, whose ranks move from the modules where they matter least to those
 * where they matter most. Their number stays constant.
 *
 * @example attach(model, elaLora({ r: 8, targetModules: 'all-linear' }))
 */
export const elaLora: CallableMethod<ElaLoraConfig> = rankMethod<ElaLoraConfig>({
  name: 'ela-lora',
  budget: 'moves',
  defaultLearningRate: 4e-3,
  shortRunOptions: { orthRegWeight: 0 },
  defaults: { r: 10, loraAlpha: 16 },
  options: elaLoraOptions,
  file: { peftType: 'ELA_LORA', gate: '.lora_E' },
  start({ inFeatures, outFeatures }, count, _config, rng) {
    const factors = {
      loraA: normalValues(rng.fork('loraA'), [inFeatures, count], INITIAL_STD),
      gate: hostZeros([count]),
      loraB: normalValues(rng.fork('loraB'), [count, outFeatures], INITIAL_STD),
    };
    return { ...factors, ...noScores(factors) };
  },
  unsaved: (ranks) => noScores(tensorsAt(ranks, ...FACTORS)),
  train: () => ({ loraA: {}, gate: {}, loraB: {} }),
  loss: ({ orthRegWeight }) =>
    orthRegWeight > 0 ? (p, ctx) => tf.mul(distance(p), orthRegWeight / (2 * ctx.layers)) : undefined,
  update: (proposed, at, config) => scored(config, proposed, at),
  policy: elaLoraPolicy,
});

/** ||A^T A - I|| + ||B B^T - I||. */
function distance(p: Tensors): Tensor {
  const [ofA, ofB] = orthonormalityErrors(p);
  return tf.add(softSqrt(ofA), softSqrt(ofB));
}

export type { ElaLoraConfig } from './config.js';
