import { quote, SafetensorsError } from './errors.js';

/** The typed array that holds the elements of each dtype: F16 and BF16 as their raw 16 bits, BOOL as a byte each. */
export interface ElementArrays {
  readonly U64: BigUint64Array;
  readonly I64: BigInt64Array;
  readonly F64: Float64Array;
  readonly F32: Float32Array;
  readonly U32: Uint32Array;
  readonly I32: Int32Array;
  readonly BF16: Uint16Array;
  readonly F16: Uint16Array;
  readonly U16: Uint16Array;
  readonly I16: Int16Array;
  readonly I8: Int8Array;
  readonly U8: Uint8Array;
  readonly BOOL: Uint8Array;
}

/** An element type, by the name it has in a file. */
export type DType = keyof ElementArrays;

interface ElementArrayConstructor<A> {
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): A;
}

/** In the order in which the reference implementation lays tensors out: widest elements first. */
const ARRAYS: { readonly [D in DType]: ElementArrayConstructor<ElementArrays[D]> } = {
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

const LAYOUT_ORDER = Object.keys(ARRAYS);
const LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

/** The dtype of a tensor. @throws SafetensorsError when the word is none of those known here. */
export function dtypeNamed(word: string, tensor: string): DType {
  if (Object.hasOwn(ARRAYS, word)) return word as DType;
  throw new SafetensorsError(
    `tensor ${quote(tensor)} has dtype ${quote(word)}; those known here are ${LAYOUT_ORDER.join(', ')}`,
    tensor,
  );
}

/** Bytes per element. */
export function widthOf(dtype: DType): number {
  return ARRAYS[dtype].BYTES_PER_ELEMENT;
}

/** Where tensors of a dtype stand in a file: smaller comes first. */
export function layoutRank(dtype: DType): number {
  return LAYOUT_ORDER.indexOf(dtype);
}

/** Whether an array is the one that holds elements of this dtype. */
export function holds(dtype: DType, data: unknown): boolean {
  return data instanceof ARRAYS[dtype];
}

/** Bytes as elements: the same memory where it is aligned, else a copy. */
export function elementsOf<D extends DType>(dtype: D, bytes: Uint8Array): ElementArrays[D] {
  requireLittleEndian();
  const Elements = ARRAYS[dtype];
  const aligned = bytes.byteOffset % Elements.BYTES_PER_ELEMENT === 0 ? bytes : new Uint8Array(bytes);
  return new Elements(aligned.buffer, aligned.byteOffset, aligned.byteLength / Elements.BYTES_PER_ELEMENT);
}

/** Elements as bytes: the same memory. */
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
