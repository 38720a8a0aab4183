import { hostTensor } from '@peftjs/core';
import {
  foldDiagonal,
  hostZeros,
  kaimingUniform,
  nonZeros,
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
 *   s  = alpha / r, r = r_max, whatever ranks remain
 *   g <- T_t(g after the optimizer)      update       t = eta lambda, or a constant xi: the controller's `threshold`
 *   T_t(x) = sign(x) max(|x| - t, 0)     softThreshold
 *   dW = s A diag(g) B over I = {i : g_i != 0}        toLora
 *   A ~ U(-1/sqrt(in), 1/sqrt(in)), B = 0, g ~ N(0, 1), or 1
 *   m [r]                                the state `mask`: 0 for the gates that a budget has ruled out for good
 *
 * A gate of zero and B's row of zeros would give each other no gradient ever: B starts from zero, so no gate may.
 */

/** What the dropout of a module's input is called among its noise. */
const DROPOUT = 'loraDropout';

/**
 * SoRA at one site.
 * @param initial `loraA` [in, r], `loraB` [r, out], `gate` [r], `mask` [r]
 * @param gates how many gates the whole adapter began with
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

/** The tensors that a site starts from, r_max ranks of them. */
export function initialTensors(site: Site, config: SoraConfig, rng: Rng): HostTensors {
  const r = gateCount(site, config);
  return {
    loraA: kaimingUniform(rng.fork('loraA'), site.inFeatures, r), // [in, r]
    loraB: hostZeros([r, site.outFeatures]),
    gate: choiceOf(config).gateInit === 'ones' ? ones(r) : normalValues(rng.fork('gate'), [r], 1),
    mask: ones(r),
  };
}

/** r_max of a site: the number of gates it begins with. */
export function gateCount(site: Site, { r, rankPattern }: SoraConfig): number {
  return patternValue(rankPattern, site.path) ?? r;
}

/** The number of gates that an adapter of these sites begins with. */
export function gatesAtStart(sites: readonly Site[], config: SoraConfig): number {
  return sites.reduce((sum, site) => sum + gateCount(site, config), 0);
}

/** The alpha of a site's `alpha / r_max`. */
export function alphaOf(site: Site, { loraAlpha, alphaPattern }: SoraConfig): number {
  return patternValue(alphaPattern, site.path) ?? loraAlpha;
}

/** Gates of one, or a mask that keeps every gate. */
function ones(r: number): HostTensor {
  return hostTensor(new Float32Array(r).fill(1), [r]);
}

function liveGates(values: HostTensors): number {
  return nonZeros(tensorAt(values, 'gate')).length;
}

/** sum |x| with a gradient of zero at zero; that of `tf.abs` is -1 there, which would push dead gates up. */
function absoluteSum(x: Tensor): Scalar {
  return tf.sum(tf.mul(x, tf.sign(x)));
}

/**
 * T_t(x) = sign(x) max(|x| - t, 0), the proximal operator of t |x|. What it makes zero is +0, never -0.
 *
 * @param x any shape
 * @param threshold t >= 0, a number or a scalar
 */
export function softThreshold(x: Tensor, threshold: number | Tensor): Tensor {
  return tf.where(tf.greater(tf.abs(x), threshold), towardsZero(x, threshold), tf.zerosLike(x));
}

/**
 * The operator that SoRA's released code applies: zero below 2 t, but for |x| = t, which stays; sign(x) (|x| - t) from 2 t
 * on. It jumps by t at 2 t, where the proximal operator is continuous. What it makes zero is +0, never -0.
 *
 * @param x any shape
 * @param threshold t >= 0, a number or a scalar
 */
export function referenceThreshold(x: Tensor, threshold: number | Tensor): Tensor {
  const zeros = tf.zerosLike(x);
  const size = tf.abs(x);
  const above = tf.where(tf.greaterEqual(size, tf.mul(threshold, 2)), towardsZero(x, threshold), zeros);
  const kept = tf.where(tf.equal(size, threshold), x, above);
  return tf.where(tf.greater(size, 0), kept, zeros);
}

/** x moved by `step` towards zero. */
function towardsZero(x: Tensor, step: number | Tensor): Tensor {
  return tf.sub(x, tf.mul(tf.sign(x), step));
}

/** Learning rates of a step by optimizer group. */
export type LearningRates = Readonly<Record<string, number>>;

/**
 * The threshold of a step: eta_t * lambda, or xi as it is.
 * @throws TrainingError when the trainer has no learning rate for the gates.
 */
export function thresholdAt({ thresholdMode }: SoraConfig, sparseLambda: number, rates: LearningRates): number {
  return thresholdMode === 'lr' ? sparseLambda * gateRate(rates) : sparseLambda;
}

/** The learning rate of the gates. @throws TrainingError when the trainer has none. */
export function gateRate(rates: LearningRates): number {
  const rate = rates.gate ?? rates.default;
  if (rate !== undefined) return rate;
  const groups = Object.keys(rates).join(', ') || 'none';
  throw new TrainingError(`SoRA needs a learning rate for the group 'gate', got only ${groups}`, 'gate');
}
