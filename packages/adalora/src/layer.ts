import {
  hostFilled,
  hostZeros,
  tensorAt,
  type AdapterLayer,
  type HostTensors,
  type Rng,
  type Site,
  type Tensors,
  type UpdateContext,
} from '@peftjs/core/method';
import { orthonormalityErrors, rankLayer, softSqrt } from '@peftjs/core/ranks';
import { kaimingUniform, normalValues } from '@peftjs/core/linalg';
import * as tf from '@tensorflow/tfjs-core';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import type { AdaloraConfig } from './config.js';

/*
 * AdaLoRA (Zhang et al., 2023, arXiv 2303.10512), in row vectors; A is the paper's Q^T, B its P^T, E its Lambda:
 *
 *   y    = x W0 + b + s ((d(x) A) * E) B            rankLayer       x [rows, in]   A [in, r]   E [r]   B [r, out]
 *   s    = alpha / (r + 1e-5)                       r = initR for the whole run; both released codes add the 1e-5
 *   d    : dropout during training                  with the rate loraDropout
 *   A, B ~ N(0, 0.02^2), E = 0                      initial
 *   R    = ||A^T A - I||^2 + ||B B^T - I||^2        loss, times gamma (eq. 4)
 *
 *   I    = |w dL/dw|                                scored          for every scalar w of A, E and B (eq. 10)
 *   Ibar <- beta1 Ibar + (1 - beta1) I                              (eq. 11)
 *   Ubar <- beta2 Ubar + (1 - beta2) |I - Ibar|                     with the new Ibar (eq. 12)
 *   s(w) = Ibar Ubar                                                (eq. 13)
 *   S_i  = s(E_i) + mean_j s(A_ji) + mean_j s(B_ij)                 for a triplet (A_i, E_i, B_i) (eq. 9)
 *
 *   b(t)                                            controller.ts   the number of triplets to keep (eq. 14)
 *   E_i  <- 0 unless S_i is among the b(t) greatest controller.ts   of all modules, every deltaT steps (eq. 8)
 *   dW   = s A diag(E) B over {i : E_i != 0}        toLora
 *
 * A masked triplet may regrow until the next mask, because A_i and B_i are kept. In the final phase (the scalar
 * `frozen` is 1), `update` applies the last mask at every step; otherwise the optimizer's momentum would revive masked
 * triplets.
 */

/*
 * The paper's ablation: a LoRA whose doublets (A_i, B_i) are pruned by AdaLoRA's scores and schedule. With the terms
 * above:
 *
 *   y   = x W0 + b + s ((d(x) A) * m) B           rankLayer    m [r] is the mask, s = alpha / r
 *   A   ~ U(-1/sqrt(in), 1/sqrt(in)), B = 0       initial
 *   S_i = mean_j s(A_ji) + mean_j s(B_ij)         scored
 *   m_i <- 0 unless S_i is among the b(t) greatest of the doublets that remain     controller.ts
 *   dW  = s A diag(m) B over {i : m_i != 0}       toLora
 *
 * A masked doublet gets no gradient and never comes back. This is the paper's argument against pruning doublets.
 */

/** The standard deviation of the initial A and B. */
const INITIAL_STD = 0.02;

/** Returns the layer of one module, with triplets or doublets. */
export function adaloraLayer(site: Site, config: AdaloraConfig, rng: Rng): AdapterLayer {
  const { inFeatures, outFeatures } = site;
  const { initR: r, loraAlpha, loraDropout: dropout, orthRegWeight, parametrization } = config;
  const scaling = loraAlpha / divisorOf(config);
  const [ofA, ofB] = [rng.fork('loraA'), rng.fork('loraB')];
  const scores = initialScores(site, config, r);
  if (parametrization === 'lora') {
    return rankLayer(site, {
      initial: { loraA: kaimingUniform(ofA, inFeatures, r), loraB: hostZeros([r, outFeatures]), ...scores },
      scaling,
      gate: 'mask',
      dropout,
      update: (proposed, at) => scored(config, proposed, at),
    });
  }
  return rankLayer(site, {
    initial: {
      loraA: normalValues(ofA, [inFeatures, r], INITIAL_STD),
      loraE: hostZeros([r]),
      loraB: normalValues(ofB, [r, outFeatures], INITIAL_STD),
      ...scores,
    },
    scaling,
    gate: 'loraE',
    dropout,
    train: { loraA: {}, loraE: {}, loraB: {} },
    loss: orthRegWeight > 0 ? (p, ctx) => tf.mul(orthogonality(p, config, ctx.layers), orthRegWeight) : undefined,
    update: (proposed, at) => ({ ...scored(config, proposed, at), loraE: masked(proposed, at) }),
  });
}

/** Returns what alpha is divided by: r for doublets; for triplets a little more, as in PEFT. */
export function divisorOf({ initR: r, parametrization }: AdaloraConfig): number {
  return parametrization === 'lora' ? r : r + 1e-5;
}

/**
 * Returns how far the columns of A and the rows of B are from orthonormal: this layer's summand of the paper's sum of
 * squared norms, or of the released code's mean of norms over the 2 `layers` matrices. Differentiable everywhere.
 */
function orthogonality(p: Tensors, { orthRegularizer }: AdaloraConfig, layers: number): Scalar {
  const [columns, rows] = orthonormalityErrors(p);
  if (orthRegularizer === 'squared-sum') return tf.add(columns, rows);
  return tf.div(tf.add(softSqrt(columns), softSqrt(rows)), 2 * layers);
}

/** Returns E, [r], with the triplets zeroed that the final mask drops. */
function masked(proposed: Tensors, { previous, ctx }: UpdateContext): Tensor {
  const loraE = tensorAt(proposed, 'loraE');
  const dropped = tf.mul(ctx.scalar('frozen'), tf.sub(1, tensorAt(previous, 'mask'))); // [r]
  return tf.where(tf.greater(dropped, 0), tf.zerosLike(loraE), loraE);
}

/*
 * The importance of a triplet in the step just taken, by the equations above. Their inputs:
 *
 *   dL/dw   at the weights before the step, of the full loss (with the orthogonality term), after clipping
 *   w       the weight before the step, where dL/dw was taken (allocator 'paper'), or after it, before any mask
 *           ('released')
 *   |E_i|   after the step: importance 'magnitude'
 *
 * While the scalar `scoring` is 0, scores do not change. Doublets have no E; their score is the sum without it.
 */

type Factor = 'loraA' | 'loraE' | 'loraB';

const FACTORS: Record<AdaloraConfig['parametrization'], readonly Factor[]> = {
  svd: ['loraE', 'loraA', 'loraB'],
  lora: ['loraA', 'loraB'],
};

/** Reduces a factor's scores to one score per rank, [r]. */
const RANK_SUMS: Record<Factor, (scores: Tensor) => Tensor> = {
  loraE: (scores) => scores, // [r]
  loraA: (scores) => tf.mean(scores, 0), // [in, r] -> [r]
  loraB: (scores) => tf.mean(scores, 1), // [r, out] -> [r]
};

/** Returns the untrained tensors of a layer: the averages it needs, the ranks' importance [r] and the mask [r]. */
export function initialScores(
  { inFeatures, outFeatures }: Pick<Site, 'inFeatures' | 'outFeatures'>,
  { parametrization, importance }: Pick<AdaloraConfig, 'parametrization' | 'importance'>,
  r: number,
): HostTensors {
  const shapes: Record<Factor, number[]> = { loraA: [inFeatures, r], loraE: [r], loraB: [r, outFeatures] };
  const smoothed = importance === 'smoothed-sensitivity' ? FACTORS[parametrization] : [];
  const names = [smoothedName, uncertaintyName];
  const averages = smoothed.flatMap((factor) =>
    names.map((name) => [name(factor), hostZeros(shapes[factor])] as const),
  );
  return { ...Object.fromEntries(averages), importance: hostZeros([r]), mask: hostFilled([r], 1) };
}

/** Returns the scores after a step that proposes these tensors. */
function scored(config: AdaloraConfig, proposed: Tensors, at: UpdateContext): Tensors {
  const scoring = at.ctx.scalar('scoring');
  const before = tensorAt(at.previous, 'importance');
  const held = (now: Tensor): Tensor => tf.add(tf.mul(now, scoring), tf.mul(before, tf.sub(1, scoring))); // [r]
  const weights = config.allocator === 'paper' ? at.previous : proposed;
  const sensitivity = (factor: Factor): Tensor =>
    tf.abs(tf.mul(tensorAt(weights, factor), tensorAt(at.gradient, factor)));
  switch (config.importance) {
    case 'magnitude':
      return { importance: held(tf.abs(tensorAt(proposed, 'loraE'))) };
    case 'sensitivity':
      return { importance: held(rankScores(config, sensitivity)) };
    case 'smoothed-sensitivity': {
      const { importance, averages } = smoothedScores(config, at.previous, scoring, sensitivity);
      return { ...averages, importance: held(importance) };
    }
  }
}

function smoothedScores(
  config: AdaloraConfig,
  previous: Tensors,
  scoring: Scalar,
  sensitivity: (factor: Factor) => Tensor,
): { importance: Tensor; averages: Tensors } {
  const [rate1, rate2] = [tf.mul(scoring, 1 - config.beta1), tf.mul(scoring, 1 - config.beta2)];
  const averages: Tensors = {};
  const importance = rankScores(config, (factor) => {
    const raw = sensitivity(factor);
    const smoothed = towards(tensorAt(previous, smoothedName(factor)), raw, rate1);
    const deviation = tf.abs(tf.sub(raw, smoothed));
    const uncertainty = towards(tensorAt(previous, uncertaintyName(factor)), deviation, rate2);
    averages[smoothedName(factor)] = smoothed;
    averages[uncertaintyName(factor)] = uncertainty;
    return tf.mul(smoothed, uncertainty);
  });
  return { importance, averages };
}

/** Sums the scores of A [in, r], E [r] and B [r, out] to one score per rank, [r]. */
function rankScores({ parametrization }: AdaloraConfig, scores: (factor: Factor) => Tensor): Tensor {
  return FACTORS[parametrization].map((factor) => RANK_SUMS[factor](scores(factor))).reduce((a, b) => tf.add(a, b));
}

/** Returns from + rate (to - from). */
function towards(from: Tensor, to: Tensor, rate: Tensor): Tensor {
  return tf.add(from, tf.mul(rate, tf.sub(to, from)));
}

const smoothedName = (factor: Factor): string => `smoothedSensitivity.${factor}`;
const uncertaintyName = (factor: Factor): string => `uncertainty.${factor}`;
