/** An array in the metadata. Elements may be arrays themselves. */
export type MetadataArray =
  | { readonly type: 'array'; readonly of: 'uint8'; readonly value: Uint8Array }
  | { readonly type: 'array'; readonly of: 'int8'; readonly value: Int8Array }
  | { readonly type: 'array'; readonly of: 'uint16'; readonly value: Uint16Array }
  | { readonly type: 'array'; readonly of: 'int16'; readonly value: Int16Array }
  | { readonly type: 'array'; readonly of: 'uint32'; readonly value: Uint32Array }
  | { readonly type: 'array'; readonly of: 'int32'; readonly value: Int32Array }
  | { readonly type: 'array'; readonly of: 'float32'; readonly value: Float32Array }
  | { readonly type: 'array'; readonly of: 'uint64'; readonly value: BigUint64Array }
  | { readonly type: 'array'; readonly of: 'int64'; readonly value: BigInt64Array }
  | { readonly type: 'array'; readonly of: 'float64'; readonly value: Float64Array }
  | { readonly type: 'array'; readonly of: 'bool'; readonly value: readonly boolean[] }
  | { readonly type: 'array'; readonly of: 'string'; readonly value: readonly string[] }
  | { readonly type: 'array'; readonly of: 'array'; readonly value: readonly MetadataArray[] };

/** A value of the metadata with its type in the file. `type` decides the type of `value`. */
export type MetadataValue =
  | {
      readonly type: 'uint8' | 'int8' | 'uint16' | 'int16' | 'uint32' | 'int32' | 'float32' | 'float64';
      readonly value: number;
    }
  | { readonly type: 'uint64' | 'int64'; readonly value: bigint }
  | { readonly type: 'bool'; readonly value: boolean }
  | { readonly type: 'string'; readonly value: string }
  | MetadataArray;

/** The metadata types, in the order of their numbers in a file. */
export const METADATA_TYPES = [
  'uint8',
  'int8',
  'uint16',
  'int16',
  'uint32',
  'int32',
  'float32',
  'bool',
  'string',
  'array',
  'uint64',
  'int64',
  'float64',
] as const satisfies readonly MetadataValue['type'][];

/** The types whose arrays are typed arrays. */
export const NUMBERS = {
  uint8: Uint8Array,
  int8: Int8Array,
  uint16: Uint16Array,
  int16: Int16Array,
  uint32: Uint32Array,
  int32: Int32Array,
  float32: Float32Array,
  uint64: BigUint64Array,
  int64: BigInt64Array,
  float64: Float64Array,
} as const;

/** Whether the values of a type are numbers. */
export function isNumberType(type: MetadataValue['type']): type is keyof typeof NUMBERS {
  return Object.hasOwn(NUMBERS, type);
}

/** The key of the alignment of tensors, in bytes. */
export const ALIGNMENT_KEY = 'general.alignment';

const DEFAULT_ALIGNMENT = 32;
const MAX_ALIGNMENT = 2 ** 20;

/** Returns the alignment that the metadata ask for; undefined unless it is a uint32 and a power of two up to 2^20. */
export function alignmentIn(metadata: ReadonlyMap<string, MetadataValue>): number | undefined {
  const { type, value } = metadata.get(ALIGNMENT_KEY) ?? { type: 'uint32', value: DEFAULT_ALIGNMENT };
  const isPower = type === 'uint32' && value > 0 && value <= MAX_ALIGNMENT && Number.isInteger(Math.log2(value));
  return isPower ? value : undefined;
}

/** Rounds a size up to the alignment. */
export function aligned(size: number, alignment: number): number {
  return Math.ceil(size / alignment) * alignment;
}
