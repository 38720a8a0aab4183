import {
  loraDelta,
  symmetricInverse,
  hostTensor,
  tensorAt,
  transposed,
  ConfigError,
  type HostTensor,
} from '@peftjs/core';
import * as tf from '@tensorflow/tfjs';
import type { LoraLayer } from './layer.js';

/*
 * LoRA-FA (Zhang et al., 2023, arXiv 2308.03303) with the gradient of PEFT's optimizer, in row vectors:
 *
 *   A stays as it starts
 *   g_B <- (A^T A + delta I)^-1 g_B / s^2          g_B = s A^T G   [r, out], G = dL/dW [in, out]
 *
 * so that s A g_B = P G: of all changes that B can make, the one nearest to the gradient of the whole weight. P projects
 * on the columns of A.
 */

/** delta, PEFT's. */
const RIDGE = 1e-8;

/** What the inverse is called among a layer's state. */
export const GRAM_INVERSE = 'gramInverse';

/** The layer with A frozen. @throws ConfigError when the rank exceeds what A reads, so that A has no full rank. */
export function withFrozenA(layer: LoraLayer): LoraLayer {
  const { site, params, r, scaling } = layer;
  if (r > site.inFeatures) {
    throw new ConfigError(`lora: loraFa needs r <= ${site.inFeatures}, what '${site.path}' reads, got ${r}`, 'r');
  }
  const loraA = tensorAt(params, 'loraA');
  return {
    ...layer,
    params: { ...params, loraA: { ...loraA, trainable: false } },
    state: { ...layer.state, [GRAM_INVERSE]: { initial: gramInverse(loraA.initial) } },
    gradient: (name, gradient, p) =>
      name === 'loraB' ? tf.mul(tf.matMul(tensorAt(p, GRAM_INVERSE), gradient), 1 / scaling ** 2) : gradient, // [r, out]
  };
}

/** (A^T A + delta I)^-1 `[r, r]` of A `[in, r]`. It belongs to an A: whoever sets the one sets the other. */
export function gramInverse(loraA: HostTensor): HostTensor {
  const r = loraA.shape[1] as number;
  const gram = loraDelta({ loraA: transposed(loraA), loraB: loraA, scaling: 1 });
  return symmetricInverse(hostTensor(gram, [r, r]), { ridge: RIDGE });
}
