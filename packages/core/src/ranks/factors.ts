import { ConfigError, ShapeError } from '../errors.js';
import type { LoraFactors } from '../contracts/layer.js';
import type { Rng } from '../rng.js';
import { floats, hostTensor, joinedFloats, mapTensor, sizeOf, transposed, type HostTensor } from '../tensors.js';
import { checkRank } from '../linalg/matrix.js';
import { qr } from '../linalg/qr.js';
import { truncatedSvd, type TruncatedSvd } from '../linalg/truncated-svd.js';

/**
 * Returns dW = scaling * A B, `[in, out]`, summed in double precision. @throws ShapeError when A and B differ in rank.
 */
export function loraDelta({ loraA, loraB, scaling }: LoraFactors): Float32Array {
  const [inFeatures, r] = matrixShape(loraA, 'loraA');
  const [rows, outFeatures] = matrixShape(loraB, 'loraB');
  if (r !== rows) {
    throw new ShapeError(`loraA [in, ${r}] and loraB [${rows}, out] must have the same rank`, 'loraB');
  }
  const [a, b] = [floats(loraA), floats(loraB)];
  const delta = new Float32Array(inFeatures * outFeatures);
  const row = new Float64Array(outFeatures);
  for (let input = 0; input < inFeatures; input++) {
    row.fill(0);
    for (let rank = 0; rank < r; rank++) {
      const factor = scaling * (a[input * r + rank] as number);
      for (let output = 0; output < outFeatures; output++) {
        row[output] = (row[output] as number) + factor * (b[rank * outFeatures + output] as number);
      }
    }
    delta.set(row, input * outFeatures);
  }
  return delta;
}

/**
 * Returns scaling * A diag(d) B as plain factors. Ranks with d = 0 are dropped; the other entries of d are multiplied
 * into B. The weight's change and the scaling stay the same.
 */
export function foldDiagonal(factors: LoraFactors, diagonal: HostTensor): LoraFactors {
  const kept = nonZeroIndices(diagonal);
  const entries = kept.map((rank) => floats(diagonal)[rank] as number);
  const loraB = scaleRows(pickRows(factors.loraB, kept), entries); // [r, out] -> [kept, out]
  return { ...factors, loraA: pickColumns(factors.loraA, kept), loraB };
}

/**
 * Returns the factors of the sum of two changes of one weight, with their ranks concatenated: A [in, r + r'], B [r +
 * r', out]. The scaling is the first one's; the second one's is multiplied into its B. A negative second scaling gives
 * the difference.
 */
export function joinFactors(first: LoraFactors, second: LoraFactors): LoraFactors {
  if (first.scaling === 0) return joinFactors({ ...first, loraB: scaled(first.loraB, 0), scaling: 1 }, second);
  const loraB = scaled(second.loraB, second.scaling / first.scaling);
  return {
    loraA: joinColumns(first.loraA, second.loraA),
    loraB: stackRows(first.loraB, loraB),
    scaling: first.scaling,
  };
}

/** Returns the indices of the entries that are not exactly zero. */
export function nonZeroIndices(tensor: HostTensor): number[] {
  return [...tensor.data].flatMap((value, index) => (value === 0 ? [] : [index]));
}

/** Returns the given rows, in that order: `[rows, columns]` -> `[picked, columns]`. */
export function pickRows(matrix: HostTensor, picked: readonly number[]): HostTensor {
  const columns = matrixShape(matrix)[1];
  const from = floats(matrix);
  const to = new Float32Array(picked.length * columns);
  picked.forEach((row, index) => to.set(from.subarray(row * columns, (row + 1) * columns), index * columns));
  return hostTensor(to, [picked.length, columns]);
}

/** Returns the given columns, in that order: `[rows, columns]` -> `[rows, picked]`. */
export function pickColumns(matrix: HostTensor, picked: readonly number[]): HostTensor {
  return transposed(pickRows(transposed(matrix), picked));
}

/** Multiplies every entry by `factor`. */
export function scaled(tensor: HostTensor, factor: number): HostTensor {
  return mapTensor(tensor, (value) => value * factor);
}

/** Multiplies each row of `[rows, columns]` by its scale; one scale per row. */
export function scaleRows(matrix: HostTensor, scales: ArrayLike<number>): HostTensor {
  const columns = matrixShape(matrix)[1];
  return mapTensor(matrix, (value, index) => value * (scales[Math.floor(index / columns)] as number));
}

/** Multiplies each column of `[rows, columns]` by its scale; one scale per column. */
export function scaleColumns(matrix: HostTensor, scales: ArrayLike<number>): HostTensor {
  const columns = matrixShape(matrix)[1];
  return mapTensor(matrix, (value, index) => value * (scales[index % columns] as number));
}

/**
 * Copies rows to the given indices of a matrix of `rows` rows, zeros elsewhere:
 * `[places, columns]` -> `[rows, columns]`.
 */
export function placeRows(matrix: HostTensor, places: readonly number[], rows: number): HostTensor {
  const columns = matrixShape(matrix)[1];
  const from = floats(matrix);
  const to = new Float32Array(rows * columns);
  places.forEach((place, row) => to.set(from.subarray(row * columns, (row + 1) * columns), place * columns));
  return hostTensor(to, [rows, columns]);
}

/**
 * Copies columns to the given indices of a matrix of `columns` columns, zeros elsewhere:
 * `[rows, places]` -> `[rows, columns]`.
 */
export function placeColumns(matrix: HostTensor, places: readonly number[], columns: number): HostTensor {
  return transposed(placeRows(transposed(matrix), places, columns));
}

/** Returns the Euclidean norm of each row of `[rows, columns]`. */
export function rowNorms(matrix: HostTensor): number[] {
  const [rows, columns] = matrixShape(matrix);
  const values = floats(matrix);
  return Array.from({ length: rows }, (_, row) =>
    Math.sqrt(values.subarray(row * columns, (row + 1) * columns).reduce((sum, value) => sum + value * value, 0)),
  );
}

/** Draws a down projection `[inFeatures, r]`, uniform within 1 / sqrt(in): torch's `kaiming_uniform_(a = sqrt(5))`. */
export function kaimingUniform(rng: Rng, inFeatures: number, r: number): HostTensor {
  return uniformValues(rng, [inFeatures, r], 1 / Math.sqrt(inFeatures));
}

/** Draws independent values, uniform within `bound` of zero. */
export function uniformValues(rng: Rng, shape: readonly number[], bound: number): HostTensor {
  const data = Float32Array.from({ length: sizeOf(shape) }, () => bound * (2 * rng.uniform() - 1));
  return hostTensor(data, shape);
}

/** Draws independent normal values of mean 0 and standard deviation `std`. */
export function normalValues(rng: Rng, shape: readonly number[], std: number): HostTensor {
  const data = Float32Array.from({ length: sizeOf(shape) }, () => std * rng.normal());
  return hostTensor(data, shape);
}

/** Puts two matrices side by side: [rows, a] and [rows, b] -> [rows, a + b]. */
export function joinColumns(left: HostTensor, right: HostTensor): HostTensor {
  return transposed(stackRows(transposed(left), transposed(right)));
}

/** Puts one matrix above another: [a, columns] and [b, columns] -> [a + b, columns]. */
export function stackRows(above: HostTensor, below: HostTensor): HostTensor {
  const [rows, columns] = matrixShape(above);
  const [more, width] = matrixShape(below);
  if (columns !== width) throw new ShapeError(`cannot stack rows of ${columns} and ${width} numbers`, 'rows');
  return hostTensor(joinedFloats([floats(above), floats(below)]), [rows + more, columns]);
}

function matrixShape({ shape }: HostTensor, name = 'matrix'): [number, number] {
  const [rows, columns] = shape;
  if (shape.length !== 2 || rows === undefined || columns === undefined) {
    throw new ShapeError(`${name} must be a matrix, got shape [${shape.join(', ')}]`, name);
  }
  return [rows, columns];
}

/**
 * How many ranks an approximation keeps: a number, or the fewest whose share of the squared norm reaches `energy` (0 to
 * 1).
 */
export type RankChoice = { readonly rank: number } | { readonly energy: number };

/** The first rank tried for an energy; it doubles until it is enough. */
const FIRST_RANK = 8;

/**
 * Returns the best approximation of a matrix `[in, out]` by plain factors (Eckart and Young, 1936), with scaling 1: A =
 * U_k, B = diag(s_k) V_k^T.
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

/**
 * Reduces the rank of factors in the same way, by the SVD of the small matrix between their orthonormal bases: A B =
 * Q_A (R_A R_B^T) Q_B^T.
 */
export function reduceRank({ loraA, loraB, scaling }: LoraFactors, choice: RankChoice): LoraFactors {
  assertChoice(choice);
  if (loraA.shape[1] === 0) return { loraA, loraB, scaling };
  const left = qr(loraA); // [in, k], [k, r]
  const right = qr(transposed(loraB)); // [out, l], [l, r]
  const middle = matrixProduct(left.r, transposed(right.r), scaling); // [k, l]
  const { loraA: inner, loraB: outer } = nearestFactors(middle, choice);
  return { loraA: matrixProduct(left.q, inner), loraB: matrixProduct(outer, transposed(right.q)), scaling: 1 };
}

/**
 * Factors in the basis of their singular vectors, with the matrices that turn gradients of the original factors into
 * theirs.
 */
export interface SingularFactors extends LoraFactors {
  /**
   * Singular values of scaling * A B, descending: one for every rank that A and B may have, at most the smaller side.
   */
  readonly singularValues: readonly number[];
  /** dL/dA' = dL/dA turnA, turnA [r, k]. */
  readonly turnA: HostTensor;
  /** dL/dB' = turnB dL/dB, turnB [k, r]. */
  readonly turnB: HostTensor;
}

/** Values below this share of the largest are rounding errors of zero. */
const NOTHING = 1e-7;

/**
 * Returns the same change of a weight in its singular basis: A B = U S V^T with A' = U S^1/2 [in, k] and B' = S^1/2 V^T
 * [k, out], so that the first n columns and rows are the best approximation of rank n. The scaling stays. Where S is
 * zero, A' = U and B' = 0.
 */
export function singularFactors({ loraA, loraB, scaling }: LoraFactors): SingularFactors {
  const left = qr(loraA); // A = Q_A R_A: [in, l], [l, r]
  const right = qr(transposed(loraB)); // B^T = Q_B R_B: [out, m], [m, r]
  const middle = matrixProduct(left.r, transposed(right.r)); // [l, m]
  const { u, s, v } = truncatedSvd(middle, Math.min(...middle.shape)); // [l, k], k, [m, k]
  const roots = Array.from(s, (value) => (value > NOTHING * (s[0] as number) ? Math.sqrt(value) : 0));
  const inverses = roots.map((root) => (root > 0 ? 1 / root : 0));
  const ofA = roots.map((root) => root || 1);
  return {
    loraA: matrixProduct(left.q, scaleColumns(u, ofA)),
    loraB: scaleRows(transposed(matrixProduct(right.q, v)), roots),
    scaling,
    singularValues: Array.from(s, (value) => Math.abs(scaling) * value),
    turnA: scaleColumns(matrixProduct(transposed(left.r), u), inverses), // B' = S^-1/2 U^T R_A B, transposed
    turnB: scaleRows(transposed(matrixProduct(transposed(right.r), v)), inverses), // A' = A R_B^T V S^-1/2, transposed
  };
}

function factorsOf({ u, s, v }: TruncatedSvd, rank: number): LoraFactors {
  const kept = Array.from({ length: rank }, (_, index) => index);
  return { loraA: pickColumns(u, kept), loraB: scaleRows(transposed(pickColumns(v, kept)), s), scaling: 1 };
}

/**
 * Returns how many of the singular values hold `wanted` of the squared norm; undefined when even all of them do not.
 */
function ranksFor(values: ArrayLike<number>, wanted: number): number | undefined {
  let sum = 0;
  for (let rank = 0; rank <= values.length; rank++) {
    if (sum >= wanted) return rank;
    sum += (values[rank] ?? 0) ** 2;
  }
  return undefined;
}

/** Returns scaling times the product of two matrices, `[rows, inner]` and `[inner, columns]`. */
export function matrixProduct(left: HostTensor, right: HostTensor, scaling = 1): HostTensor {
  const shape = [left.shape[0] as number, right.shape[1] as number];
  return hostTensor(loraDelta({ loraA: left, loraB: right, scaling }), shape);
}

function assertChoice(choice: RankChoice): void {
  if ('rank' in choice) {
    checkRank(choice.rank);
    return;
  }
  if (choice.energy > 0 && choice.energy <= 1) return;
  throw new ConfigError(`energy must be a share above 0 and at most 1, got ${choice.energy}`, 'energy');
}
