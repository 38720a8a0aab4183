import { CheckpointError, sizeOf, UnsupportedError } from '@peftjs/core/method';
import { toFloat32 } from '@peftjs/safetensors';
import type { Message } from './message.js';

/** The kinds of numbers that a graph is computed with: float32, int32 and bool. */
export type Kind = 'float' | 'int' | 'bool';

/** The types of ONNX whose tensors are read: how their numbers are stored, and what they are in a computation. */
export const TYPES = {
  float32: { id: 1, array: Float32Array, kind: 'float', field: 4 },
  uint8: { id: 2, array: Uint8Array, kind: 'int', field: 5 },
  int8: { id: 3, array: Int8Array, kind: 'int', field: 5 },
  uint16: { id: 4, array: Uint16Array, kind: 'int', field: 5 },
  int16: { id: 5, array: Int16Array, kind: 'int', field: 5 },
  int32: { id: 6, array: Int32Array, kind: 'int', field: 5 },
  int64: { id: 7, array: BigInt64Array, kind: 'int', field: 7 },
  bool: { id: 9, array: Uint8Array, kind: 'bool', field: 5 },
  float16: { id: 10, array: Uint16Array, kind: 'float', field: 5 },
  float64: { id: 11, array: Float64Array, kind: 'float', field: 10 },
  uint32: { id: 12, array: Uint32Array, kind: 'int', field: 11 },
  bfloat16: { id: 16, array: Uint16Array, kind: 'float', field: 5 },
} as const satisfies Readonly<Record<string, { id: number; array: unknown; kind: Kind; field: number }>>;

/** The name of a type. */
export type ElementType = keyof typeof TYPES;

/**
 * Returns a type by its number in ONNX.
 * @throws UnsupportedError for one of few bits.
 * @throws CheckpointError for any other, e.g. strings and uint64.
 */
export function typeNumbered(id: number, what: string): ElementType {
  const names = Object.keys(TYPES) as ElementType[];
  const type = names.find((name) => TYPES[name].id === id);
  if (type !== undefined) return type;
  const isInFewBits = id >= 17 && id <= 23; // float8, int4, uint4 and float4
  if (isInFewBits) throw new UnsupportedError(`${what} is in few bits: read the graph in fp32 or fp16`, what);
  throw new CheckpointError(`${what} has the element type ${id}; known ones are ${names.join(', ')}`, what);
}

/** A tensor of a file: an initializer, or the tensor of a `Constant`. */
export interface Constant {
  /** Its name; of a `Constant` that of the output. */
  readonly name: string;
  /** The type in the file. */
  readonly type: ElementType;
  /** The sizes of the axes. */
  readonly shape: readonly number[];
  /** The bytes of its numbers; undefined where these are in fields of their own. */
  readonly place?: Place;
  /** Reads the numbers: of floats float32, otherwise float64. */
  numbers(): Float32Array | Float64Array;
}

/** Where the numbers of a tensor are. */
export interface Place {
  /** The file beside the model that has them; undefined for the model itself. */
  readonly file?: string;
  /** The bytes, a view of the whole file. */
  readonly bytes: Uint8Array;
}

/** A piece of a file beside the model; the rest of the file without `length`. */
export interface Piece {
  readonly file: string;
  readonly offset: number;
  readonly length?: number;
}

/** The most axes of a tensor. */
const MAX_RANK = 8;

/**
 * Reads a TensorProto.
 * @param external returns the bytes of a piece of another file
 * @throws CheckpointError naming the tensor whose type, shape or data is wrong.
 */
export function readTensor(proto: Message, name: string, external: (piece: Piece) => Uint8Array): Constant {
  const what = `tensor '${name}'`;
  const type = typeNumbered(proto.int(2), what);
  const shape = proto.ints(1);
  if (shape.length > MAX_RANK || !shape.every((dim) => Number.isSafeInteger(dim) && dim >= 0)) {
    throw new CheckpointError(`${what} has the shape [${shape.slice(0, 20).join(', ')}]`, name);
  }
  const needed = sizeOf(shape);
  const place = placeOf(proto, external);
  const got = place ? place.bytes.byteLength / TYPES[type].array.BYTES_PER_ELEMENT : countInFields(proto, type);
  if (got !== needed) {
    throw new CheckpointError(
      `${what}: ${type} [${shape.join(', ')}] has ${needed} numbers, the file has ${got}`,
      name,
    );
  }
  const numbers: Constant['numbers'] = () =>
    place ? decoded(type, place.bytes) : numbersOf(type, inFields(proto, type, needed));
  return { name, type, shape, ...(place && { place }), numbers };
}

/** The bytes of raw_data or of external_data. */
function placeOf(proto: Message, external: (piece: Piece) => Uint8Array): Place | undefined {
  if (proto.int(14) === EXTERNAL) {
    const entries = new Map(Array.from(proto.messages(13), (entry) => [entry.text(1), entry.text(2)]));
    const [file = '', offset = '0', length] = ['location', 'offset', 'length'].map((key) => entries.get(key));
    const piece = { file, offset: Number(offset), ...(length !== undefined && { length: Number(length) }) };
    return { file, bytes: external(piece) };
  }
  const bytes = proto.bytes(9);
  return bytes && { bytes };
}

/** TensorProto.DataLocation */
const EXTERNAL = 1;

/** Returns the numbers of a type in bytes: of floats float32, otherwise float64. */
export function decoded(type: ElementType, bytes: Uint8Array): Float32Array | Float64Array {
  return numbersOf(type, stored(type, bytes));
}

type Stored = InstanceType<(typeof TYPES)[ElementType]['array']>;

function stored(type: ElementType, bytes: Uint8Array): Stored {
  const { array: Numbers } = TYPES[type];
  const length = Math.floor(bytes.byteLength / Numbers.BYTES_PER_ELEMENT);
  return new Numbers(new Uint8Array(bytes).buffer, 0, length); // aligned; the slice of a Buffer is no copy
}

/** Counts numbers in float_data, int32_data, int64_data, double_data or uint64_data. */
function countInFields(proto: Message, type: ElementType): number {
  const { field, array: Numbers } = TYPES[type];
  if (hasFixedSize(type)) return Math.floor(proto.fixedLength(field) / Numbers.BYTES_PER_ELEMENT);
  let count = 0;
  const integers = proto.integers(field);
  while (integers.next().done !== true) count++;
  return count;
}

/** Reads those numbers. */
function inFields(proto: Message, type: ElementType, count: number): Stored {
  const { field, array: Numbers } = TYPES[type];
  if (hasFixedSize(type)) return stored(type, proto.fixed(field));
  const values = new Numbers(count);
  let at = 0;
  for (const integer of proto.integers(field)) values[at++] = type === 'int64' ? BigInt(integer) : integer;
  return values;
}

function hasFixedSize(type: ElementType): boolean {
  return type === 'float32' || type === 'float64';
}

function numbersOf(type: ElementType, values: Stored): Float32Array | Float64Array {
  if (type === 'float16') return toFloat32({ dtype: 'F16', shape: [values.length], data: values as Uint16Array });
  if (type === 'bfloat16') return toFloat32({ dtype: 'BF16', shape: [values.length], data: values as Uint16Array });
  if (type === 'float32') return values as Float32Array;
  if (type === 'float64') return Float32Array.from(values as Float64Array);
  return Float64Array.from(values as Int32Array, Number);
}
