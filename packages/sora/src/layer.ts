import {
  foldDiagonal,
  hostTensor,
  hostZeros,
  kaimingUniform,
  nonZeros,
  normalValues,
  patternValue,
  rankCost,
  type AdapterLayer,
  type HostTensor,
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
      const { loraA, gate, loraB } = p as SoraTensors<Tensor>;
      const hidden = tf.mul(tf.matMul(x, loraA), gate); // [rows, in] -> [rows, r]
      return tf.add(at.base(), tf.mul(tf.matMul(hidden, loraB), scaling)); // [rows, out]
    },
    ...(config.l1Weight > 0 && {
      loss: (p) => tf.mul(absoluteSum((p as SoraTensors<Tensor>).gate), config.l1Weight / gates),
    }),
    update(proposed, { previous, ctx }) {
      const shrunk = threshold((proposed as SoraTensors<Tensor>).gate, ctx.scalar('threshold'));
      const kept = tf.greater((previous as SoraTensors<Tensor>).mask, 0);
      return { gate: tf.where(kept, shrunk, tf.zerosLike(shrunk)) }; // [r]
    },
    toLora(values) {
      const { loraA, loraB, gate } = values as SoraTensors<HostTensor>;
      return foldDiagonal({ loraA, loraB, scaling }, gate);
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

interface SoraTensors<T> {
  /** [in, r] */
  readonly loraA: T;
  /** [r, out] */
  readonly loraB: T;
  /** [r] */
  readonly gate: T;
  /** [r]: 1, and 0 for the gates that the budget has ruled out for good. */
  readonly mask: T;
}

function trained(initial: HostTensor): ParamSpec {
  return { initial, trainable: true, group: 'default', decay: true };
}

function initialGate({ gateInit }: SoraConfig, r: number, rng: Rng): HostTensor {
  return gateInit === 'ones' ? ones(r) : normalValues(rng, [r], 1);
}

function liveGates(values: Readonly<Record<string, HostTensor>>): number {
  return nonZeros((values as unknown as SoraTensors<HostTensor>).gate).length;
}

/** sum |x| with a gradient of zero at zero; that of `tf.abs` is -1 there, which would push dead gates up. */
function absoluteSum(x: Tensor): Scalar {
  return tf.sum(tf.mul(x, tf.sign(x)));
}
