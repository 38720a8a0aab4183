import {
  foldDiagonal,
  hostZeros,
  nonZeros,
  normalValues,
  rankCost,
  tensorAt,
  tensorsAt,
  type AdapterLayer,
  type HostTensor,
  type HostTensors,
  type ParamSpec,
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
 *   y  = x W0 + b + s ((x A) * E) B      forward      x [rows, in]   A [in, r]   E [r]   B [r, out]
 *   s  = alpha / (r + 1e-5)              r = initR for the whole run; the 1e-5 is that of both released codes
 *   R  = ||A^T A - I||^2 + ||B B^T - I||^2            loss (eq. 4), times gamma
 *   I, S of a triplet (A_i, E_i, B_i)                 scores.ts (eqs. 8 to 13), in `update`
 *   dW = s A diag(E) B over {i : E_i != 0}            toLora
 *   A, B ~ N(0, 0.02), E = 0
 *
 * The controller masks E now and then, and what it masks may grow again until the next time (eq. 5); in the final phase
 * (`frozen` is 1) `update` applies the last mask at every step and the scores stand still.
 */

/** Deviation of A's and B's initial values. */
const INITIAL_STD = 0.02;

/** AdaLoRA at one site. */
export function adaloraLayer(site: Site, config: AdaloraConfig, rng: Rng): AdapterLayer {
  const { initR: r, orthRegWeight } = config;
  const scaling = config.loraAlpha / (r + 1e-5);
  return {
    site,
    params: {
      loraA: trained(normalValues(rng.fork('loraA'), [site.inFeatures, r], INITIAL_STD)),
      loraE: trained(hostZeros([r])),
      loraB: trained(normalValues(rng.fork('loraB'), [r, site.outFeatures], INITIAL_STD)),
    },
    state: initialScores(site, config),
    forward(x, p, at) {
      const { loraA, loraE, loraB } = tensorsAt(p, 'loraA', 'loraE', 'loraB');
      const hidden = tf.mul(tf.matMul(x, loraA), loraE); // [rows, in] -> [rows, r]
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

function trained(initial: HostTensor): ParamSpec {
  return { initial, trainable: true, group: 'default', decay: true };
}

function liveTriplets(values: HostTensors): number {
  return nonZeros(tensorAt(values, 'loraE')).length;
}
