import { hostTensor } from '@peftjs/core';
import {
  foldDiagonal,
  hostZeros,
  kaimingUniform,
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
} from '@peftjs/core/method';
import * as tf from '@tensorflow/tfjs';
import type { AloraConfig } from './config.js';

/*
 * ALoRA (Liu et al., 2024, arXiv 2403.16187), in row vectors:
 *
 *   y  = x W0 + b + s ((d(x) A) * g) B      forward     x [rows, in]   A [in, r]   g [r]   B [r, out]   d: dropout
 *   s  = alpha / r                          with the initial r of the module
 *   dW = s A diag(g) B                      toLora
 *   A ~ U(-1/sqrt(in), 1/sqrt(in)), B = 0, g = 1, also for ranks that a module gets later: controller.ts
 *
 * Gates are not trained. They are 1, except for ranks that a probe leaves out.
 */

/** The name of the noise for the dropout of a module's input. */
const DROPOUT = 'loraDropout';

/**
 * Returns the ALoRA layer of one module.
 * @param initial `loraA` [in, ranks], `loraB` [ranks, out], `gate` [ranks]: g
 */
export function aloraLayer(site: Site, config: AloraConfig, initial: HostTensors): AdapterLayer {
  const { loraA, loraB, gate } = tensorsAt(initial, 'loraA', 'loraB', 'gate');
  const { loraDropout } = config;
  const scaling = startingScaling(site, config);
  return {
    site,
    params: { loraA: trained(loraA), loraB: trained(loraB) },
    state: { gate: { initial: gate } },
    ...(loraDropout > 0 && { noise: [DROPOUT] }),
    forward(x, p, at) {
      const { loraA, gate, loraB } = tensorsAt(p, 'loraA', 'gate', 'loraB');
      const dropped = at.ctx.dropout(`${site.path}.${DROPOUT}`, x, loraDropout);
      const hidden = tf.mul(tf.matMul(dropped, loraA), gate); // [rows, in] -> [rows, ranks]
      return tf.add(at.base(), tf.mul(tf.matMul(hidden, loraB), scaling)); // [rows, out]
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

/** Returns the tensors of `count` new ranks of a module. */
export function newRanks({ inFeatures, outFeatures }: Site, count: number, rng: Rng): HostTensors {
  return {
    loraA: kaimingUniform(rng, inFeatures, count), // [in, count]
    loraB: hostZeros([count, outFeatures]),
    gate: hostTensor(new Float32Array(count).fill(1), [count]),
  };
}

function liveGates(values: HostTensors): number {
  return nonZeroIndices(tensorAt(values, 'gate')).length;
}
