import {
  ConfigError,
  hostTensor,
  loraDelta,
  normalValues,
  pickRows,
  qr,
  transposed,
  type HostTensor,
  type LoraFactors,
  type Rng,
  type Site,
} from '@peftjs/core';
import type { Scaled } from './ranks.js';

/*
 * Orthogonal start, as PEFT has it, in row vectors:
 *
 *   Q [r, r] orthogonal                 of the QR decomposition of a normal matrix
 *   A = X Q_odd / 10                    [in, r]     X [in, r / 2] normal, Q_odd the rows 0, 2, .. of Q
 *   B = Q_even^T Y / 10                 [r, out]    Y [r / 2, out] normal, Q_even the rows 1, 3, ..
 *
 * Neither is zero, and A B = X Q_odd Q_even^T Y / 100 = 0.
 */

/** Factors whose product is zero. @throws ConfigError when the rank is odd. */
export function orthogonalFactors(site: Site, { r, scaling }: Scaled, rng: Rng): LoraFactors {
  if (r % 2 !== 0) {
    throw new ConfigError(
      `lora: initLoraWeights 'orthogonal' needs an even rank, '${site.path}' has ${r}`,
      'rankPattern',
    );
  }
  const half = Array.from({ length: r / 2 }, (_, index) => index);
  const { q } = qr(normalValues(rng, [r, r], 1));
  const odd = pickRows(
    q,
    half.map((index) => 2 * index),
  ); // [r / 2, r]
  const even = pickRows(
    q,
    half.map((index) => 2 * index + 1),
  ); // [r / 2, r]
  const x = normalValues(rng, [site.inFeatures, r / 2], 1);
  const y = normalValues(rng, [r / 2, site.outFeatures], 1);
  return { loraA: product(x, odd), loraB: product(transposed(even), y), scaling };
}

/** A tenth of a matrix product. */
function product(left: HostTensor, right: HostTensor): HostTensor {
  const shape = [left.shape[0] as number, right.shape[1] as number];
  return hostTensor(loraDelta({ loraA: left, loraB: right, scaling: 0.1 }), shape);
}
