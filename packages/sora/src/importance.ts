import {
  hostZeros,
  tensorAt,
  tensorsAt,
  type AdapterLayers,
  type HostTensors,
  type OfRanks,
  type StateSpec,
  type StepContext,
  type Tensors,
  type UpdateContext,
} from '@peftjs/core/method';
import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import type { SoraConfig } from './config.js';
import { gateGroups, ones, rankSizes, vector } from './gates.js';

/*
 * How much a rank i matters:
 *
 *   'magnitude'      I_i = |g_i| ||A_i|| ||B_i||           how much it changes the weight, at the moment of asking
 *   'sensitivity'    m_i = |g_i dL/dg_i|                   what the loss loses with it, to first order (Molchanov et al., 2017,
 *                                                          arXiv 1611.06440; AdaLoRA's eq. 10, of the gate)
 *   'fisher'         m_i = 1/2 (g_i dL/dg_i)^2             to second order, the Hessian being the empirical Fisher (Theis et al.,
 *                                                          2018, arXiv 1801.05787)
 *   'contribution'   m_i = - dL/dA_i . dA_i - dL/dB_i . dB_i - dL/dg_i dg_i
 *                                                          the share of the rank in the fall of the loss, along the path that
 *                                                          training took (Zenke et al., 2017, arXiv 1703.04200, eq. 4)
 *
 *   I_i <- beta I_i + m_i    at every step after the warm-up: AdaLoRA's eq. 11 up to the factor 1 - beta, which no choice depends
 *                            on. The state `importance` [r].
 *
 * Gradients are those of the step, at the values before it, after clipping. All are the same whatever the parts that g, A and B
 * have in the size of g A B, the last one but for what the optimizer makes of these parts.
 *
 *   w_i = mean(I) / I_i     the weight of the threshold of gate i, the mean over all gates that live: the adaptive lasso (Zou, 2006,
 *                           J. Am. Stat. Assoc. 101, eq. 4). The state `thresholdWeight` [r]: the controller sets it.
 */

/** The importance that is measured step by step; `'magnitude'` needs no state. */
export function isMeasured({ importance }: Pick<SoraConfig, 'importance'>): boolean {
  return importance !== 'magnitude';
}

/** The untrained tensors of a layer of r gates that its options ask for. */
export function choiceState(
  config: Pick<SoraConfig, 'importance' | 'weightedThreshold'>,
  r: number,
): Record<string, StateSpec> {
  return {
    ...(isMeasured(config) && { importance: { initial: hostZeros([r]) } }),
    ...(config.weightedThreshold && { thresholdWeight: { initial: ones(r) } }),
  };
}

/** The importance after a step that ends with `next`; it stands still while the scalar `measuring` is 0. */
export function measured(config: SoraConfig, next: Tensors, at: UpdateContext): Tensors {
  const before = tensorAt(at.previous, 'importance');
  const now = measure(config, next, at); // [r]
  const change = tf.add(tf.mul(before, config.importanceBeta - 1), now);
  return { importance: tf.add(before, tf.mul(measuring(at.ctx), change)) };
}

function measuring(ctx: StepContext): Tensor {
  return ctx.scalar('measuring');
}

function measure({ importance }: SoraConfig, next: Tensors, { previous, gradient }: UpdateContext): Tensor {
  const { gate } = tensorsAt(previous, 'gate');
  const effect = tf.mul(gate, tensorAt(gradient, 'gate')); // [r]
  if (importance === 'sensitivity') return tf.abs(effect);
  if (importance === 'fisher') return tf.mul(0.5, tf.square(effect));
  const fall = (name: string): Tensor =>
    tf.mul(tensorAt(gradient, name), tf.sub(tensorAt(previous, name), tensorAt(next, name)));
  const factors = tf.add(tf.sum(fall('loraA'), 0), tf.sum(fall('loraB'), 1)); // [in, r], [r, out] -> [r]
  return tf.add(factors, fall('gate'));
}

/** What a dead gate's size counts as when it competes: less than any living one, so that only its factors tell it from others. */
const DEAD_SIZE = 1e-9;

/** The tensors of a layer that `importances` reads. */
export function importanceNames(path: string, config: Pick<SoraConfig, 'importance'>): string[] {
  const names = isMeasured(config) ? ['gate', 'importance'] : ['gate', 'loraA', 'loraB'];
  return names.map((name) => `${path}.${name}`);
}

/**
 * The importance of every rank, at least zero, by module path.
 * @throws ShapeError when a tensor is missing.
 */
export function importances(layers: AdapterLayers, values: HostTensors, config: SoraConfig): OfRanks {
  if (isMeasured(config)) {
    const groups = gateGroups(layers, values);
    return Object.fromEntries(
      groups.map(({ path }) => [
        path,
        Array.from(tensorAt(values, `${path}.importance`).data, (value) => Math.max(0, value)),
      ]),
    );
  }
  const sizes = Object.entries(rankSizes({ layers, values }));
  return Object.fromEntries(
    sizes.map(([path, ranks]) => [
      path,
      ranks.map(({ gate, normA, normB }) => (Math.abs(gate) || DEAD_SIZE) * normA * normB),
    ]),
  );
}

/** How far a weight of a threshold may be from 1, as a factor: no gate is shrunk at once, and none never. */
const WEIGHT_RANGE = 10;

/**
 * The weights of the thresholds by the ranks' importance: `<path>.thresholdWeight` [r]. Ones while no living rank has any.
 * @param values what `importanceNames` names
 */
export function thresholdWeights(layers: AdapterLayers, values: HostTensors, config: SoraConfig): HostTensors {
  const importance = importances(layers, values, config);
  const living = gateGroups(layers, values).flatMap(({ path, gate }) =>
    Array.from(tensorAt(importance, path)).filter((_, rank) => gate[rank] !== 0),
  );
  const mean = living.reduce((sum, each) => sum + each, 0) / living.length;
  const weight = (own: number): number => Math.min(WEIGHT_RANGE, Math.max(1 / WEIGHT_RANGE, mean / own));
  return Object.fromEntries(
    Object.entries(importance).map(([path, own]) => [
      `${path}.thresholdWeight`,
      vector(Array.from(own, (each) => (mean > 0 ? weight(each) : 1))),
    ]),
  );
}
