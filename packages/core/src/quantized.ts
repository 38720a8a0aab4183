/**
 * Frozen weights in few bits. Every row that a checkpoint stores, which is one output of a linear module or one word of
 * a table, is rounded on its own.
 *
 * 8 bits, one scale per row (as in LLM.int8(), Dettmers et al., 2022, section 2.1):
 *
 *   s = max |w| / 127     Q = round(w / s), in -127..127     w ~ s Q, off by at most s / 2
 *
 * 4 bits, in blocks of 32 numbers of a row, as in GGUF's Q4_1 and ONNX's blockwise uint4:
 *
 *   d = (max(w, 0) - min(w, 0)) / 15     z = round(-16 min(w, 0) / d)     q = round(w / d + z / 16), in 0..15
 *   w ~ (16 q - z) d / 16, off by at most d / 2
 *
 * The zero z is held in sixteenths of a step, which is what lets a block begin at its own minimum.
 */
import { UnsupportedError } from './errors.js';
import { isInHead } from './head.js';
import { isTable } from './nn/quantized.js';
import type { Model } from './contracts/model.js';
import type { Site } from './contracts/site.js';
import { floats, hostTensor, tensorAt, transposed, type HostBytes, type HostTensor } from './tensors.js';

/**
 * A matrix held in 8 or 4 bits. Readers see a float32 tensor: `data` computes its values each time and does not keep
 * them.
 */
export interface QuantizedTensor extends HostTensor {
  /** The type of `data`. */
  readonly dtype: 'float32';
  /** The bits of a number. */
  readonly bits: 8 | 4;
  /** What is in memory. */
  readonly parts: QuantizedParts;
}

/** The tensors that hold a matrix; the fields of `QuantizedWeight` inside a step. */
export interface QuantizedParts {
  /**
   * 8 bits: Q, int8, in the shape of the matrix. 4 bits: q, uint8 `[out * blocks, 16]`; low halves hold the first 16.
   */
  readonly values: HostBytes;
  /** 8 bits: s, `[out]` for a matrix `[in, out]` and `[rows, 1]` for a table. 4 bits: d / 16, `[out * blocks]`. */
  readonly scale: HostTensor;
  /** 4 bits: z, uint8 `[out * blocks]`. */
  readonly zero?: HostBytes;
  /** 4 bits: the largest number of each output / 127, `[out]`, with which products round the weight to 8 bits. */
  readonly step?: HostTensor;
}

/** The ways to hold the frozen weights of a model in memory, named as in transformers.js. */
export const WEIGHT_DTYPES = ['fp32', 'q8', 'q4'] as const;

/** How the frozen weights of a model are held in memory. */
export type WeightDtype = (typeof WEIGHT_DTYPES)[number];

/** How one weight is held: a linear module's `[in, out]` in 8 or 4 bits, or a table's rows in 8 bits. */
export type QuantizedForm = 'q8' | 'q4' | 'q8 rows';

/** A quantized matrix that is filled row by row, so that its float32 values are never all in memory. */
export interface QuantizedFilling {
  /** The matrix; complete once all rows are added. */
  readonly weight: QuantizedTensor;
  /**
   * Adds whole rows, stored one after the other: the weights `[in]` of one output each, or the words of a table.
   * `start` is the index of the first.
   */
  add(rows: Float32Array, start: number): void;
}

/** The largest 8-bit value. -128 is not used, to keep the range symmetric. */
const INT8_MAX = 127;
/** The numbers of a 4-bit block, in half as many bytes. */
const BLOCK = 32;
const HALF = BLOCK / 2;
/** The largest 4-bit value. */
const Q_MAX = 15;
/** The fraction of a step in which zeros are held. */
const SIXTEENTH = 1 / 16;

/**
 * Returns how a weight is held in a model of that dtype; undefined for float32. In 4 bits, tables are held in 8, and so
 * are linear modules whose inputs do not fill blocks.
 */
export function formOf(dtype: WeightDtype, site: Site): QuantizedForm | undefined {
  if (dtype === 'fp32') return undefined;
  if (canQuantize(site)) return dtype === 'q4' && site.inFeatures % BLOCK === 0 ? 'q4' : 'q8';
  return dtype === 'q4' && site.kind === 'embedding' ? 'q8 rows' : undefined;
}

/** Starts an empty matrix of `count` rows of `width` numbers. */
export function quantizedFilling(form: QuantizedForm, count: number, width: number): QuantizedFilling {
  return form === 'q4' ? inBlocks(count, width) : inBytes(form, count, width);
}

/**
 * Returns a weight, `[in, out]` or the rows of a table, in few bits. @throws ShapeError unless it is a matrix of
 * floats.
 */
export function quantized(matrix: HostTensor, form: QuantizedForm = 'q8'): QuantizedTensor {
  const rows = form === 'q8 rows' ? matrix : transposed(matrix);
  const { weight, add } = quantizedFilling(form, rows.shape[0] as number, rows.shape[1] as number);
  add(floats(rows), 0);
  return weight;
}

/** Returns a matrix as another one is held: rounded in the same way, or itself if the other is float32. */
export function roundedLike(held: HostTensor, matrix: HostTensor): HostTensor {
  if (!isQuantized(held)) return matrix;
  return quantized(matrix, isTable(held.parts) ? 'q8 rows' : held.bits === 4 ? 'q4' : 'q8');
}

/** Returns the memory that a weight of `count` rows of `width` numbers needs, in bytes. */
export function quantizedBytes(form: QuantizedForm, count: number, width: number): number {
  const scales = count * Float32Array.BYTES_PER_ELEMENT;
  if (form !== 'q4') return count * width + scales;
  const blocks = (count * width) / BLOCK;
  return blocks * (HALF + Float32Array.BYTES_PER_ELEMENT + 1) + scales;
}

/** Returns whether a host tensor is held in few bits. */
export function isQuantized(tensor: HostTensor): tensor is QuantizedTensor {
  return 'parts' in tensor;
}

/** Returns the numbers of one row of a matrix; of a table in 8 bits, without computing the others. */
export function rowOf(matrix: HostTensor, row: number): Float32Array {
  const width = matrix.shape[1] as number;
  const [start, end] = [row * width, (row + 1) * width];
  if (!isQuantized(matrix) || matrix.parts.scale.shape.length !== 2) return floats(matrix).subarray(start, end);
  const scale = matrix.parts.scale.data[row] as number;
  return Float32Array.from(matrix.parts.values.data.subarray(start, end), (value) => value * scale);
}

/**
 * Returns a new model whose frozen weights, except those of the head, are held in few bits. `model` is not changed.
 */
export function quantizedModel<M extends Model>(model: M, dtype: WeightDtype = 'q8'): M {
  const weights = { ...model.weights };
  for (const site of model.sites) {
    const [name, form] = [`${site.path}.weight`, formOf(dtype, site)];
    if (form && !isInHead(model, site.path)) weights[name] = quantized(tensorAt(model.weights, name), form);
  }
  return { ...model, weights };
}

/**
 * Checks that every weight of a model is float32, as required for writing weights.
 * @throws UnsupportedError naming a weight held in few bits.
 */
export function assertFullPrecision({ weights }: Pick<Model, 'weights'>): void {
  for (const [name, weight] of Object.entries(weights)) {
    if (!isQuantized(weight)) continue;
    throw new UnsupportedError(
      `'${name}' is held in ${weight.bits} bits, but only float32 weights can be written: use the model of \`await fullPrecision(peft)\``,
      name,
    );
  }
}

/** Returns whether a module multiplies by a matrix that can be held in few bits. */
export function canQuantize({ kind, kernel }: Site): boolean {
  return kind === 'linear' && kernel === undefined;
}

/** 8 bits: rows become the columns of a matrix [width, count], or stay the rows of a table. */
function inBytes(form: 'q8' | 'q8 rows', count: number, width: number): QuantizedFilling {
  const values = new Int8Array(count * width);
  const scales = new Float32Array(count);
  const [shape, ofScales, rowStep, step] =
    form === 'q8' ? [[width, count], [count], 1, count] : [[count, width], [count, 1], width, 1];
  const parts = { values: { dtype: 'int8', shape, data: values }, scale: hostTensor(scales, ofScales) } as const;
  return {
    weight: readAs(shape, 8, parts, () => {
      const data = new Float32Array(values.length);
      for (let row = 0; row < count; row++) {
        const scale = scales[row] as number;
        for (let at = 0, to = row * rowStep; at < width; at++, to += step) data[to] = (values[to] as number) * scale;
      }
      return data;
    }),
    add(rows, start) {
      const added = rows.length / width;
      for (let row = 0; row < added; row++) {
        scales[start + row] = largestOf(rows.subarray(row * width, (row + 1) * width)) / INT8_MAX;
      }
      // Column by column, so that writes into a matrix [width, count] are next to each other.
      for (let at = 0; at < width; at++) {
        for (let row = 0; row < added; row++) {
          const scale = scales[start + row] as number;
          const value = scale === 0 ? 0 : Math.round((rows[row * width + at] as number) / scale);
          values[(start + row) * rowStep + at * step] = value;
        }
      }
    },
  };
}

/** 4 bits: the matrix [width, count] in blocks along each of its columns, which are the rows added. */
function inBlocks(count: number, width: number): QuantizedFilling {
  const blocks = (count * width) / BLOCK;
  const [values, scales] = [new Uint8Array(blocks * HALF), new Float32Array(blocks)];
  const [zeros, steps] = [new Uint8Array(blocks), new Float32Array(count)];
  const parts = {
    values: { dtype: 'uint8', shape: [blocks, HALF], data: values },
    scale: hostTensor(scales, [blocks]),
    zero: { dtype: 'uint8', shape: [blocks], data: zeros },
    step: hostTensor(steps, [count]),
  } as const;
  return {
    weight: readAs([width, count], 4, parts, () => {
      const data = new Float32Array(count * width);
      for (let block = 0; block < blocks; block++) {
        const [scale, zero] = [scales[block] as number, zeros[block] as number];
        const [column, first] = [Math.floor((block * BLOCK) / width), (block * BLOCK) % width];
        for (let at = 0; at < HALF; at++) {
          const pair = values[block * HALF + at] as number;
          const to = (first + at) * count + column;
          data[to] = (((pair & Q_MAX) << 4) - zero) * scale;
          data[to + HALF * count] = ((pair & ~Q_MAX) - zero) * scale;
        }
      }
      return data;
    }),
    add(rows, start) {
      const before = (start * width) / BLOCK;
      for (let from = 0, block = before; from < rows.length; from += BLOCK, block++) {
        const { scale, zero } = blockOf(rows, from);
        scales[block] = scale;
        zeros[block] = zero;
        const perStep = scale === 0 ? 0 : SIXTEENTH / scale;
        for (let at = 0, to = block * HALF; at < HALF; at++, to++) {
          const low = nibble((rows[from + at] as number) * perStep, zero);
          values[to] = low | (nibble((rows[from + at + HALF] as number) * perStep, zero) << 4);
        }
        // q = 0 and q = 15 are the ends of the block.
        const row = Math.floor((block * BLOCK) / width);
        const step = (Math.max(zero, 16 * Q_MAX - zero) * scale) / INT8_MAX;
        if (step > (steps[row] as number)) steps[row] = step;
      }
    },
  };
}

/** The scale d / 16 and the zero z of the block that begins at `from`. */
function blockOf(rows: Float32Array, from: number): { readonly scale: number; readonly zero: number } {
  let [lowest, highest] = [0, 0];
  for (let at = from; at < from + BLOCK; at++) {
    const value = rows[at] as number;
    if (value < lowest) lowest = value;
    if (value > highest) highest = value;
  }
  const scale = Math.fround(((highest - lowest) / Q_MAX) * SIXTEENTH);
  return { scale, zero: scale === 0 ? 0 : Math.round(-lowest / scale) };
}

/** The number of 4 bits for a weight in steps. */
function nibble(steps: number, zero: number): number {
  const nearest = Math.floor(steps + zero * SIXTEENTH + 0.5);
  if (nearest < 0) return 0;
  return nearest > Q_MAX ? Q_MAX : nearest;
}

function largestOf(row: Float32Array): number {
  let largest = 0;
  for (const value of row) if (Math.abs(value) > largest) largest = Math.abs(value);
  return largest;
}

/** A matrix whose floats are computed when they are read. */
function readAs(
  shape: readonly number[],
  bits: 8 | 4,
  parts: QuantizedParts,
  floatsOf: () => Float32Array,
): QuantizedTensor {
  return {
    dtype: 'float32',
    shape,
    bits,
    parts,
    get data() {
      return floatsOf();
    },
  };
}
