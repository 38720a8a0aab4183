import type { Named } from '@peftjs/safetensors';
import { allocated, entriesOf, quote, reason } from '@peftjs/safetensors/format';
import { BLOCKS, byteLengthOf, type GgufTensor } from './blocks.js';
import { GgufError } from './errors.js';
import { MAGIC, MAX_ENTRIES, MAX_HEADER_BYTES, MAX_KEY_BYTES, MAX_NAME_BYTES } from './header.js';
import {
  aligned,
  alignmentIn,
  ALIGNMENT_KEY,
  METADATA_TYPES,
  NUMBERS,
  type MetadataArray,
  type MetadataValue,
} from './metadata.js';

const VERSION = 3;

/**
 * Returns a file of version 3 with these tensors and metadata, in their order. `general.alignment` in the metadata
 * decides the alignment of the tensors, by default 32 bytes.
 * @throws GgufError naming the tensor or key that cannot be written.
 */
export function writeGguf(tensors: Named<GgufTensor>, metadata: Named<MetadataValue> = {}): Uint8Array {
  const [pieces, entries] = [checkedEntries(tensors, 'tensors'), checkedEntries(metadata, 'entries of metadata')];
  const alignment = alignmentIn(new Map(entries));
  if (alignment === undefined) {
    throw new GgufError(`'${ALIGNMENT_KEY}' must be a uint32 that is a power of two`, ALIGNMENT_KEY);
  }
  const header = new HeaderBytes();
  header.numbers('uint32', [MAGIC, VERSION]).numbers('uint64', [BigInt(pieces.length), BigInt(entries.length)]);
  for (const [key, value] of entries) {
    header.string(key, key, MAX_KEY_BYTES);
    writeValue(header, key, value);
  }
  let dataBytes = 0;
  const begins = pieces.map(([name, tensor]) => {
    const begin = aligned(dataBytes, alignment);
    header.string(name, name, MAX_NAME_BYTES);
    writeInfo(header, name, tensor, begin);
    dataBytes = begin + tensor.data.byteLength;
    return begin;
  });
  const dataStart = aligned(header.length, alignment);
  const file = allocated(aligned(dataStart + dataBytes, alignment), GgufError);
  header.copyTo(file);
  for (const [index, [, { data }]] of pieces.entries()) file.set(data, dataStart + (begins[index] as number));
  return file;
}

function writeInfo(header: HeaderBytes, name: string, { type, shape, data }: GgufTensor, begin: number): void {
  const needed = byteLengthOf(name, { type, shape });
  if (data.byteLength !== needed) {
    throw new GgufError(
      `tensor ${quote(name)}: ${type} of shape [${shape.join(', ')}] takes ${needed} bytes, its data has ${data.byteLength}`,
      name,
    );
  }
  const sizes = shape.map((size) => BigInt(size)).reverse();
  header.numbers('uint32', [shape.length]).numbers('uint64', sizes);
  header.numbers('uint32', [BLOCKS[type].id]).numbers('uint64', [BigInt(begin)]);
}

function writeValue(header: HeaderBytes, key: string, entry: MetadataValue): void {
  header.numbers('uint32', [typeNumber(entry.type, key)]);
  if (entry.type === 'array') writeArray(header, key, entry);
  else if (entry.type === 'string') header.string(entry.value, key);
  else if (entry.type === 'bool') header.numbers('uint8', [Number(entry.value)]);
  else header.numbers(entry.type, [entry.value], key);
}

function writeArray(header: HeaderBytes, key: string, entry: MetadataArray): void {
  header.numbers('uint32', [typeNumber(entry.of, key)]).numbers('uint64', [BigInt(entry.value.length)]);
  if (entry.of === 'array') for (const inner of entry.value) writeArray(header, key, inner);
  else if (entry.of === 'string') for (const text of entry.value) header.string(text, key);
  else if (entry.of === 'bool') header.numbers('uint8', entry.value.map(Number));
  else header.numbers(entry.of, entry.value, key);
}

function typeNumber(type: MetadataValue['type'], key: string): number {
  const id = METADATA_TYPES.indexOf(type);
  if (id >= 0) return id;
  throw new GgufError(`${quote(key)} has type ${quote(type)}; known ones are ${METADATA_TYPES.join(', ')}`, key);
}

/** The bytes before the tensors. */
class HeaderBytes {
  length = 0;
  private readonly parts: Uint8Array[] = [];

  numbers(type: keyof typeof NUMBERS, values: ArrayLike<number | bigint>, key = ''): this {
    const list = Array.from(values);
    const numbers = attempt(() => (NUMBERS[type] as Uint8ArrayConstructor).from(list as number[]), key);
    const isSame = list.every((value, i) => Object.is(numbers[i], value) || isFloatOf(type, value));
    if (!isSame) throw new GgufError(`${quote(key)}: a value does not fit into ${type}`, key);
    return this.add(new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength));
  }

  string(text: string, key: string, most = MAX_HEADER_BYTES): this {
    if (typeof text !== 'string' || !text.isWellFormed()) {
      throw new GgufError(`${quote(key)}: expected a string of Unicode characters`, key);
    }
    const bytes = TEXT.encode(text);
    if (bytes.byteLength > most) {
      throw new GgufError(`${quote(key)} has ${bytes.byteLength} bytes, at most ${most} are allowed`, key);
    }
    return this.numbers('uint64', [BigInt(bytes.byteLength)]).add(bytes);
  }

  copyTo(file: Uint8Array): void {
    let at = 0;
    for (const part of this.parts) {
      file.set(part, at);
      at += part.byteLength;
    }
  }

  private add(part: Uint8Array): this {
    this.length += part.byteLength;
    this.parts.push(part);
    if (this.length <= MAX_HEADER_BYTES) return this;
    throw new GgufError(`names and metadata need more than ${MAX_HEADER_BYTES} bytes`);
  }
}

/** Whether a value may change when it is written: only a float32, which is rounded. */
function isFloatOf(type: keyof typeof NUMBERS, value: number | bigint): boolean {
  return type === 'float32' && typeof value === 'number';
}

const TEXT = new TextEncoder();

function attempt<T>(make: () => T, key: string): T {
  try {
    return make();
  } catch (cause) {
    throw new GgufError(`${quote(key)}: ${reason(cause)}`, key, cause);
  }
}

function checkedEntries<T>(named: Named<T>, what: string): [string, T][] {
  const entries = entriesOf(named);
  if (entries.length <= MAX_ENTRIES) return entries;
  throw new GgufError(`expected at most ${MAX_ENTRIES} ${what} in one file, got ${entries.length}`);
}
