import { quote, SafetensorsError } from './errors.js';

/** The array types, in the reference implementation's order of tensors in a file: widest elements first. */
const ARRAYS = {
  U64: BigUint64Array,
  I64: BigInt64Array,
  F64: Float64Array,
  F32: Float32Array,
  U32: Uint32Array,
  I32: Int32Array,
  BF16: Uint16Array,
  F16: Uint16Array,
  U16: Uint16Array,
  I16: Int16Array,
  I8: Int8Array,
  U8: Uint8Array,
  BOOL: Uint8Array,
};

/**
 * The typed array for the elements of each dtype. F16 and BF16 are raw 16-bit patterns; BOOL is one byte per element.
 */
export type ElementArrays = { readonly [D in keyof typeof ARRAYS]: (typeof ARRAYS)[D]['prototype'] };

/** An element type, named as in a file. */
export type DType = keyof ElementArrays;

const LAYOUT_ORDER = Object.keys(ARRAYS);
const LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

/** Parses a tensor's dtype. @throws SafetensorsError when it is unknown. */
export function dtypeNamed(word: string, tensor: string): DType {
  if (Object.hasOwn(ARRAYS, word)) return word as DType;
  throw new SafetensorsError(
    `tensor ${quote(tensor)} has dtype ${quote(word)}; known ones are ${LAYOUT_ORDER.join(', ')}`,
    tensor,
  );
}

/** Returns the position of a dtype in the file's order. Tensors with lower positions come first. */
export function layoutRank(dtype: DType): number {
  return LAYOUT_ORDER.indexOf(dtype);
}

/** Whether an array has the type for elements of this dtype. */
export function holds(dtype: DType, data: unknown): boolean {
  return data instanceof ARRAYS[dtype];
}

/** Returns bytes as elements, in the same memory if it is aligned, else as a copy. */
function elementsOf(dtype: DType, bytes: Uint8Array): ElementArrays[DType] {
  requireLittleEndian();
  const Elements = ARRAYS[dtype] as Uint8ArrayConstructor;
  const aligned = bytes.byteOffset % Elements.BYTES_PER_ELEMENT === 0 ? bytes : new Uint8Array(bytes);
  return new Elements(aligned.buffer, aligned.byteOffset, aligned.byteLength / Elements.BYTES_PER_ELEMENT);
}

/** Returns elements as bytes in the same memory. */
export function bytesOf(data: ElementArrays[DType]): Uint8Array {
  requireLittleEndian();
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

function requireLittleEndian(): void {
  if (!LITTLE_ENDIAN) {
    throw new SafetensorsError(
      'safetensors files are little-endian and this machine is big-endian: it is not supported',
    );
  }
}

/** The shape and element type of a stored tensor. */
export interface TensorSpec {
  /** The element type. */
  readonly dtype: DType;
  /** The sizes of the axes, outermost first; `[]` for a scalar. */
  readonly shape: readonly number[];
}

/** A tensor as stored in a file. `dtype` decides the type of `data`. */
export type StoredTensor = {
  readonly [D in DType]: {
    /** The element type. */
    readonly dtype: D;
    /** The sizes of the axes, outermost first; `[]` for a scalar. */
    readonly shape: readonly number[];
    /** The elements in row-major order. */
    readonly data: ElementArrays[D];
  };
}[DType];

/** The maximum number of axes, as in NumPy. */
const MAX_RANK = 64;
const MAX_DIMENSION = 2 ** 31 - 1;

/** Returns the size of a tensor in bytes. @throws SafetensorsError naming the tensor when its shape is impossible. */
export function byteLengthOf(name: string, { dtype, shape }: TensorSpec): number {
  if (shape.length > MAX_RANK) {
    throw new SafetensorsError(`tensor ${quote(name)} has ${shape.length} axes, at most ${MAX_RANK} are read`, name);
  }
  let bytes = ARRAYS[dtype].BYTES_PER_ELEMENT;
  for (const [axis, size] of shape.entries()) {
    if (!Number.isInteger(size) || size < 0 || size > MAX_DIMENSION) {
      throw new SafetensorsError(
        `tensor ${quote(name)}: axis ${axis} has size ${size}, expected an integer from 0 to ${MAX_DIMENSION}`,
        name,
      );
    }
    bytes *= size;
    if (!Number.isSafeInteger(bytes)) {
      throw new SafetensorsError(`tensor ${quote(name)} of shape [${shape.join(', ')}] is larger than any file`, name);
    }
  }
  return bytes;
}

/** Returns a tensor of bytes that fill its shape. Shares their memory if it is aligned. */
export function tensorOver({ dtype, shape }: TensorSpec, bytes: Uint8Array): StoredTensor {
  return { dtype, shape, data: elementsOf(dtype, bytes) } as StoredTensor;
}

/**
 * Converts a floating-point tensor to float32. F32 returns its own `data`; F16 and BF16 are exact; F64 is rounded to
 * nearest.
 * @param memory Where to write the values, from its start, instead of new memory. Not used for F32.
 * @throws SafetensorsError for integers and booleans, which float32 may not represent exactly: read their `data`.
 */
export function toFloat32(tensor: StoredTensor, memory?: Float32Array): Float32Array {
  const { length } = tensor.data;
  const values = (): Float32Array => memory?.subarray(0, length) ?? new Float32Array(length);
  switch (tensor.dtype) {
    case 'F32':
      return tensor.data;
    case 'F16':
      return halvesToFloat32(tensor.data, values());
    case 'BF16':
      return brainFloatsToFloat32(tensor.data, values());
    case 'F64':
      return doublesToFloat32(tensor.data, values());
    default:
      throw new SafetensorsError(
        `expected a tensor of F32, F16, BF16 or F64, got ${tensor.dtype}: use its data directly`,
      );
  }
}

/** Returns the bits of the nearest half of each number; of two, the even one. */
export function toFloat16(values: ArrayLike<number>): Uint16Array<ArrayBuffer> {
  const halves = new Uint16Array(values.length);
  for (let i = 0; i < values.length; i++) halves[i] = halfOf(values[i] as number);
  return halves;
}

const bits = new Uint32Array(1);
const float = new Float32Array(bits.buffer);

function halfOf(value: number): number {
  float[0] = value;
  const [word = 0] = bits;
  const sign = (word >>> 16) & 0x8000;
  const magnitude = word & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00; // NaN
  if (magnitude >= 0x47800000) return sign | 0x7c00; // 2^16 and above
  if (magnitude < 0x38800000) {
    // Below 2^-14: a multiple of 2^-24. Adding 0.5 lets the addition round it to such a multiple.
    float[0] = Math.abs(value) + 0.5;
    return sign | ((bits[0] as number) - 0x3f000000);
  }
  const rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
  return sign | ((rounded - 0x38000000) >> 13);
}

/** binary16 has 5 exponent bits with bias 15, binary32 8 with bias 127. */
const EXPONENT_SHIFT = 2 ** (127 - 15);

function doublesToFloat32(doubles: Float64Array, values: Float32Array): Float32Array {
  values.set(doubles);
  return values;
}

function halvesToFloat32(halves: Uint16Array, values: Float32Array): Float32Array {
  const bits = bitsOf(values);
  halves.forEach((half, i) => {
    const sign = (half & 0x8000) << 16;
    const magnitude = (half & 0x7fff) << 13;
    const notFinite = (half & 0x7c00) === 0x7c00;
    bits[i] = sign | magnitude | (notFinite ? 0x7f800000 : 0);
    // Correct for subnormal halves too: this product normalises them exactly.
    if (!notFinite) values[i] = (values[i] as number) * EXPONENT_SHIFT;
  });
  return values;
}

/** bfloat16 is the upper half of a binary32. */
function brainFloatsToFloat32(uppers: Uint16Array, values: Float32Array): Float32Array {
  const bits = bitsOf(values);
  for (let i = 0; i < uppers.length; i++) bits[i] = (uppers[i] as number) << 16;
  return values;
}

function bitsOf(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}
