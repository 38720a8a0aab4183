import { hostZeros, normalValues, tensorsAt, trained, type AdapterLayer, type Rng, type Site } from '@peftjs/core';
import { gelu, linear } from '@peftjs/core/nn';
import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';

/*
 * The bottleneck adapter (Houlsby et al., 2019, arXiv 1902.00751), in row vectors:
 *
 *   h' = h + f(h D + d) U + u           h [rows, out]: the module's output, bias included
 *   D ~ N(0, std^2) [out, m]   d = 0 [m]
 *   U ~ N(0, std^2) [m, out]   u = 0 [out]        with a small std h' starts near h
 *
 * It stores m (2 out + 1) + out numbers; without u, where a budget has no room for it, m (2 out + 1).
 */

/** f by name. */
export const nonLinearities = { gelu_new: geluNew, gelu, relu: tf.relu<Tensor>, swish } as const;

/** The name of f: a function of single numbers. */
export type NonLinearity = keyof typeof nonLinearities;

/** What an adapter is made of besides its site. */
export interface BottleneckShape {
  /** m */
  readonly bottleneck: number;
  readonly nonLinearity: NonLinearity;
  /** Standard deviation of D and U at the start. */
  readonly initStd: number;
  /** Whether there is u. */
  readonly hasUpBias: boolean;
}

/** An adapter after one module. */
export function bottleneckLayer(
  site: Site,
  { bottleneck, nonLinearity, initStd, hasUpBias }: BottleneckShape,
  rng: Rng,
): AdapterLayer {
  const { outFeatures } = site;
  const weight = (shape: readonly number[]) => trained(normalValues(rng, shape, initStd));
  const bias = (size: number) => trained(hostZeros([size]), { decay: false });
  return {
    site,
    params: {
      down: weight([outFeatures, bottleneck]),
      downBias: bias(bottleneck),
      up: weight([bottleneck, outFeatures]),
      ...(hasUpBias && { upBias: bias(outFeatures) }),
    },
    forward(_x, p, at) {
      const { down, downBias, up } = tensorsAt(p, 'down', 'downBias', 'up');
      const h = at.base(); // [rows, out]
      const hidden = nonLinearities[nonLinearity](linear(h, down, downBias)); // [rows, out] -> [rows, m]
      return tf.add(h, linear(hidden, up, p.upBias)); // [rows, out]
    },
    storedParameters: () => bottleneck * unitCost(site) + (hasUpBias ? biasCost(site) : 0),
  };
}

/** What one unit of the bottleneck stores: a column of D, its bias, a row of U. */
export function unitCost({ outFeatures }: Site): number {
  return 2 * outFeatures + 1;
}

/** What an adapter stores besides its units: u. */
export function biasCost({ outFeatures }: Site): number {
  return outFeatures;
}

/** x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2: the Gaussian error linear unit by its tanh approximation. */
function geluNew(x: Tensor): Tensor {
  const cubed = tf.mul(x, tf.square(x));
  const inner = tf.mul(tf.add(x, tf.mul(cubed, 0.044715)), Math.sqrt(2 / Math.PI));
  return tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(inner), 1));
}

/** x sigmoid(x) */
function swish(x: Tensor): Tensor {
  return tf.mul(x, tf.sigmoid(x));
}
