import { scaleColumns, transposed, truncatedSvd, type HostTensor, type LoraFactors } from '@peftjs/core';
import type { Scaled } from './ranks.js';

/*
 * PiSSA (Meng et al., 2024, arXiv 2404.02948), in row vectors:
 *
 *   W0 = U S V^T                        U [in, k]   V [out, k]
 *   A  = U_r sqrt(S_r / s)              [in, r]
 *   B  = sqrt(S_r / s) V_r^T            [r, out], so that s A B is the best approximation of W0 by rank r
 */

/** The principal part of a weight `[in, out]` as factors of rank r. @throws ConfigError when the weight is not finite. */
export function pissaFactors(weight: HostTensor, { r, scaling }: Scaled): LoraFactors {
  const { u, s, v } = truncatedSvd(weight, r);
  const roots = s.map((value) => Math.sqrt(value / scaling));
  return { loraA: scaleColumns(u, roots), loraB: transposed(scaleColumns(v, roots)), scaling };
}
