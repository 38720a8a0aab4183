import { hostTensor } from '@peftjs/core';
import {
  changeNoise,
  dropChange,
  fixedLayer,
  floats,
  hostZeros,
  mapValues,
  tensorsAt,
  trained,
  type AdapterLayer,
  type HostTensor,
  type HostTensors,
  type Rng,
  type Site,
} from '@peftjs/core/method';
import { moduleRank, rankCost } from '@peftjs/core/ranks';
import { kaimingUniform, transposed } from '@peftjs/core/linalg';
import * as tf from '@tensorflow/tfjs-core';
import type { LohaConfig } from './config.js';

/*
 * LoHa, low-rank Hadamard product (FedPara: Hyeon-Woo et al., 2022, arXiv 2108.06098, Proposition 1; as a change of a
 * weight LyCORIS: Yeh et al., 2024, arXiv 2309.14859), in row vectors:
 *
 *   dW = s (B1 A1) * (B2 A2)      B1, B2 [in, r]   A1, A2 [r, out]   * is elementwise   s = alpha / r
 *   y  = x W0 + b + x dW          forward          x [rows, in]
 *
 * On disk A1 is `hada_w1_a` [out, r], B1 is `hada_w1_b` [r, in], and so on. B2 starts at zero, the others uniform
 * within 1 / sqrt(fan) as by torch's `kaiming_uniform_`: fan = r for A1 and A2, in for B1.
 *
 * The elementwise product of two matrices of rank r has a rank of at most r^2, and is a LoRA of that rank (toLora):
 *
 *   dW = s L R    L[i, r a + c] = B1[i, a] B2[i, c]   R[r a + c, j] = A1[a, j] A2[c, j]
 */

/** The names of a layer's tensors. */
const TENSORS = ['hadaW1A', 'hadaW1B', 'hadaW2A', 'hadaW2B'] as const;

/** Returns the LoHa layer of one module. */
export function lohaLayer(site: Site, config: LohaConfig, rng: Rng): AdapterLayer {
  const { r, alpha } = moduleRank(config, site.path);
  const scaling = alpha / r;
  const initial = initialTensors(site, r, config, rng);
  return fixedLayer({
    site,
    scaling,
    params: mapValues(initial, (tensor) => trained(tensor)),
    ...changeNoise(config),
    forward(x, p, at) {
      const { hadaW1A, hadaW1B, hadaW2A, hadaW2B } = tensorsAt(p, ...TENSORS);
      const delta = tf.mul(tf.matMul(hadaW1B, hadaW1A), tf.matMul(hadaW2B, hadaW2A)); // [in, out]
      const change = tf.mul(tf.matMul(x, delta), scaling); // [rows, out]
      return tf.add(at.base(), dropChange(change, site, config, at.ctx));
    },
    toLora(values) {
      const { hadaW1A, hadaW1B, hadaW2A, hadaW2B } = tensorsAt(values, ...TENSORS);
      const rows = columnProducts(transposed(hadaW1A), transposed(hadaW2A)); // [out, r r]
      return { loraA: columnProducts(hadaW1B, hadaW2B), loraB: transposed(rows), scaling };
    },
    rank: () => r,
  });
}

/** Returns the parameters of one rank of a module: a row of A and a column of B, twice. */
export function lohaCost(site: Site): number {
  return 2 * rankCost(site);
}

function initialTensors(site: Site, r: number, { initWeights }: LohaConfig, rng: Rng): HostTensors {
  const { inFeatures, outFeatures } = site;
  return {
    hadaW1A: kaimingUniform(rng.fork('hadaW1A'), r, outFeatures),
    hadaW1B: kaimingUniform(rng.fork('hadaW1B'), inFeatures, r),
    hadaW2A: kaimingUniform(rng.fork('hadaW2A'), r, outFeatures),
    hadaW2B: initWeights ? hostZeros([inFeatures, r]) : kaimingUniform(rng.fork('hadaW2B'), inFeatures, r),
  };
}

/** Returns all products of a column of `first` [rows, a] and one of `second` [rows, c]: [rows, a c]. */
function columnProducts(first: HostTensor, second: HostTensor): HostTensor {
  const [rows, a] = first.shape as [number, number];
  const c = second.shape[1] as number;
  const [left, right] = [floats(first), floats(second)];
  const products = Float32Array.from({ length: rows * a * c }, (_, index) => {
    const row = Math.floor(index / (a * c));
    return (left[Math.floor(index / c)] as number) * (right[row * c + (index % c)] as number);
  });
  return hostTensor(products, [rows, a * c]);
}
