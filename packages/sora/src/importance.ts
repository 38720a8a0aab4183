import {
  floats,
  hostZeros,
  tensorAt,
  tensorsAt,
  type AdapterLayers,
  type HostTensors,
  type OfRanks,
  type StateSpec,
  type UpdateContext,
} from '@peftjs/core/method';
import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import type { SoraConfig } from './config.js';
import { gateGroups, ones, rankSizes, vector } from './gates.js';

/*
 * How much a rank i matters:
 *
 *   'magnitude'     I_i = |g_i| ||A_i|| ||B_i||                     how much it changes the weight, at the moment of asking
 *   'sensitivity'   I_i <- beta I_i + (1 - beta) |g_i dL/dg_i|      what the loss loses with it, to first order, smoothed: AdaLoRA's
 *                                                                   eq. 10 and 11 (Zhang et al., 2023, arXiv 2303.10512), of the gate
 *                                                                   alone, from the end of the warm-up on. The state `importance` [r]
 *
 * Both are the same whatever the parts that g, A and B have in the size of g A B. dL/dg is that of the step, at the gate before it, after
 * clipping.
 *
 *   w_i = mean(I) / I_i     the weight of the threshold of gate i, the mean over all gates that live: the adaptive lasso (Zou, 2006,
 *                           J. Am. Stat. Assoc. 101, eq. 4). The state `thresholdWeight` [r]: the controller sets it.
 */

/** beta: AdaLoRA's default. */
const SMOOTHING = 0.85;

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

/** The importance [r] after a step; it stands still while the scalar `measuring` is 0. */
export function measured({ previous, gradient, ctx }: UpdateContext): Tensor {
  const { gate, importance } = tensorsAt(previous, 'gate', 'importance');
  const sensitivity = tf.abs(tf.mul(gate, tensorAt(gradient, 'gate')));
  const rate = tf.mul(ctx.scalar('measuring'), 1 - SMOOTHING);
  return tf.add(importance, tf.mul(rate, tf.sub(sensitivity, importance)));
}

/** What a dead gate's size counts as when it competes: less than any living one, so that only its factors tell it from others. */
const DEAD_SIZE = 1e-9;

/** The tensors of a layer that `importances` reads. */
export function importanceNames(path: string, config: Pick<SoraConfig, 'importance'>): string[] {
  const names = isMeasured(config) ? ['gate', 'importance'] : ['gate', 'loraA', 'loraB'];
  return names.map((name) => `${path}.${name}`);
}

/**
 * The importance of every rank by module path.
 * @throws ShapeError when a tensor is missing.
 */
export function importances(layers: AdapterLayers, values: HostTensors, config: SoraConfig): OfRanks {
  if (isMeasured(config)) {
    const groups = gateGroups(layers, values);
    return Object.fromEntries(groups.map(({ path }) => [path, floats(tensorAt(values, `${path}.importance`))]));
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
