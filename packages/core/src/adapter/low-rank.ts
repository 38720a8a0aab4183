import { ConfigError } from '../errors.js';
import type { LoraFactors } from '../contracts/method.js';
import { qr } from '../linalg/qr.js';
import { truncatedSvd, type TruncatedSvd } from '../linalg/truncated-svd.js';
import { floats, hostTensor, transposed, type HostTensor } from '../tensors.js';
import { loraDelta, pickColumns, scaleColumns, scaleRows } from './factors.js';

/** How many ranks an approximation keeps: a number, or as few as hold a share of the squared norm. */
export type RankChoice = { readonly rank: number } | { readonly energy: number };

/** The rank that a search for an energy begins with; it doubles until it is enough. */
const FIRST_RANK = 8;

/**
 * The best approximation of a matrix `[in, out]` by plain factors (Eckart and Young, 1936), scaling 1: A = U_k, B = diag(s_k) V_k^T.
 * @throws ConfigError for an impossible choice.
 */
export function nearestFactors(matrix: HostTensor, choice: RankChoice): LoraFactors {
  assertChoice(choice);
  const most = Math.min(...matrix.shape);
  if ('rank' in choice) return factorsOf(truncatedSvd(matrix, choice.rank), Math.min(choice.rank, most));
  const whole = floats(matrix).reduce((sum, value) => sum + value * value, 0);
  for (let rank = Math.min(FIRST_RANK, most); ; rank = Math.min(2 * rank, most)) {
    const svd = truncatedSvd(matrix, rank);
    const enough = ranksFor(svd.s, choice.energy * whole);
    if (enough !== undefined || rank === most) return factorsOf(svd, enough ?? most);
  }
}

/** The same for factors: by the SVD of the small matrix between their orthonormal bases, A B = Q_A (R_A R_B^T) Q_B^T. */
export function fewerRanks({ loraA, loraB, scaling }: LoraFactors, choice: RankChoice): LoraFactors {
  assertChoice(choice);
  if (loraA.shape[1] === 0) return { loraA, loraB, scaling };
  const left = qr(loraA); // [in, k], [k, r]
  const right = qr(transposed(loraB)); // [out, l], [l, r]
  const middle = product(left.r, transposed(right.r), scaling); // [k, l]
  const { loraA: inner, loraB: outer } = nearestFactors(middle, choice);
  return { loraA: product(left.q, inner), loraB: product(outer, transposed(right.q)), scaling: 1 };
}

/** Factors in the basis of their singular vectors, and how gradients of the former ones turn into gradients of these. */
export interface SingularFactors extends LoraFactors {
  /** Of scaling * A B, descending: one for every rank that A and B may have, the smaller side at most. */
  readonly singularValues: readonly number[];
  /** dL/dA' = dL/dA turnA, turnA [r, k]. */
  readonly turnA: HostTensor;
  /** dL/dB' = turnB dL/dB, turnB [k, r]. */
  readonly turnB: HostTensor;
}

/** Values below this share of the largest are zero but for rounding. */
const NOTHING = 1e-7;

/**
 * The same change of a weight in its singular basis: A B = U S V^T with A' = U S^1/2 [in, k] and B' = S^1/2 V^T [k, out], so that
 * the first n columns and rows are the best approximation of rank n. The scaling stays. Where S is zero, A' = U and B' = 0.
 */
export function singularFactors({ loraA, loraB, scaling }: LoraFactors): SingularFactors {
  const left = qr(loraA); // A = Q_A R_A: [in, l], [l, r]
  const right = qr(transposed(loraB)); // B^T = Q_B R_B: [out, m], [m, r]
  const middle = product(left.r, transposed(right.r)); // [l, m]
  const { u, s, v } = truncatedSvd(middle, Math.min(...middle.shape)); // [l, k], k, [m, k]
  const roots = Array.from(s, (value) => (value > NOTHING * (s[0] as number) ? Math.sqrt(value) : 0));
  const inverses = roots.map((root) => (root > 0 ? 1 / root : 0));
  return {
    loraA: product(
      left.q,
      scaleColumns(
        u,
        roots.map((root) => root || 1),
      ),
    ),
    loraB: scaleRows(transposed(product(right.q, v)), roots),
    scaling,
    singularValues: Array.from(s, (value) => Math.abs(scaling) * value),
    turnA: scaleColumns(product(transposed(left.r), u), inverses), // B' = S^-1/2 U^T R_A B, transposed
    turnB: scaleRows(transposed(product(transposed(right.r), v)), inverses), // A' = A R_B^T V S^-1/2, transposed
  };
}

function factorsOf({ u, s, v }: TruncatedSvd, rank: number): LoraFactors {
  const kept = Array.from({ length: rank }, (_, index) => index);
  return { loraA: pickColumns(u, kept), loraB: scaleRows(transposed(pickColumns(v, kept)), s), scaling: 1 };
}

/** How many of the singular values hold `wanted` of the squared norm; undefined when all of them do not. */
function ranksFor(values: ArrayLike<number>, wanted: number): number | undefined {
  let sum = 0;
  for (let rank = 0; rank <= values.length; rank++) {
    if (sum >= wanted) return rank;
    sum += (values[rank] ?? 0) ** 2;
  }
  return undefined;
}

/** scaling times the product of two matrices, `[rows, inner]` and `[inner, columns]`. */
export function product(left: HostTensor, right: HostTensor, scaling = 1): HostTensor {
  const shape = [left.shape[0] as number, right.shape[1] as number];
  return hostTensor(loraDelta({ loraA: left, loraB: right, scaling }), shape);
}

function assertChoice(choice: RankChoice): void {
  if ('rank' in choice) {
    if (Number.isInteger(choice.rank) && choice.rank >= 1) return;
    throw new ConfigError(`rank must be a whole number of at least 1, got ${choice.rank}`, 'rank');
  }
  if (choice.energy > 0 && choice.energy <= 1) return;
  throw new ConfigError(`energy must be a share above 0 and at most 1, got ${choice.energy}`, 'energy');
}
