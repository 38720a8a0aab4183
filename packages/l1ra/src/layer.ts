import { hostTensor } from '@peftjs/core';
import {
  foldDiagonal,
  hostZeros,
  nonZeroIndices,
  normalValues,
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
import type { L1raConfig } from './config.js';

/*
 * L1RA (Singh et al., 2025, arXiv 2509.04884), in row vectors:
 *
 *   y  = x W0 + b + s ((d(x) A) * c) B      forward     x [rows, in]   A [in, r]   c [r]   B [r, out]   d: dropout
 *   s  = alpha / r                          with the initial r of the module
 *   c <- min(max(c' - eta_c lambda, 0), 1)  update      c': c after a step of Adam with the constant rate eta_c
 *   dW = s A diag(c) B                      toLora
 *   A ~ N(0, 1 / r^2), B = 0, c = 1         also for ranks that a module gets later: controller.ts
 */

/** The name of the noise for the dropout of a module's input. */
const DROPOUT = 'loraDropout';

/**
 * Returns the L1RA layer of one module.
 * @param initial `loraA` [in, ranks], `loraB` [ranks, out], `gate` [ranks]: c
 */
export function l1raLayer(site: Site, config: L1raConfig, initial: HostTensors): AdapterLayer {
  const { loraA, loraB, gate } = tensorsAt(initial, 'loraA', 'loraB', 'gate');
  const { etaC, l1raLambda, loraDropout } = config;
  const scaling = startingScaling(site, config);
  return {
    site,
    params: {
      loraA: trained(loraA),
      loraB: trained(loraB),
      gate: { initial: gate, trainable: true, group: 'gate', decay: false, learningRate: etaC },
    },
    ...(loraDropout > 0 && { noise: [DROPOUT] }),
    forward(x, p, at) {
      const { loraA, gate, loraB } = tensorsAt(p, 'loraA', 'gate', 'loraB');
      const dropped = at.ctx.dropout(`${site.path}.${DROPOUT}`, x, loraDropout);
      const hidden = tf.mul(tf.matMul(dropped, loraA), gate); // [rows, in] -> [rows, ranks]
      return tf.add(at.base(), tf.mul(tf.matMul(hidden, loraB), scaling)); // [rows, out]
    },
    update(proposed, { ctx }) {
      const shrunk = tf.sub(tensorAt(proposed, 'gate'), etaC * l1raLambda);
      return { gate: tf.minimum(tf.maximum(shrunk, ctx.scalar('leastGate')), 1) }; // [ranks]
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
export function newRanks(site: Site, count: number, { r }: Pick<L1raConfig, 'r'>, rng: Rng): HostTensors {
  return {
    loraA: normalValues(rng, [site.inFeatures, count], 1 / r),
    loraB: hostZeros([count, site.outFeatures]),
    gate: hostTensor(new Float32Array(count).fill(1), [count]),
  };
}

function liveGates(values: HostTensors): number {
  return nonZeroIndices(tensorAt(values, 'gate')).length;
}
