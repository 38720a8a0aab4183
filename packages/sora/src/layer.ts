import { hostTensor } from '@peftjs/core';
import {
  foldDiagonal,
  hostZeros,
  kaimingUniform,
  nonZeroIndices,
  normalValues,
  patternValue,
  rankCost,
  tensorAt,
  tensorsAt,
  trained,
  TrainingError,
  type AdapterLayer,
  type HostTensor,
  type HostTensors,
  type Rng,
  type Site,
} from '@peftjs/core/method';
import * as tf from '@tensorflow/tfjs';
import type { Scalar, Tensor } from '@tensorflow/tfjs';
import { choiceOf, type SoraConfig } from './config.js';

/*
 * SoRA (Ding et al., 2023, arXiv 2311.11696), in row vectors:
 *
 *   y  = x W0 + b + s ((d(x) A) * g) B   forward      x [rows, in]   A [in, r]   g [r]   B [r, out]   d: dropout
 *   s  = alpha / r, with the initial r = r_max, no matter how many ranks remain
 *   g <- T_t(g after the optimizer)      update       t = eta lambda, or a constant xi: the controller's `threshold`
 *   T_t(x) = sign(x) max(|x| - t, 0)     softThreshold
 *   dW = s A diag(g) B over I = {i : g_i != 0}        toLora
 *   A ~ U(-1/sqrt(in), 1/sqrt(in)), B = 0, g ~ N(0, 1) or g = 1
 *   m [r]                                the state `mask`: 0 for gates that a budget has pruned for good
 *
 * A zero gate and a zero row of B would never give each other a gradient. B starts from zero, so no gate may.
 */

/** The name of the noise for the dropout of a module's input. */
const DROPOUT = 'loraDropout';

/**
 * Returns the SoRA layer of one module.
 * @param initial `loraA` [in, r], `loraB` [r, out], `gate` [r], `mask` [r]
 * @param gates the initial number of gates in the whole adapter
 */
export function soraLayer(site: Site, config: SoraConfig, gates: number, initial: HostTensors): AdapterLayer {
  const { loraA, loraB, gate, mask } = tensorsAt(initial, 'loraA', 'loraB', 'gate', 'mask');
  const scaling = alphaOf(site, config) / gateCount(site, config);
  const threshold = config.proximal === 'soft' ? softThreshold : referenceThreshold;
  return {
    site,
    params: {
      loraA: trained(loraA),
      loraB: trained(loraB),
      gate: { initial: gate, trainable: true, group: 'gate', decay: false },
    },
    state: { mask: { initial: mask } },
    ...(config.loraDropout > 0 && { noise: [DROPOUT] }),
    forward(x, p, at) {
      const { loraA, gate, loraB } = tensorsAt(p, 'loraA', 'gate', 'loraB');
      const dropped = at.ctx.dropout(`${site.path}.${DROPOUT}`, x, config.loraDropout);
      const hidden = tf.mul(tf.matMul(dropped, loraA), gate); // [rows, in] -> [rows, r]
      return tf.add(at.base(), tf.mul(tf.matMul(hidden, loraB), scaling)); // [rows, out]
    },
    ...(config.l1Weight > 0 && {
      loss: (p) => tf.mul(absoluteSum(tensorAt(p, 'gate')), config.l1Weight / gates),
    }),
    update(proposed, { previous, ctx }) {
      const shrunk = threshold(tensorAt(proposed, 'gate'), ctx.scalar('threshold'));
      const kept = tf.greater(tensorAt(previous, 'mask'), 0);
      return { gate: tf.where(kept, shrunk, tf.zerosLike(shrunk)) }; // [r]
    },
    toLora(values) {
      const { gate, ...factors } = tensorsAt(values, 'loraA', 'loraB', 'gate');
      return foldDiagonal({ ...factors, scaling }, gate);
    },
    counted: ['gate'],
    storedParameters: (values) => liveGates(values) * rankCost(site),
    rank: liveGates,
  };
}

/** Returns the initial tensors of a module, with r_max ranks. */
export function initialTensors(site: Site, config: SoraConfig, rng: Rng): HostTensors {
  const r = gateCount(site, config);
  return {
    loraA: kaimingUniform(rng.fork('loraA'), site.inFeatures, r), // [in, r]
    loraB: hostZeros([r, site.outFeatures]),
    gate: choiceOf(config).gateInit === 'ones' ? ones(r) : normalValues(rng.fork('gate'), [r], 1),
    mask: ones(r),
  };
}

/** Returns r_max of a module: its initial number of gates. */
export function gateCount(site: Site, { r, rankPattern }: SoraConfig): number {
  return patternValue(rankPattern, site.path) ?? r;
}

/** Returns the initial number of gates of an adapter on these modules. */
export function initialGateCount(sites: readonly Site[], config: SoraConfig): number {
  return sites.reduce((sum, site) => sum + gateCount(site, config), 0);
}

/** Returns the alpha of a module in `alpha / r_max`. */
export function alphaOf(site: Site, { loraAlpha, alphaPattern }: SoraConfig): number {
  return patternValue(alphaPattern, site.path) ?? loraAlpha;
}

/** Gates of one, or a mask that keeps every gate. */
function ones(r: number): HostTensor {
  return hostTensor(new Float32Array(r).fill(1), [r]);
}

function liveGates(values: HostTensors): number {
  return nonZeroIndices(tensorAt(values, 'gate')).length;
}

/** sum |x| with a zero gradient at zero. The gradient of `tf.abs` is -1 there, which would push pruned gates up. */
function absoluteSum(x: Tensor): Scalar {
  return tf.sum(tf.mul(x, tf.sign(x)));
}

/**
 * T_t(x) = sign(x) max(|x| - t, 0), the proximal operator of t |x|. Zeros in the result are +0, never -0.
 *
 * @param x any shape
 * @param threshold t >= 0, a number or a scalar tensor
 */
export function softThreshold(x: Tensor, threshold: number | Tensor): Tensor {
  return tf.where(tf.greater(tf.abs(x), threshold), towardsZero(x, threshold), tf.zerosLike(x));
}

/**
 * The operator of SoRA's released code: sign(x) (|x| - t) for |x| >= 2 t and 0 below, except that |x| = t stays as it
 * is. It jumps by t at 2 t, where the proximal operator is continuous. Zeros in the result are +0, never -0.
 *
 * @param x any shape
 * @param threshold t >= 0, a number or a scalar tensor
 */
export function referenceThreshold(x: Tensor, threshold: number | Tensor): Tensor {
  const zeros = tf.zerosLike(x);
  const size = tf.abs(x);
  const above = tf.where(tf.greaterEqual(size, tf.mul(threshold, 2)), towardsZero(x, threshold), zeros);
  const kept = tf.where(tf.equal(size, threshold), x, above);
  return tf.where(tf.greater(size, 0), kept, zeros);
}

/** Moves x towards zero by `step`. */
function towardsZero(x: Tensor, step: number | Tensor): Tensor {
  return tf.sub(x, tf.mul(tf.sign(x), step));
}

/** The learning rates of a step, by optimizer group. */
export type LearningRates = Readonly<Record<string, number>>;

/**
 * Returns the threshold of a step: eta_t * lambda, or xi itself.
 * @throws TrainingError when there is no learning rate for the gates.
 */
export function thresholdAt({ thresholdMode }: SoraConfig, sparseLambda: number, rates: LearningRates): number {
  return thresholdMode === 'lr' ? sparseLambda * gateRate(rates) : sparseLambda;
}

/** Returns the gates' learning rate. @throws TrainingError when there is none. */
export function gateRate(rates: LearningRates): number {
  const rate = rates.gate ?? rates.default;
  if (rate !== undefined) return rate;
  const groups = Object.keys(rates).join(', ') || 'none';
  throw new TrainingError(`SoRA needs a learning rate for the group 'gate', got only ${groups}`, 'gate');
}
