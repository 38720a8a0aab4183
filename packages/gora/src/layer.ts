import { hostTensor } from '@peftjs/core';
import {
  hostZeros,
  kaimingUniform,
  loraDelta,
  patternValue,
  rankLayer,
  symmetricInverse,
  tensorAt,
  transposed,
  type AdapterLayer,
  type HostTensor,
  type HostTensors,
  type Rng,
  type Site,
} from '@peftjs/core/method';
import type { GoraConfig } from './config.js';

/*
 * GoRA (He et al., 2025, arXiv 2502.12171), in row vectors. G [in, out] is the loss's gradient at W0, averaged over
 * some batches:
 *
 *   y  = x W0 + b + s (x A) B                      forward        x [rows, in]   A [in, r]   B [r, out]
 *   s  = alpha / sqrt(r)                           goraLayer      r is the module's own rank: ranks.ts
 *   dW = s A B                                     toLora
 *   A  ~ U(-1/sqrt(in), 1/sqrt(in))
 *   B0 = -xi (A^T A)^-1 A^T G                      alongGradient  xi = gamma sqrt(in) / alpha
 *
 * At the start dW = -gamma sqrt(in / r) P G, where P projects onto the columns of A: a step down the gradient with a
 * size of about gamma ||G|| for any r.
 */

/** Added to the diagonal of A^T A, as in the released code. */
const RIDGE = 1e-8;

/**
 * Returns the GoRA layer of one module, with its own rank.
 * @param initial `loraA` [in, r], `loraB` [r, out]
 */
export function goraLayer(site: Site, config: GoraConfig, initial: HostTensors): AdapterLayer {
  const r = tensorAt(initial, 'loraA').shape[1] as number;
  return rankLayer(site, {
    initial,
    scaling: alphaOf(site, config) / Math.sqrt(r),
    train: { loraA: {}, loraB: { rateFactor: config.loraplusLrRatio } },
  });
}

/** Returns a random A, and B against the gradient G [in, out], or a zero B without a gradient. */
export function initialTensors(
  site: Site,
  r: number,
  config: GoraConfig,
  rng: Rng,
  gradient?: HostTensor,
): HostTensors {
  const loraA = kaimingUniform(rng, site.inFeatures, r); // [in, r]
  if (!gradient) return { loraA, loraB: hostZeros([r, site.outFeatures]) };
  const xi = (config.gamma * Math.sqrt(site.inFeatures)) / alphaOf(site, config);
  return { loraA, loraB: alongGradient(loraA, gradient, -xi) };
}

/** Returns factor (A^T A)^-1 A^T G, [r, out]: the least-squares coordinates of G in the columns of A. */
export function alongGradient(loraA: HostTensor, gradient: HostTensor, factor: number): HostTensor {
  const turned = transposed(loraA); // [r, in]
  const inverse = symmetricInverse(product(turned, loraA), { ridge: RIDGE }); // [r, r]
  return product(inverse, product(turned, gradient), factor); // [r, out]
}

function product(left: HostTensor, right: HostTensor, factor = 1): HostTensor {
  const data = loraDelta({ loraA: left, loraB: right, scaling: factor });
  return hostTensor(data, [left.shape[0] as number, right.shape[1] as number]);
}

function alphaOf({ path }: Site, { loraAlpha, alphaPattern }: GoraConfig): number {
  return patternValue(alphaPattern, path) ?? loraAlpha;
}
