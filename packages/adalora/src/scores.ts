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
 * How much a triplet matters in the step that has just been taken, by the equations of layer.ts. What they take:
 *
 *   dL/dw   at the weights before the step, of the whole loss (the orthogonality term is in it), after clipping
 *   w       the weight before the step, as that is where dL/dw was taken (allocator 'paper'), or after it, before any mask
 *           ('released')
 *   |E_i|   after the step: importance 'magnitude'
 *
 * While the scalar `scoring` is 0 the scores stand still. Doublets have no E: their score is the sum without it.
 */

type Factor = 'loraA' | 'loraE' | 'loraB';

const FACTORS: Record<AdaloraConfig['parametrization'], readonly Factor[]> = {
  svd: ['loraE', 'loraA', 'loraB'],
  lora: ['loraA', 'loraB'],
};

/** A factor's scores as one for each rank [r]. */
const OF_RANKS: Record<Factor, (scores: Tensor) => Tensor> = {
  loraE: (scores) => scores, // [r]
  loraA: (scores) => tf.mean(scores, 0), // [in, r] -> [r]
  loraB: (scores) => tf.mean(scores, 1), // [r, out] -> [r]
};

/** The untrained tensors of a layer: the smoothed scores it needs, every rank's importance [r], and the mask [r]. */
export function initialScores(
  { inFeatures, outFeatures }: Pick<Site, 'inFeatures' | 'outFeatures'>,
  { parametrization, importance }: Pick<AdaloraConfig, 'parametrization' | 'importance'>,
  r: number,
): Record<string, StateSpec> {
  const shapes: Record<Factor, number[]> = { loraA: [inFeatures, r], loraE: [r], loraB: [r, outFeatures] };
  const smoothed = importance === 'smoothed-sensitivity' ? FACTORS[parametrization] : [];
  const averages = smoothed.flatMap((factor) => [
    [smoothedName(factor), { initial: hostZeros(shapes[factor]) }] as const,
    [uncertaintyName(factor), { initial: hostZeros(shapes[factor]) }] as const,
  ]);
  return {
    ...Object.fromEntries(averages),
    importance: { initial: hostZeros([r]) },
    mask: { initial: hostTensor(new Float32Array(r).fill(1), [r]) },
  };
}

/** The scores after a step that proposes these tensors. */
export function scored(config: AdaloraConfig, proposed: Tensors, at: UpdateContext): Tensors {
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
      return { importance: held(ofRanks(config, sensitivity)) };
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
  const importance = ofRanks(config, (factor) => {
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

/** The scores of A [in, r], E [r] and B [r, out] as one score for each rank, [r]. */
function ofRanks({ parametrization }: AdaloraConfig, scores: (factor: Factor) => Tensor): Tensor {
  return FACTORS[parametrization].map((factor) => OF_RANKS[factor](scores(factor))).reduce((a, b) => tf.add(a, b));
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
