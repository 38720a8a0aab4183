import {
  foldDiagonal,
  hostZeros,
  kaimingUniform,
  nonZeroIndices,
  rankCost,
  scaled,
  tensorAt,
  tensorsAt,
  trained,
  startingRank,
  startingScaling,
  type AdapterLayer,
  type HostTensors,
  type Rng,
  type Site,
  type Tensors,
} from '@peftjs/core/method';
import * as tf from '@tensorflow/tfjs';
import type { Scalar, Tensor } from '@tensorflow/tfjs';
import type { DynamicDoraConfig } from './config.js';

/*
 * Dynamic DoRA (Mao et al., 2024, arXiv 2405.17357), in row vectors; a component is (A_i, c_i, B_i):
 *
 *   y   = x W0 + b + s ((d(x) A) * c) B             forward     x [rows, in]   A [in, r]   c [r]   B [r, out]
 *   d   : dropout during training
 *   s   = alpha / r                                 with the initial r of the module
 *   A   ~ U(-sqrt(6 / in), sqrt(6 / in)), B ~ U(-sqrt(6 / r), sqrt(6 / r)), c = 0
 *   R   = 1 / (2 N) sum_i Var(A_i) + Var(B_i)       loss, times eta until the last pruning; N initial ranks
 *                                                   in all modules; Var is unbiased, within a component
 *   s_i = ||c_i A_i B_i|| / (||A diag(c) B|| + e)   update, of the optimizer's proposal; Frobenius norms, e = 1e-8
 *   S_i <- beta S_i + (1 - beta) s_i                S_i starts from 0
 *   c_i <- 0 where S_i is small                     controller.ts
 *   dW  = s A diag(c) B over {i : c_i != 0}         toLora
 */

/** The name of the noise for the dropout of a module's input. */
const DROPOUT = 'loraDropout';

/** e, which avoids a division by zero. */
const MIN_NORM = 1e-8;

/**
 * Returns the Dynamic DoRA layer of one module.
 * @param allRanks N, the initial number of ranks in all modules
 * @param initial `loraA` [in, r], `loraB` [r, out]
 */
export function dynamicDoraLayer(
  site: Site,
  config: DynamicDoraConfig,
  allRanks: number,
  initial: HostTensors,
): AdapterLayer {
  const { loraA, loraB } = tensorsAt(initial, 'loraA', 'loraB');
  const { beta, demWeight, loraDropout } = config;
  const r = startingRank(site, config);
  const scaling = startingScaling(site, config);
  return {
    site,
    params: { loraA: trained(loraA), loraB: trained(loraB), gate: trained(hostZeros([r])) },
    state: { importance: { initial: hostZeros([r]) } },
    ...(loraDropout > 0 && { noise: [DROPOUT] }),
    forward(x, p, at) {
      const { loraA, gate, loraB } = tensorsAt(p, 'loraA', 'gate', 'loraB');
      const dropped = at.ctx.dropout(`${site.path}.${DROPOUT}`, x, loraDropout);
      const hidden = tf.mul(tf.matMul(dropped, loraA), gate); // [rows, in] -> [rows, r]
      return tf.add(at.base(), tf.mul(tf.matMul(hidden, loraB), scaling)); // [rows, out]
    },
    ...(demWeight > 0 && {
      loss: (p, ctx) => tf.mul(spread(p), tf.mul(ctx.scalar('dem'), demWeight / (2 * allRanks))),
    }),
    update(proposed, { previous }) {
      const before = tensorAt(previous, 'importance');
      return { importance: tf.add(tf.mul(before, beta), tf.mul(shares(proposed), 1 - beta)) }; // [r]
    },
    toLora(values) {
      const { gate, ...factors } = tensorsAt(values, 'loraA', 'loraB', 'gate');
      return foldDiagonal({ ...factors, scaling }, gate);
    },
    counted: ['gate'],
    storedParameters: (values) => liveRanks(values) * rankCost(site),
    rank: liveRanks,
  };
}

/** Returns the initial A and B of a module. */
export function initialTensors(site: Site, config: DynamicDoraConfig, rng: Rng): HostTensors {
  const r = startingRank(site, config);
  const { inFeatures, outFeatures } = site;
  return {
    loraA: scaled(kaimingUniform(rng.fork('loraA'), inFeatures, r), Math.sqrt(6)), // [in, r]
    loraB: scaled(kaimingUniform(rng.fork('loraB'), r, outFeatures), Math.sqrt(6)), // [r, out]
  };
}

/** Returns sum_i Var(A_i) + Var(B_i). */
function spread(p: Tensors): Scalar {
  const { loraA, loraB } = tensorsAt(p, 'loraA', 'loraB');
  return tf.add(tf.sum(variances(loraA, 0)), tf.sum(variances(loraB, 1)));
}

/** Returns the unbiased variances along an axis. The variance of a single entry is zero. */
function variances(x: Tensor, axis: 0 | 1): Tensor {
  const squares = tf.square(tf.sub(x, tf.mean(x, axis, true)));
  return tf.div(tf.sum(squares, axis), Math.max(1, (x.shape[axis] as number) - 1));
}

/**
 * Returns s_i, [r]. The norms do not need a matrix [in, out]: ||c_i A_i B_i|| = |c_i| ||A_i|| ||B_i||, and
 * ||A diag(c) B||^2 = sum_ij c_i c_j (A_i . A_j) (B_i . B_j), which rounding may make negative.
 */
function shares(p: Tensors): Tensor {
  const { loraA, gate, loraB } = tensorsAt(p, 'loraA', 'gate', 'loraB');
  const norms = tf.mul(tf.abs(gate), tf.sqrt(tf.mul(tf.sum(tf.square(loraA), 0), tf.sum(tf.square(loraB), 1)))); // [r]
  const products = tf.mul(tf.matMul(loraA, loraA, true, false), tf.matMul(loraB, loraB, false, true)); // [r, r]
  const squared = tf.sum(tf.mul(products, tf.mul(tf.expandDims(gate, 0), tf.expandDims(gate, 1))));
  return tf.div(norms, tf.add(tf.sqrt(tf.maximum(squared, 0)), MIN_NORM));
}

function liveRanks(values: HostTensors): number {
  return nonZeroIndices(tensorAt(values, 'gate')).length;
}
