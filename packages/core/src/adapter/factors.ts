import { ShapeError } from '../errors.js';
import type { LoraFactors } from '../contracts/method.js';
import type { Rng } from '../rng.js';
import { floats, hostTensor, sizeOf, type HostTensor } from '../tensors.js';

/** dW = scaling * A B, `[in, out]`, summed in double precision. @throws ShapeError when A and B differ in rank. */
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
 * scaling * A diag(d) B as plain factors: ranks whose entry of d is zero are dropped, the others' entries go into B.
 * The change of the weight stays the same, and so does the scaling.
 */
export function foldDiagonal(factors: LoraFactors, diagonal: HostTensor): LoraFactors {
  const kept = nonZeros(diagonal);
  const entries = kept.map((rank) => floats(diagonal)[rank] as number);
  const outFeatures = factors.loraB.shape[1] as number;
  const loraB = pickRows(factors.loraB, kept); // [r, out] -> [kept, out]
  const folded = floats(loraB).map((value, index) => value * (entries[Math.floor(index / outFeatures)] as number));
  return { ...factors, loraA: pickColumns(factors.loraA, kept), loraB: hostTensor(folded, loraB.shape) };
}

/** Indices of the entries that are not exactly zero. */
export function nonZeros(tensor: HostTensor): number[] {
  return [...tensor.data].flatMap((value, index) => (value === 0 ? [] : [index]));
}

/** The rows named, in that order: `[rows, columns]` -> `[picked, columns]`. */
export function pickRows(matrix: HostTensor, picked: readonly number[]): HostTensor {
  const columns = matrixShape(matrix)[1];
  const from = floats(matrix);
  const to = new Float32Array(picked.length * columns);
  picked.forEach((row, index) => to.set(from.subarray(row * columns, (row + 1) * columns), index * columns));
  return hostTensor(to, [picked.length, columns]);
}

/** The columns named, in that order: `[rows, columns]` -> `[rows, picked]`. */
export function pickColumns(matrix: HostTensor, picked: readonly number[]): HostTensor {
  const [rows, columns] = matrixShape(matrix);
  const from = floats(matrix);
  const to = Float32Array.from(
    { length: rows * picked.length },
    (_, index) =>
      from[Math.floor(index / picked.length) * columns + (picked[index % picked.length] as number)] as number,
  );
  return hostTensor(to, [rows, picked.length]);
}

/** Puts rows at the places named among `rows`, zeros elsewhere: `[places, columns]` -> `[rows, columns]`. */
export function placeRows(matrix: HostTensor, places: readonly number[], rows: number): HostTensor {
  const columns = matrixShape(matrix)[1];
  const from = floats(matrix);
  const to = new Float32Array(rows * columns);
  places.forEach((place, row) => to.set(from.subarray(row * columns, (row + 1) * columns), place * columns));
  return hostTensor(to, [rows, columns]);
}

/** Euclidean norm of each row: `[rows, columns]` -> rows numbers. */
export function rowNorms(matrix: HostTensor): number[] {
  const [rows, columns] = matrixShape(matrix);
  const values = floats(matrix);
  return Array.from({ length: rows }, (_, row) =>
    Math.sqrt(values.subarray(row * columns, (row + 1) * columns).reduce((sum, value) => sum + value * value, 0)),
  );
}

/** A down projection `[inFeatures, r]`: uniform within 1 / sqrt(in), torch's `kaiming_uniform_(a = sqrt(5))`. */
export function kaimingUniform(rng: Rng, inFeatures: number, r: number): HostTensor {
  const bound = 1 / Math.sqrt(inFeatures);
  const data = Float32Array.from({ length: inFeatures * r }, () => bound * (2 * rng.uniform() - 1));
  return hostTensor(data, [inFeatures, r]);
}

/** Independent normal values of mean zero. */
export function normalValues(rng: Rng, shape: readonly number[], std: number): HostTensor {
  const data = Float32Array.from({ length: sizeOf(shape) }, () => std * rng.normal());
  return hostTensor(data, shape);
}

function matrixShape({ shape }: HostTensor, name = 'matrix'): [number, number] {
  const [rows, columns] = shape;
  if (shape.length !== 2 || rows === undefined || columns === undefined) {
    throw new ShapeError(`${name} must be a matrix, got shape [${shape.join(', ')}]`, name);
  }
  return [rows, columns];
}
