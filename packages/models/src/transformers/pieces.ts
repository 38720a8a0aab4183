/** Reads a weight in pieces directly into its final memory, with only a few MB of additional memory. */
import { hostTensor } from '@peftjs/core';
import { sizeOf, type HostTensor } from '@peftjs/core/method';
import { isQuantized, quantizedFilling, type QuantizedForm } from '@peftjs/core/model';
import { toFloat32, type TensorSpec } from '@peftjs/safetensors';
import type { WeightsFile } from '../folder.js';
import { firstNotFinite, notFinite } from '../architecture.js';
import type { Precision } from '../checkpoint.js';

/** A weight in a file. */
export interface StoredWeight extends TensorSpec {
  /** The name of the tensor in the file. */
  readonly key: string;
  /** Whether it is stored as [out, in], like all linear modules except transformers' Conv1D. */
  readonly transposed: boolean;
}

/** The name of a weight, its file, and how it is held in memory. */
interface Wanted {
  readonly name: string;
  readonly path: string;
  readonly precision: Precision;
}

/** Reads a weight as [in, out]. @throws CheckpointError when a value is not finite. */
export async function readWeight(
  file: WeightsFile,
  stored: StoredWeight,
  { name, path, precision }: Wanted,
): Promise<HostTensor> {
  const { add, weight } = writerOf(stored, precision.form(name));
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

/** A weight that is filled row by row. */
interface WeightWriter {
  readonly weight: HostTensor;
  /** Writes stored rows, from row `start` on. */
  add(rows: Float32Array, start: number): void;
}

/**
 * A quantized weight is rounded output by output, a table word by word. If these are stored rows, it is quantised while
 * reading, otherwise at the end.
 */
function writerOf({ shape, transposed }: StoredWeight, form: QuantizedForm | undefined): WeightWriter {
  const [outer = 1, width = 1] = shape;
  if (form && transposed === (form !== 'q8 rows')) return quantizedFilling(form, outer, width);
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

/** Returns the position in the weight as held in memory of a value in a piece. */
function positionOf({ shape, transposed }: StoredWeight, start: number, at: number): number {
  const [outer = 1, ...row] = shape;
  const width = sizeOf(row);
  return transposed ? (at % width) * outer + start + Math.floor(at / width) : start * width + at;
}
