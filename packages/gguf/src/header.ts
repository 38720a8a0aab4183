import { quote, type Location } from '@peftjs/safetensors/format';
import { byteLengthOf, MAX_RANK, typeNumbered, type TensorSpec } from './blocks.js';
import { GgufError } from './errors.js';
import {
  aligned,
  alignmentIn,
  ALIGNMENT_KEY,
  isNumberType,
  METADATA_TYPES,
  NUMBERS,
  type MetadataArray,
  type MetadataValue,
} from './metadata.js';

/** The first bytes of a file: 'GGUF'. */
export const MAGIC = 0x46554747;
/** The maximum size of all that comes before the tensors, in bytes. */
export const MAX_HEADER_BYTES = 100_000_000;
/** The maximum number of tensors, and of entries of the metadata. */
export const MAX_ENTRIES = 65_536;
/** The maximum size of a key in bytes, as in llama.cpp. */
export const MAX_KEY_BYTES = 65_535;
/** The maximum size of a tensor's name in bytes, as in llama.cpp. */
export const MAX_NAME_BYTES = 63;

const VERSIONS: readonly number[] = [2, 3];
/** The maximum number of strings and booleans in arrays: each takes more memory than its bytes in the file. */
const MAX_ELEMENTS = 4_194_304;
const MAX_ARRAYS = 65_536;
const MAX_DEPTH = 4;

/** Everything in a file but the tensors' bytes. */
export interface Header {
  /** The version of the format. */
  readonly version: number;
  /** The metadata by key, in the order of the file. */
  readonly metadata: ReadonlyMap<string, MetadataValue>;
  /** The tensors by name, in the order of their bytes, which are counted from the start of the file. */
  readonly locations: ReadonlyMap<string, Location<TensorSpec>>;
}

/** The header continues after the bytes that were given. */
export class NeedsMore extends Error {}

/**
 * Parses a header.
 * @param bytes The first bytes of the file.
 * @param fileBytes The size of the file in bytes.
 * @throws NeedsMore when the header is longer than `bytes`, and these are not the whole file.
 * @throws GgufError naming the invalid tensor or key.
 */
export function parseHeader(bytes: Uint8Array, fileBytes: number): Header {
  const cursor = new Cursor(bytes, fileBytes);
  if (fileBytes < 4 || cursor.uint32() !== MAGIC) {
    throw new GgufError("a GGUF file starts with the bytes 'GGUF': this is another format");
  }
  const version = cursor.uint32();
  if (!VERSIONS.includes(version)) {
    const isBigEndian = version > 0 && (version & 0xffff) === 0;
    throw new GgufError(
      isBigEndian
        ? 'the file is big-endian, which is not supported'
        : `the file has version ${version} of the format, expected ${VERSIONS.join(' or ')}: convert the model again`,
    );
  }
  const tensors = cursor.count('tensors', { most: MAX_ENTRIES, least: TENSOR_BYTES });
  const entries = cursor.count('entries of metadata', { most: MAX_ENTRIES, least: ENTRY_BYTES });
  const metadata = readMetadata(cursor, entries);
  const alignment = alignmentIn(metadata);
  if (alignment === undefined) {
    throw new GgufError(`'${ALIGNMENT_KEY}' must be a uint32 that is a power of two`, ALIGNMENT_KEY);
  }
  const infos = Array.from({ length: tensors }, () => readInfo(cursor));
  const dataStart = aligned(cursor.at, alignment);
  return { version, metadata, locations: located(infos, { dataStart, alignment, fileBytes }) };
}

/** The minimum sizes of an entry of the metadata and of a tensor's description: empty names, one byte of value. */
const ENTRY_BYTES = 13;
const TENSOR_BYTES = 24;

function readMetadata(cursor: Cursor, entries: number): Map<string, MetadataValue> {
  const metadata = new Map<string, MetadataValue>();
  for (let entry = 0; entry < entries; entry++) {
    const key = cursor.string('a key', MAX_KEY_BYTES);
    if (metadata.has(key)) throw new GgufError(`key ${quote(key)} appears twice`, key);
    metadata.set(key, cursor.value(key));
  }
  return metadata;
}

interface TensorInfo extends TensorSpec {
  readonly name: string;
  readonly offset: number;
}

function readInfo(cursor: Cursor): TensorInfo {
  const name = cursor.string("a tensor's name", MAX_NAME_BYTES);
  const rank = cursor.uint32();
  if (rank > MAX_RANK) {
    throw new GgufError(`tensor ${quote(name)} has ${rank} axes, at most ${MAX_RANK} are read`, name);
  }
  const shape = Array.from({ length: rank }, () => cursor.uint64()).reverse();
  return { name, shape, type: typeNumbered(cursor.uint32(), name), offset: cursor.uint64() };
}

/** Where the tensors are in the file. */
interface Layout {
  readonly dataStart: number;
  readonly alignment: number;
  readonly fileBytes: number;
}

/** Checks that the tensors follow one another, as llama.cpp requires. */
function located(
  infos: readonly TensorInfo[],
  { dataStart, alignment, fileBytes }: Layout,
): Map<string, Location<TensorSpec>> {
  const locations = new Map<string, Location<TensorSpec>>();
  let expected = 0;
  for (const { name, type, shape, offset } of infos) {
    if (locations.has(name)) throw new GgufError(`tensor ${quote(name)} appears twice`, name);
    const length = byteLengthOf(name, { type, shape });
    if (offset !== expected) {
      throw new GgufError(
        `tensor ${quote(name)} starts at byte ${offset} of the data, expected ${expected}, after the tensor before it`,
        name,
      );
    }
    const begin = dataStart + offset;
    const end = begin + length;
    if (end > fileBytes) {
      throw new GgufError(
        `tensor ${quote(name)} ends at byte ${end}, the file has ${fileBytes}: it is truncated`,
        name,
      );
    }
    locations.set(name, { spec: { type, shape }, begin, end });
    expected = aligned(offset + length, alignment);
  }
  return locations;
}

/** Reads values one after the other. Nothing is allocated before it is known that the file has its bytes. */
class Cursor {
  at = 0;
  private elements = 0;
  private arrays = 0;
  private readonly view: DataView;

  constructor(
    private readonly bytes: Uint8Array,
    private readonly fileBytes: number,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  uint32(): number {
    return this.view.getUint32(this.take(4), true);
  }

  uint64(): number {
    return Number(this.view.getBigUint64(this.take(8), true));
  }

  /** Reads a count of things of at least `least` bytes each. */
  count(what: string, { most, least }: { readonly most: number; readonly least: number }, path?: string): number {
    const count = this.uint64();
    if (count <= most && count * least <= this.fileBytes - this.at) return count;
    throw new GgufError(
      `the file announces ${count} ${what}; at most ${most} are read, and it has ${this.fileBytes} bytes`,
      path,
    );
  }

  string(what: string, most = MAX_HEADER_BYTES, path?: string): string {
    const length = this.count(`bytes of ${what}`, { most, least: 1 }, path);
    const start = this.take(length);
    try {
      return TEXT.decode(this.bytes.subarray(start, start + length));
    } catch (cause) {
      throw new GgufError(`${what} is not valid UTF-8`, path, cause);
    }
  }

  value(key: string): MetadataValue {
    const type = this.type(key);
    if (type === 'array') return this.array(key, 1);
    if (type === 'string') return { type, value: this.string(`the value of ${quote(key)}`, undefined, key) };
    if (type === 'bool') return { type, value: this.boolean(key) };
    const [value] = this.numbers(type, 1);
    return { type, value } as MetadataValue;
  }

  private array(key: string, depth: number): MetadataArray {
    if (depth > MAX_DEPTH)
      throw new GgufError(`the arrays of ${quote(key)} are nested more than ${MAX_DEPTH} deep`, key);
    this.arrays = this.counted(this.arrays + 1, MAX_ARRAYS, 'arrays', key);
    const of = this.type(key);
    const least = isNumberType(of) ? NUMBERS[of].BYTES_PER_ELEMENT : LEAST_BYTES[of];
    const length = this.count(`elements of ${quote(key)}`, { most: MAX_HEADER_BYTES, least }, key);
    if (isNumberType(of)) return { type: 'array', of, value: this.numbers(of, length) } as MetadataArray;
    // Known before an array of that length is made.
    if (of !== 'array')
      this.elements = this.counted(this.elements + length, MAX_ELEMENTS, 'strings and booleans in arrays', key);
    this.require(length * least);
    const read = <T>(element: () => T): T[] => Array.from({ length }, element);
    if (of === 'bool') return { type: 'array', of, value: read(() => this.boolean(key)) };
    if (of === 'array') return { type: 'array', of, value: read(() => this.array(key, depth + 1)) };
    return { type: 'array', of, value: read(() => this.string(`a string of ${quote(key)}`, undefined, key)) };
  }

  private counted(count: number, most: number, what: string, key: string): number {
    if (count <= most) return count;
    throw new GgufError(`the metadata have more than ${most} ${what}`, key);
  }

  private type(key: string): MetadataValue['type'] {
    const id = this.uint32();
    const type = METADATA_TYPES[id];
    if (type) return type;
    throw new GgufError(`the value of ${quote(key)} has the unknown type ${id}`, key);
  }

  private boolean(key: string): boolean {
    const byte = this.view.getUint8(this.take(1));
    if (byte <= 1) return byte === 1;
    throw new GgufError(`a boolean of ${quote(key)} must be 0 or 1, got ${byte}`, key);
  }

  private numbers(type: keyof typeof NUMBERS, length: number): InstanceType<(typeof NUMBERS)[typeof type]> {
    const Numbers = NUMBERS[type];
    const start = this.take(length * Numbers.BYTES_PER_ELEMENT);
    const copy = new Uint8Array(this.bytes.subarray(start, this.at)); // aligned; the slice of a Buffer is no copy
    return new Numbers(copy.buffer, 0, length);
  }

  private take(length: number): number {
    this.require(length);
    this.at += length;
    return this.at - length;
  }

  private require(length: number): void {
    const end = this.at + length;
    if (end <= this.bytes.byteLength) return;
    if (end > this.fileBytes) {
      throw new GgufError(`the header needs ${end} bytes, the file has ${this.fileBytes}: it is truncated`);
    }
    if (this.bytes.byteLength >= MAX_HEADER_BYTES) {
      throw new GgufError(`the header has more than ${MAX_HEADER_BYTES} bytes`);
    }
    throw new NeedsMore();
  }
}

/** The minimum size of an element without a fixed one. */
const LEAST_BYTES = { bool: 1, string: 8, array: 12 } as const;

const TEXT = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
