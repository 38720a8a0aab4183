import {
  hostZeros,
  kaimingUniform,
  normalValues,
  patternValue,
  rankCost,
  tensorsAt,
  type AdapterLayer,
  type HostTensor,
  type ParamSpec,
  type Rng,
  type Site,
} from '@peftjs/core';
import * as tf from '@tensorflow/tfjs';
import type { LoraConfig } from './config.js';

/*
 * LoRA (Hu et al., 2021, arXiv 2106.09685), in row vectors:
 *
 *   y  = x W0 + b + s (x A) B       forward          x [rows, in]   A [in, r]   B [r, out]
 *   dW = s A B                      toLora           s = alpha / r, or alpha / sqrt(r) (rsLoRA)
 *   A ~ U(-1/sqrt(in), 1/sqrt(in)), B = 0            initialA, initialB
 */

/** LoRA at one site. */
export function loraLayer(site: Site, config: LoraConfig, rng: Rng): AdapterLayer {
  const r = patternValue(config.rankPattern, site.path) ?? config.r;
  const alpha = patternValue(config.alphaPattern, site.path) ?? config.loraAlpha;
  const scaling = alpha / (config.useRslora ? Math.sqrt(r) : r);
  return {
    site,
    params: {
      loraA: trained(initialA(config, site, r, rng)),
      loraB: trained(initialB(config, site, r, rng)),
    },
    forward(x, p, at) {
      const { loraA, loraB } = tensorsAt(p, 'loraA', 'loraB');
      const hidden = tf.matMul(x, loraA); // [rows, in] -> [rows, r]
      return tf.add(at.base(), tf.mul(tf.matMul(hidden, loraB), scaling)); // [rows, out]
    },
    toLora: (values) => ({ ...tensorsAt(values, 'loraA', 'loraB'), scaling }),
    storedParameters: () => r * rankCost(site),
    rank: () => r,
  };
}

function trained(initial: HostTensor): ParamSpec {
  return { initial, trainable: true, group: 'default', decay: true };
}

function initialA({ initLoraWeights }: LoraConfig, { inFeatures }: Site, r: number, rng: Rng): HostTensor {
  if (initLoraWeights === 'gaussian') return normalValues(rng, [inFeatures, r], 1 / r);
  return kaimingUniform(rng, inFeatures, r);
}

function initialB({ initLoraWeights }: LoraConfig, { outFeatures }: Site, r: number, rng: Rng): HostTensor {
  if (initLoraWeights === false) return kaimingUniform(rng, r, outFeatures); // B's inputs are the ranks
  return hostZeros([r, outFeatures]);
}
