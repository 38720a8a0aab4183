import {
  hostTensor,
  hostZeros,
  tensorAt,
  type Site,
  type StateSpec,
  type Tensors,
  type UpdateContext,
} from '@peftjs/core';
import * as tf from '@tensorflow/tfjs';
import type { Scalar, Tensor } from '@tensorflow/tfjs';
import type { AdaloraConfig } from './config.js';

/*
 * How much a triplet (A_i, E_i, B_i) matters, in the step that has just been taken:
 *
 *   I = |w dL/dw|                                     sensitivity (eq. 10); w and its gradient before the step, the gradient
 *                                                     clipped and with the orthogonality term in it
 *   Ibar <- beta1 Ibar + (1 - beta1) I                smoothed sensitivity (eq. 11)
 *   Ubar <- beta2 Ubar + (1 - beta2) |I - Ibar|       uncertainty, of the new Ibar (eq. 12)
 *   s = Ibar Ubar                                     (eq. 13)
 *   S_i = s(E_i) + mean over column i of s(A) + mean over row i of s(B)               (eq. 9)
 */

const FACTORS = ['loraA', 'loraE', 'loraB'] as const;
type Factor = (typeof FACTORS)[number];

/** The untrained tensors of a layer: the smoothed scores it needs, every triplet's importance [r], and the mask [r]. */
export function initialScores(
  { inFeatures, outFeatures }: Pick<Site, 'inFeatures' | 'outFeatures'>,
  { initR: r, importance }: Pick<AdaloraConfig, 'initR' | 'importance'>,
): Record<string, StateSpec> {
  const shapes: Record<Factor, number[]> = { loraA: [inFeatures, r], loraE: [r], loraB: [r, outFeatures] };
  const smoothed =
    importance !== 'smoothed-sensitivity'
      ? []
      : FACTORS.flatMap((factor) => [
          [smoothedName(factor), { initial: hostZeros(shapes[factor]) }] as const,
          [uncertaintyName(factor), { initial: hostZeros(shapes[factor]) }] as const,
        ]);
  return {
    ...Object.fromEntries(smoothed),
    importance: { initial: hostZeros([r]) },
    mask: { initial: hostTensor(new Float32Array(r).fill(1), [r]) },
  };
}

/** The scores after a step. While `frozen` is 1 they stay as they were. */
export function scored(config: AdaloraConfig, proposed: Tensors, at: UpdateContext): Tensors {
  const frozen = at.ctx.scalar('frozen');
  const before = tensorAt(at.previous, 'importance');
  const hold = (now: Tensor): Tensor => tf.add(tf.mul(now, tf.sub(1, frozen)), tf.mul(before, frozen)); // [r]
  switch (config.importance) {
    case 'magnitude':
      return { importance: hold(tf.abs(tensorAt(proposed, 'loraE'))) };
    case 'sensitivity':
      return { importance: hold(ofTriplets((factor) => sensitivity(at, factor))) };
    case 'smoothed-sensitivity':
      return smoothedScores(config, at, frozen, hold);
  }
}

function smoothedScores(
  { beta1, beta2 }: AdaloraConfig,
  at: UpdateContext,
  frozen: Scalar,
  hold: (now: Tensor) => Tensor,
): Tensors {
  const live = tf.sub(1, frozen);
  const [rate1, rate2] = [tf.mul(live, 1 - beta1), tf.mul(live, 1 - beta2)];
  const next: Tensors = {};
  const importance = ofTriplets((factor) => {
    const { previous } = at;
    const raw = sensitivity(at, factor);
    const smoothed = towards(tensorAt(previous, smoothedName(factor)), raw, rate1);
    const deviation = tf.abs(tf.sub(raw, smoothed));
    const uncertainty = towards(tensorAt(previous, uncertaintyName(factor)), deviation, rate2);
    next[smoothedName(factor)] = smoothed;
    next[uncertaintyName(factor)] = uncertainty;
    return tf.mul(smoothed, uncertainty);
  });
  return { ...next, importance: hold(importance) };
}

/** The scores of A [in, r], E [r] and B [r, out] as one score for each triplet, [r]. */
function ofTriplets(score: (factor: Factor) => Tensor): Tensor {
  const [down, middle, up] = FACTORS.map(score) as [Tensor, Tensor, Tensor];
  return tf.add(middle, tf.add(tf.mean(down, 0), tf.mean(up, 1))); // [r], [in, r] -> [r], [r, out] -> [r]
}

function sensitivity({ previous, gradient }: UpdateContext, factor: Factor): Tensor {
  return tf.abs(tf.mul(tensorAt(previous, factor), tensorAt(gradient, factor)));
}

/** from + rate (to - from) */
function towards(from: Tensor, to: Tensor, rate: Tensor): Tensor {
  return tf.add(from, tf.mul(rate, tf.sub(to, from)));
}

function smoothedName(factor: Factor): string {
  return `smoothedSensitivity.${factor}`;
}

function uncertaintyName(factor: Factor): string {
  return `uncertainty.${factor}`;
}
