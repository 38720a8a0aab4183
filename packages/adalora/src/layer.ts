import {
  foldDiagonal,
  hostZeros,
  nonZeros,
  normalValues,
  rankCost,
  tensorAt,
  tensorsAt,
  trained,
  type AdapterLayer,
  type HostTensors,
  type Rng,
  type Site,
  type Tensors,
  type UpdateContext,
} from '@peftjs/core';
import * as tf from '@tensorflow/tfjs';
import type { Scalar, Tensor } from '@tensorflow/tfjs';
import type { AdaloraConfig } from './config.js';
import { initialScores, scored } from './scores.js';

/*
 * AdaLoRA (Zhang et al., 2023, arXiv 2303.10512), in row vectors; A is the paper's Q^T, B its P^T, E its Lambda:
 *
 *   y    = x W0 + b + s ((d(x) A) * E) B            forward         x [rows, in]   A [in, r]   E [r]   B [r, out]
 *   s    = alpha / (r + 1e-5)                       r = initR for the whole run; the 1e-5 is that of both released codes
 *   d    : dropout while training                   the rate is loraDropout
 *   A, B ~ N(0, 0.02), E = 0                        params
 *   R    = ||A^T A - I||^2 + ||B B^T - I||^2        loss, times gamma (eq. 4)
 *
 *   I    = |w dL/dw|                                scores.ts       of every scalar w of A, E and B (eq. 10)
 *   Ibar <- beta1 Ibar + (1 - beta1) I                              (eq. 11)
 *   Ubar <- beta2 Ubar + (1 - beta2) |I - Ibar|                     of the new Ibar (eq. 12)
 *   s(w) = Ibar Ubar                                                (eq. 13)
 *   S_i  = s(E_i) + mean_j s(A_ji) + mean_j s(B_ij)                 of a triplet (A_i, E_i, B_i) (eq. 9)
 *
 *   b(t)                                            schedule.ts     how many triplets stay (eq. 14)
 *   E_i  <- 0 unless S_i is among the b(t) greatest selection.ts    of all modules, every deltaT steps (eq. 8)
 *   dW   = s A diag(E) B over {i : E_i != 0}        toLora
 *
 * What is masked may grow again until the next mask, for A_i and B_i stay. In the final phase (the scalar `frozen` is 1)
 * `update` applies the last mask at every step: the optimizer's momentum would revive what it left out.
 */

/** What the dropout of a module's input is called among its noise. */
export const DROPOUT = 'loraDropout';

/** Deviation of A's and B's initial values. */
const INITIAL_STD = 0.02;

/** AdaLoRA at one site. */
export function adaloraLayer(site: Site, config: AdaloraConfig, rng: Rng): AdapterLayer {
  const { initR: r, orthRegWeight, loraDropout } = config;
  const scaling = config.loraAlpha / (r + 1e-5);
  return {
    site,
    params: {
      loraA: trained(normalValues(rng.fork('loraA'), [site.inFeatures, r], INITIAL_STD)),
      loraE: trained(hostZeros([r])),
      loraB: trained(normalValues(rng.fork('loraB'), [r, site.outFeatures], INITIAL_STD)),
    },
    state: initialScores(site, config, r),
    ...(loraDropout > 0 && { noise: [DROPOUT] }),
    forward(x, p, at) {
      const { loraA, loraE, loraB } = tensorsAt(p, 'loraA', 'loraE', 'loraB');
      const dropped = at.ctx.dropout(`${site.path}.${DROPOUT}`, x, loraDropout);
      const hidden = tf.mul(tf.matMul(dropped, loraA), loraE); // [rows, in] -> [rows, r]
      return tf.add(at.base(), tf.mul(tf.matMul(hidden, loraB), scaling)); // [rows, out]
    },
    ...(orthRegWeight > 0 && {
      loss: (p, ctx) => tf.mul(orthogonality(p, config, ctx.layers), orthRegWeight),
    }),
    update: (proposed, at) => ({ ...scored(config, proposed, at), loraE: masked(proposed, at) }),
    toLora(values) {
      const { loraE, ...factors } = tensorsAt(values, 'loraA', 'loraB', 'loraE');
      return foldDiagonal({ ...factors, scaling }, loraE);
    },
    storedParameters: (values) => liveTriplets(values) * rankCost(site),
    rank: liveTriplets,
  };
}

/**
 * How far the columns of A and the rows of B are from orthonormal, as this layer's part of the whole term: the paper's
 * sum of squared norms, or the released code's mean of norms over the 2 `layers` matrices. Differentiable everywhere.
 */
function orthogonality(p: Tensors, { orthRegularizer }: AdaloraConfig, layers: number): Scalar {
  const { loraA, loraB } = tensorsAt(p, 'loraA', 'loraB');
  const columns = gramError(tf.matMul(loraA, loraA, true, false)); // [in, r] -> [r, r]
  const rows = gramError(tf.matMul(loraB, loraB, false, true)); // [r, out] -> [r, r]
  if (orthRegularizer === 'squared-sum') return tf.add(columns, rows);
  return tf.div(tf.add(softSqrt(columns), softSqrt(rows)), 2 * layers);
}

/** ||G - I||^2 */
function gramError(gram: Tensor): Scalar {
  return tf.sum(tf.square(tf.sub(gram, tf.eye(gram.shape[0]))));
}

/** A root whose slope at zero is finite, so that orthonormal factors get no NaN. */
function softSqrt(x: Tensor): Tensor {
  return tf.sqrt(tf.add(x, 1e-12));
}

/** E, without the triplets that the final mask leaves out. */
function masked(proposed: Tensors, { previous, ctx }: UpdateContext): Tensor {
  const loraE = tensorAt(proposed, 'loraE');
  const dropped = tf.mul(ctx.scalar('frozen'), tf.sub(1, tensorAt(previous, 'mask'))); // [r]
  return tf.where(tf.greater(dropped, 0), tf.zerosLike(loraE), loraE);
}

function liveTriplets(values: HostTensors): number {
  return nonZeros(tensorAt(values, 'loraE')).length;
}
