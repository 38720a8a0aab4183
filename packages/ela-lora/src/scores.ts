import { hostZeros, tensorAt, type HostTensors, type Tensors, type UpdateContext } from '@peftjs/core/method';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import type { ElaLoraConfig } from './config.js';

/*
 * The importance of a rank, for every entry w of A, E and B; w after the step, dL/dw before it:
 *
 *   I    = |w dL/dw|
 *   Ibar <- beta1 Ibar + (1 - beta1) I
 *   Ubar <- beta2 Ubar + (1 - beta2) |I - Ibar|                    with the new Ibar
 *   S_i  = s(E_i) + mean_j s(A_ji) + mean_j s(B_ij)                s(w) = Ibar Ubar
 */

/** The tensors of a rank that are scored. */
export const FACTORS = ['loraA', 'gate', 'loraB'] as const;
type Factor = (typeof FACTORS)[number];

/** Returns zero scores for new ranks: S and the averages behind it, by their names in the layer. */
export function noScores(factors: Readonly<Record<Factor, { readonly shape: readonly number[] }>>): HostTensors {
  const names = [smoothedName, uncertaintyName];
  const averages = FACTORS.flatMap((factor) => names.map((name) => [name(factor), hostZeros(factors[factor].shape)]));
  return { ...(Object.fromEntries(averages) as HostTensors), importance: hostZeros(factors.gate.shape) };
}

/** Returns the scores after a step that proposes these tensors. */
export function scored(
  { beta1, beta2 }: ElaLoraConfig,
  proposed: Tensors,
  { previous, gradient }: UpdateContext,
): Tensors {
  const averages: Tensors = {};
  const products = FACTORS.map((factor) => {
    const raw = tf.abs(tf.mul(tensorAt(proposed, factor), tensorAt(gradient, factor)));
    const smoothed = mixed(tensorAt(previous, smoothedName(factor)), raw, beta1);
    const deviation = tf.abs(tf.sub(raw, smoothed));
    const uncertainty = mixed(tensorAt(previous, uncertaintyName(factor)), deviation, beta2);
    averages[smoothedName(factor)] = smoothed;
    averages[uncertaintyName(factor)] = uncertainty;
    return tf.mul(smoothed, uncertainty);
  });
  const [ofA, ofE, ofB] = products as [Tensor, Tensor, Tensor];
  return { ...averages, importance: tf.add(ofE, tf.add(tf.mean(ofA, 0), tf.mean(ofB, 1))) }; // [r]
}

/** beta old + (1 - beta) next. */
function mixed(old: Tensor, next: Tensor, beta: number): Tensor {
  return tf.add(tf.mul(old, beta), tf.mul(next, 1 - beta));
}

const smoothedName = (factor: Factor): string => `smoothedSensitivity.${factor}`;
const uncertaintyName = (factor: Factor): string => `uncertainty.${factor}`;
