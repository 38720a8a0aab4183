import {
  foldDiagonal,
  hostTensor,
  hostZeros,
  kaimingUniform,
  nonZeros,
  normalValues,
  patternValue,
  rankCost,
  tensorAt,
  tensorsAt,
  type AdapterLayer,
  type HostTensor,
  type HostTensors,
  type ParamSpec,
  type Rng,
  type Site,
} from '@peftjs/core';
import * as tf from '@tensorflow/tfjs';
import type { Scalar, Tensor } from '@tensorflow/tfjs';
import type { SoraConfig } from './config.js';
import { referenceThreshold, softThreshold } from './threshold.js';

/*
 * SoRA (Ding et al., 2023, arXiv 2311.11696), in row vectors:
 *
 *   y  = x W0 + b + s ((x A) * g) B      forward      x [rows, in]   A [in, r]   g [r]   B [r, out]
 *   s  = alpha / r, r = r_max, whatever ranks remain
 *   g <- T_t(g after the optimizer)      update       t = eta lambda, or a constant xi: the controller's `threshold`
 *   T_t(x) = sign(x) max(|x| - t, 0)     threshold.ts
 *   dW = s A diag(g) B over I = {i : g_i != 0}        toLora
 *   A ~ U(-1/sqrt(in), 1/sqrt(in)), B = 0, g ~ N(0, 1)
 *   m [r]                                the state `mask`: 0 for the gates that a budget has ruled out for good
 *
 * A gate of zero and B's row of zeros would give each other no gradient ever: B starts from zero, so no gate may.
 */

/** SoRA at one site. `gates` is their number in the whole adapter. */
export function soraLayer(site: Site, config: SoraConfig, rng: Rng, gates: number): AdapterLayer {
  const r = gateCount(site, config);
  const scaling = (patternValue(config.alphaPattern, site.path) ?? config.loraAlpha) / r;
  const threshold = config.proximal === 'soft' ? softThreshold : referenceThreshold;
  return {
    site,
    params: {
      loraA: trained(kaimingUniform(rng.fork('loraA'), site.inFeatures, r)),
      loraB: trained(hostZeros([r, site.outFeatures])),
      gate: { initial: initialGate(config, r, rng.fork('gate')), trainable: true, group: 'gate', decay: false },
    },
    state: { mask: { initial: ones(r) } },
    forward(x, p, at) {
      const { loraA, gate, loraB } = tensorsAt(p, 'loraA', 'gate', 'loraB');
      const hidden = tf.mul(tf.matMul(x, loraA), gate); // [rows, in] -> [rows, r]
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
    storedParameters: (values) => liveGates(values) * rankCost(site),
    rank: liveGates,
  };
}

/** Number of gates of a site. */
export function gateCount(site: Site, { r, rankPattern }: SoraConfig): number {
  return patternValue(rankPattern, site.path) ?? r;
}

/** Gates of one, or a mask that keeps every gate. */
export function ones(r: number): HostTensor {
  return hostTensor(new Float32Array(r).fill(1), [r]);
}

function trained(initial: HostTensor): ParamSpec {
  return { initial, trainable: true, group: 'default', decay: true };
}

function initialGate({ gateInit }: SoraConfig, r: number, rng: Rng): HostTensor {
  return gateInit === 'ones' ? ones(r) : normalValues(rng, [r], 1);
}

function liveGates(values: HostTensors): number {
  return nonZeros(tensorAt(values, 'gate')).length;
}

/** sum |x| with a gradient of zero at zero; that of `tf.abs` is -1 there, which would push dead gates up. */
function absoluteSum(x: Tensor): Scalar {
  return tf.sum(tf.mul(x, tf.sign(x)));
}
