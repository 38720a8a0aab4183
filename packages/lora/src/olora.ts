import { qr, transposed, type HostTensor, type LoraFactors } from '@peftjs/core';
import type { Scaled } from './ranks.js';

/*
 * OLoRA (Büyükakyüz, 2024, arXiv 2406.01775), in row vectors:
 *
 *   W0^T = Q R                          Q [out, k]   R [k, in]
 *   A = R_r^T                           [in, r], the first r rows of R
 *   B = Q_r^T                           [r, out], the first r columns of Q: orthonormal
 */

/** The leading part of a weight `[in, out]` as factors of rank r. @throws ConfigError when the weight is not finite. */
export function oloraFactors(weight: HostTensor, { r, scaling }: Scaled): LoraFactors {
  const { q, r: triangle } = qr(transposed(weight), r); // [out, r], [r, in]
  return { loraA: transposed(triangle), loraB: transposed(q), scaling };
}
