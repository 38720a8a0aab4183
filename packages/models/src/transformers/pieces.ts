/** Reads a weight in pieces straight into the memory that it is held in: beside it there are never more than a few MB of it. */
import { hostTensor } from '@peftjs/core';
import { isQuantized, quantizedColumns, sizeOf, type HostTensor } from '@peftjs/core/method';
import { toFloat32, type SafetensorsFile, type TensorSpec } from '@peftjs/safetensors';
import { firstNotFinite, notFinite } from '../architecture.js';
import type { Precision } from '../checkpoint.js';

/** A weight as the file holds it; that of a linear module is [out, in] there, but in transformers' Conv1D. */
export interface StoredWeight extends TensorSpec {
  readonly key: string;
  readonly transposed: boolean;
}

/** What a weight is called, in which file, and how it is held. */
interface Wanted {
  readonly name: string;
  readonly path: string;
  readonly precision: Precision;
}

/** One weight as it is held, [in, out]. @throws CheckpointError when it is not finite. */
export async function readWeight(
  file: SafetensorsFile,
  stored: StoredWeight,
  { name, path, precision }: Wanted,
): Promise<HostTensor> {
  const { add, weight } = begun(stored, precision.quantizes(name));
  let memory: Float32Array | undefined;
  for await (const { start, rows } of file.pieces(stored.key)) {
    const values = toFloat32(rows, memory);
    memory ??= values;
    const wrong = firstNotFinite(values);
    if (wrong >= 0) throw notFinite(path, name, positionOf(stored, start, wrong), values[wrong]);
    add(values, start);
  }
  return isQuantized(weight) ? weight : precision.hold(name, weight);
}

/** A weight that takes its stored rows, of which `start` is the first. */
interface Begun {
  readonly weight: HostTensor;
  add(rows: Float32Array, start: number): void;
}

/** The scales of 8 bits are those of stored rows; a matrix that is stored as it is held is quantised when all of it is there. */
function begun({ shape, transposed }: StoredWeight, quantizes: boolean): Begun {
  const [outer = 1, width = 1] = shape;
  if (transposed && quantizes) return quantizedColumns(width, outer);
  const data = new Float32Array(sizeOf(shape));
  const size = data.length / outer;
  const copy = (rows: Float32Array, start: number): void => data.set(rows, start * size);
  if (!transposed) return { weight: hostTensor(data, shape), add: copy };
  return {
    weight: hostTensor(data, [width, outer]), // [out, in] -> [in, out]
    add(rows, start) {
      const count = rows.length / width;
      for (let column = 0; column < width; column++) {
        const to = column * outer + start;
        for (let row = 0; row < count; row++) data[to + row] = rows[row * width + column] as number;
      }
    },
  };
}

/** Where a value of a piece stands in the weight as it is held. */
function positionOf({ shape, transposed }: StoredWeight, start: number, at: number): number {
  const [outer = 1, ...row] = shape;
  const width = sizeOf(row);
  return transposed ? (at % width) * outer + start + Math.floor(at / width) : start * width + at;
}
