import {
  hostZeros,
  kaimingUniform,
  nonZeros,
  pickColumns,
  pickRows,
  rankCost,
  tensorAt,
  tensorsAt,
  trained,
  type AdapterLayer,
  type HostTensors,
  type Rng,
  type Site,
} from '@peftjs/core';
import * as tf from '@tensorflow/tfjs';
import type { AdaloraConfig } from './config.js';
import { DROPOUT } from './layer.js';
import { initialScores, scored } from './scores.js';

/*
 * The paper's ablation: LoRA whose doublets (A_i, B_i) are pruned by AdaLoRA's scores and schedule. In the terms of layer.ts:
 *
 *   y   = x W0 + b + s ((d(x) A) * m) B           forward      m [r] is the mask, s = alpha / r
 *   A   ~ U(-1/sqrt(in), 1/sqrt(in)), B = 0       params
 *   S_i = mean_j s(A_ji) + mean_j s(B_ij)         scores.ts
 *   m_i <- 0 unless S_i is among the b(t) greatest of those that are left     selection.ts
 *   dW  = s A diag(m) B over {i : m_i != 0}       toLora
 *
 * A masked doublet gets no gradient and never comes back; that is what the paper holds against pruning doublets.
 */

/** LoRA at one site, with doublets that a mask takes away. */
export function doubletLayer(site: Site, config: AdaloraConfig, rng: Rng): AdapterLayer {
  const { initR: r, loraDropout } = config;
  const scaling = config.loraAlpha / r;
  return {
    site,
    params: {
      loraA: trained(kaimingUniform(rng.fork('loraA'), site.inFeatures, r)),
      loraB: trained(hostZeros([r, site.outFeatures])),
    },
    state: initialScores(site, config, r),
    ...(loraDropout > 0 && { noise: [DROPOUT] }),
    forward(x, p, at) {
      const { loraA, loraB, mask } = tensorsAt(p, 'loraA', 'loraB', 'mask');
      const dropped = at.ctx.dropout(`${site.path}.${DROPOUT}`, x, loraDropout);
      const hidden = tf.mul(tf.matMul(dropped, loraA), mask); // [rows, in] -> [rows, r]
      return tf.add(at.base(), tf.mul(tf.matMul(hidden, loraB), scaling)); // [rows, out]
    },
    update: (proposed, at) => scored(config, proposed, at),
    toLora(values) {
      const { loraA, loraB } = tensorsAt(values, 'loraA', 'loraB');
      const left = liveDoublets(values);
      return { loraA: pickColumns(loraA, left), loraB: pickRows(loraB, left), scaling };
    },
    storedParameters: (values) => liveDoublets(values).length * rankCost(site),
    rank: (values) => liveDoublets(values).length,
  };
}

function liveDoublets(values: HostTensors): number[] {
  return nonZeros(tensorAt(values, 'mask'));
}
