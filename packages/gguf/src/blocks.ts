import { toFloat32 as floatsOf } from '@peftjs/safetensors';
import { quote } from '@peftjs/safetensors/format';
import { GgufError } from './errors.js';

/** How the numbers of a tensor are stored, named as in llama.cpp. */
export type TensorType = 'F32' | 'F16' | 'BF16' | 'Q4_0' | 'Q4_1' | 'Q5_0' | 'Q5_1' | 'Q8_0' | 'Q4_K' | 'Q5_K' | 'Q6_K';

/** The type and shape of a tensor. */
export interface TensorSpec {
  /** How its numbers are stored. */
  readonly type: TensorType;
  /** The sizes of the axes, outermost first; `[]` for a scalar. */
  readonly shape: readonly number[];
}

/** A tensor as stored in a file. */
export interface GgufTensor extends TensorSpec {
  /** Its bytes: rows of whole blocks. */
  readonly data: Uint8Array;
}

interface Block {
  /** The number of the type in a file. */
  readonly id: number;
  /** The number of values in a block. */
  readonly values: number;
  /** The size of a block in bytes. */
  readonly bytes: number;
}

/** The blocks of each type. */
export const BLOCKS: { readonly [T in TensorType]: Block } = {
  F32: { id: 0, values: 1, bytes: 4 },
  F16: { id: 1, values: 1, bytes: 2 },
  Q4_0: { id: 2, values: 32, bytes: 18 },
  Q4_1: { id: 3, values: 32, bytes: 20 },
  Q5_0: { id: 6, values: 32, bytes: 22 },
  Q5_1: { id: 7, values: 32, bytes: 24 },
  Q8_0: { id: 8, values: 32, bytes: 34 },
  Q4_K: { id: 12, values: 256, bytes: 144 },
  Q5_K: { id: 13, values: 256, bytes: 176 },
  Q6_K: { id: 14, values: 256, bytes: 210 },
  BF16: { id: 30, values: 1, bytes: 2 },
};

const TYPES = Object.keys(BLOCKS) as TensorType[];

/** Types that are not read, to name them in messages. */
const OTHER_TYPES: Readonly<Record<number, string>> = {
  9: 'Q8_1',
  10: 'Q2_K',
  11: 'Q3_K',
  15: 'Q8_K',
  16: 'IQ2_XXS',
  17: 'IQ2_XS',
  18: 'IQ3_XXS',
  19: 'IQ1_S',
  20: 'IQ4_NL',
  21: 'IQ3_S',
  22: 'IQ2_S',
  23: 'IQ4_XS',
  24: 'I8',
  25: 'I16',
  26: 'I32',
  27: 'I64',
  28: 'F64',
  29: 'IQ1_M',
  34: 'TQ1_0',
  35: 'TQ2_0',
  39: 'MXFP4',
};

/** Returns the type with a number. @throws GgufError naming the tensor when it is not read. */
export function typeNumbered(id: number, tensor: string): TensorType {
  const type = TYPES.find((name) => BLOCKS[name].id === id);
  if (type) return type;
  const name = OTHER_TYPES[id] ?? `number ${id}`;
  throw new GgufError(`tensor ${quote(tensor)} has type ${name}; known ones are ${TYPES.join(', ')}`, tensor);
}

/** The maximum number of axes, as in llama.cpp. */
export const MAX_RANK = 4;

/** Returns the size of a tensor in bytes. @throws GgufError naming the tensor when its type or shape is impossible. */
export function byteLengthOf(name: string, { type, shape }: TensorSpec): number {
  if (!Object.hasOwn(BLOCKS, type)) {
    throw new GgufError(`tensor ${quote(name)} has type ${type}; known ones are ${TYPES.join(', ')}`, name);
  }
  const { values, bytes } = BLOCKS[type];
  const count = shape.reduce((product, size) => product * size, 1);
  const isShape = shape.length <= MAX_RANK && shape.every((size) => Number.isSafeInteger(size) && size > 0);
  if (!isShape || !Number.isSafeInteger(count * bytes)) {
    throw new GgufError(
      `tensor ${quote(name)} has shape [${shape.join(', ')}], expected at most ${MAX_RANK} axes of at least 1, and a size that a file can have`,
      name,
    );
  }
  if ((shape.at(-1) ?? 1) % values !== 0) {
    throw new GgufError(
      `tensor ${quote(name)}: the last axis of shape [${shape.join(', ')}] must be a multiple of ${values}, the values in a block of ${type}`,
      name,
    );
  }
  return (count / values) * bytes;
}

/**
 * Converts a tensor to float32, with the same bits as the Python package `gguf`.
 * @param memory Where to write the values, from its start, instead of new memory.
 * @throws GgufError when `data` does not have the bytes that its shape needs.
 */
export function toFloat32({ type, shape, data }: GgufTensor, memory?: Float32Array): Float32Array {
  const needed = byteLengthOf('', { type, shape });
  if (data.byteLength !== needed) {
    throw new GgufError(
      `${type} of shape [${shape.join(', ')}] takes ${needed} bytes, its data has ${data.byteLength}`,
    );
  }
  const { values, bytes } = BLOCKS[type];
  const count = (needed / bytes) * values;
  const result = memory?.subarray(0, count) ?? new Float32Array(count);
  if (type === 'F32') new Uint8Array(result.buffer, result.byteOffset, needed).set(data);
  else if (type === 'F16' || type === 'BF16') floatsOf({ dtype: type, shape, data: unitsOf(data) }, result);
  else {
    const decode = DECODERS[type];
    for (let from = 0, to = 0; from < needed; from += bytes, to += values) decode(data, from, result, to);
  }
  return result;
}

function unitsOf(data: Uint8Array): Uint16Array {
  const even = data.byteOffset % 2 === 0 ? data : new Uint8Array(data);
  return new Uint16Array(even.buffer, even.byteOffset, even.byteLength / 2);
}

/** Decodes the block at byte `from` of `data` into `result`, from index `to` on. */
type Decode = (data: Uint8Array, from: number, result: Float32Array, to: number) => void;

/**
 * A value is scale * q - offset. Products of a half and at most 13 bits are exact in float32, so only the sum is
 * rounded, when it is stored: the same bits as with float32 arithmetic.
 */
const DECODERS: { readonly [T in Exclude<TensorType, 'F32' | 'F16' | 'BF16'>]: Decode } = {
  Q4_0: pairs(4, false),
  Q4_1: pairs(4, true),
  Q5_0: pairs(5, false),
  Q5_1: pairs(5, true),
  Q8_0: (data, from, result, to) => {
    const d = half(data, from);
    for (let i = 0; i < 32; i++) result[to + i] = d * signed(data[from + 2 + i] as number);
  },
  Q4_K: groups(4),
  Q5_K: groups(5),
  Q6_K: (data, from, result, to) => {
    const d = half(data, from + 208);
    for (let group = 0; group < 16; group++) {
      const scale = d * signed(data[from + 192 + group] as number);
      // Groups of 16 values; 32 values share a shift, 64 a row of nibbles, 128 a row of high bits.
      const row = group >> 1;
      const low = from + 64 * (row >> 2) + 32 * (row & 1) + 16 * (group & 1);
      const high = from + 128 + 32 * (row >> 2) + 16 * (group & 1);
      const [lowShift, highShift] = [4 * ((row >> 1) & 1), 2 * (row & 3)];
      for (let i = 0; i < 16; i++) {
        const top = ((data[high + i] as number) >> highShift) & 3;
        const q = (((data[low + i] as number) >> lowShift) & 15) | (top << 4);
        result[to + 16 * group + i] = scale * (q - 32);
      }
    }
  },
};

/** Blocks of 32 values: a scale, perhaps an offset, the fifth bits of 5, then the low bits of values 16 apart. */
function pairs(bits: 4 | 5, hasOffset: boolean): Decode {
  const middle = hasOffset ? 0 : 2 ** (bits - 1);
  const fifths = hasOffset ? 4 : 2;
  const low = bits === 5 ? fifths + 4 : fifths;
  return (data, from, result, to) => {
    const d = half(data, from);
    const m = hasOffset ? half(data, from + 2) : -0; // -0 + -0 is -0
    const fifth = bits === 5 ? wordAt(data, from + fifths) : 0;
    for (let i = 0; i < 16; i++) {
      const pair = data[from + low + i] as number;
      result[to + i] = d * (((pair & 15) | (((fifth >> i) & 1) << 4)) - middle) + m;
      result[to + 16 + i] = d * (((pair >> 4) | (((fifth >> (i + 16)) & 1) << 4)) - middle) + m;
    }
  };
}

/** K blocks of 256 values: 8 groups with a scale and an offset each, the fifth bits of 5, then the low bits. */
function groups(bits: 4 | 5): Decode {
  return (data, from, result, to) => {
    for (let group = 0; group < 8; group++) {
      const { scale, offset } = groupOf(data, from, group);
      const [nibbles, shift] = [from + (bits === 5 ? 48 : 16) + 32 * (group >> 1), 4 * (group & 1)];
      for (let i = 0; i < 32; i++) {
        const fifth = bits === 5 ? ((data[from + 16 + i] as number) >> group) & 1 : 0;
        const q = (((data[nibbles + i] as number) >> shift) & 15) | (fifth << 4);
        result[to + 32 * group + i] = scale * q - offset;
      }
    }
  };
}

/** Returns scale and offset of 32 values of a K block: two halves times 6 bits, packed as in llama.cpp. */
function groupOf(data: Uint8Array, from: number, group: number): { scale: number; offset: number } {
  const byte = (index: number): number => data[from + 4 + index] as number;
  const [scale, offset] =
    group < 4
      ? [byte(group) & 63, byte(group + 4) & 63]
      : [(byte(group + 4) & 15) | ((byte(group - 4) >> 6) << 4), (byte(group + 4) >> 4) | ((byte(group) >> 6) << 4)];
  return { scale: half(data, from) * scale, offset: half(data, from + 2) * offset };
}

/** The 32 bits from a byte on, the first byte lowest. */
function wordAt(data: Uint8Array, from: number): number {
  const byte = (index: number): number => data[from + index] as number;
  return byte(0) | (byte(1) << 8) | (byte(2) << 16) | (byte(3) << 24);
}

function signed(byte: number): number {
  return (byte << 24) >> 24;
}

let halves: Float32Array | undefined;

function half(data: Uint8Array, from: number): number {
  halves ??= floatsOf({
    dtype: 'F16',
    shape: [2 ** 16],
    data: Uint16Array.from({ length: 2 ** 16 }, (_, bits) => bits),
  });
  return halves[(data[from] as number) | ((data[from + 1] as number) << 8)] as number;
}
