import {
  foldDiagonal,
  hostZeros,
  normalValues,
  nonZeroIndices,
  rankCost,
  tensorAt,
  tensorsAt,
  trained,
  startingScaling,
  type AdapterLayer,
  type HostTensors,
  type Rng,
  type Site,
  type Tensors,
  type UpdateContext,
} from '@peftjs/core/method';
import * as tf from '@tensorflow/tfjs';
import type { Scalar, Tensor } from '@tensorflow/tfjs';
import type { ElaLoraConfig } from './config.js';

/*
 * ElaLoRA (Chang et al., 2025, arXiv 2504.00254), in row vectors; a rank is (A_i, E_i, B_i), and E is called `gate`:
 *
 *   y    = x W0 + b + s ((d(x) A) * E) B                 forward   x [rows, in]   A [in, r]   E [r]   B [r, out]
 *   d    : dropout during training
 *   s    = alpha / r                                     with the initial r of the module
 *   A, B ~ N(0, 0.02^2), E = 0
 *   R    = 1 / (2 n) sum ||A^T A - I|| + ||B B^T - I||   loss, times a weight; Frobenius norms, over n modules
 *
 *   I    = |w dL/dw|                                     update    for every entry w of A, E and B; w after the step,
 *                                                                  dL/dw before it
 *   Ibar <- beta1 Ibar + (1 - beta1) I
 *   Ubar <- beta2 Ubar + (1 - beta2) |I - Ibar|                    with the new Ibar
 *   S_i  = s(E_i) + mean_j s(A_ji) + mean_j s(B_ij)                s(w) = Ibar Ubar
 *
 *   dW   = s A diag(E) B                                 toLora
 *
 * Ranks move between modules by S: controller.ts.
 */

/** The name of the noise for the dropout of a module's input. */
const DROPOUT = 'loraDropout';

/** The standard deviation of the initial A and B. */
const INITIAL_STD = 0.02;

const FACTORS = ['loraA', 'gate', 'loraB'] as const;
type Factor = (typeof FACTORS)[number];

/**
 * Returns the ElaLoRA layer of one module.
 * @param initial `loraA` [in, ranks], `gate` [ranks], `loraB` [ranks, out]
 */
export function elaLoraLayer(site: Site, config: ElaLoraConfig, initial: HostTensors): AdapterLayer {
  const { loraA, gate, loraB } = tensorsAt(initial, ...FACTORS);
  const { loraDropout, orthRegWeight } = config;
  const scaling = startingScaling(site, config);
  const scores = Object.entries(noScores({ loraA, gate, loraB }));
  return {
    site,
    params: { loraA: trained(loraA), gate: trained(gate), loraB: trained(loraB) },
    state: Object.fromEntries(scores.map(([name, zeros]) => [name, { initial: zeros }])),
    ...(loraDropout > 0 && { noise: [DROPOUT] }),
    forward(x, p, at) {
      const { loraA, gate, loraB } = tensorsAt(p, ...FACTORS);
      const dropped = at.ctx.dropout(`${site.path}.${DROPOUT}`, x, loraDropout);
      const hidden = tf.mul(tf.matMul(dropped, loraA), gate); // [rows, in] -> [rows, ranks]
      return tf.add(at.base(), tf.mul(tf.matMul(hidden, loraB), scaling)); // [rows, out]
    },
    ...(orthRegWeight > 0 && {
      loss: (p, ctx) => tf.mul(distanceFromOrthonormal(p), orthRegWeight / (2 * ctx.layers)),
    }),
    update: (proposed, at) => scored(config, proposed, at),
    toLora(values) {
      const { gate, ...factors } = tensorsAt(values, ...FACTORS);
      return foldDiagonal({ ...factors, scaling }, gate);
    },
    counted: ['gate'],
    storedParameters: (values) => liveRanks(values) * rankCost(site),
    rank: liveRanks,
  };
}

/** Returns the initial tensors of `ranks` ranks of a module. */
export function initialTensors({ inFeatures, outFeatures }: Site, ranks: number, rng: Rng): HostTensors {
  return {
    loraA: normalValues(rng.fork('loraA'), [inFeatures, ranks], INITIAL_STD),
    gate: hostZeros([ranks]),
    loraB: normalValues(rng.fork('loraB'), [ranks, outFeatures], INITIAL_STD),
  };
}

/** Returns zero scores for new ranks: S and the averages behind it, by their names in the layer. */
export function noScores(factors: Readonly<Record<Factor, { readonly shape: readonly number[] }>>): HostTensors {
  const averages = FACTORS.flatMap((factor) => [
    [smoothedName(factor), hostZeros(factors[factor].shape)] as const,
    [uncertaintyName(factor), hostZeros(factors[factor].shape)] as const,
  ]);
  return { ...Object.fromEntries(averages), importance: hostZeros(factors.gate.shape) };
}

/** ||A^T A - I|| + ||B B^T - I||. */
function distanceFromOrthonormal(p: Tensors): Scalar {
  const { loraA, loraB } = tensorsAt(p, 'loraA', 'loraB');
  const columns = tf.matMul(loraA, loraA, true, false); // [in, r] -> [r, r]
  const rows = tf.matMul(loraB, loraB, false, true); // [r, out] -> [r, r]
  return tf.add(norm(tf.sub(columns, tf.eye(columns.shape[0]))), norm(tf.sub(rows, tf.eye(rows.shape[0]))));
}

/** A norm with a finite slope at zero, so that orthonormal factors do not give NaN. */
function norm(x: Tensor): Tensor {
  return tf.sqrt(tf.add(tf.sum(tf.square(x)), 1e-12));
}

/** Returns the scores after a step that proposes these tensors. */
function scored({ beta1, beta2 }: ElaLoraConfig, proposed: Tensors, { previous, gradient }: UpdateContext): Tensors {
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

function liveRanks(values: HostTensors): number {
  return nonZeroIndices(tensorAt(values, 'gate')).length;
}

function smoothedName(factor: Factor): string {
  return `smoothedSensitivity.${factor}`;
}

function uncertaintyName(factor: Factor): string {
  return `uncertainty.${factor}`;
}
