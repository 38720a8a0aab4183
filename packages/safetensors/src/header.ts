import { quote, reason, SafetensorsError } from './errors.js';
import type { Location } from './file.js';
import { byteLengthOf, dtypeNamed, type TensorSpec } from './tensor.js';

/** The number of bytes before the header: its length as a little-endian 64-bit integer. */
export const PREFIX_BYTES = 8;
/** The maximum size of the header in bytes, as in the reference implementation. */
export const MAX_HEADER_BYTES = 100_000_000;
/** The first 8 bytes of `version https://git-lfs.github.com/spec/v1`, which a clone without Git LFS has as a file. */
const GIT_LFS = 0x206e6f6973726576n;
/** The header's key for metadata; all others are tensors. */
export const METADATA_KEY = '__metadata__';

/** A tensor and the position of its bytes, counted from the end of the header. */
type TensorLocation = Location<TensorSpec>;

/** The header of a file. */
export interface Header {
  /** The tensors by name, in the order of their bytes. */
  readonly locations: ReadonlyMap<string, TensorLocation>;
  /** The metadata by key. */
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Returns the size of the header in bytes.
 * @param prefix The first bytes of the file.
 * @param fileBytes The size of the file in bytes.
 * @throws SafetensorsError when the size is impossible.
 */
export function headerLength(prefix: Uint8Array, fileBytes: number): number {
  if (fileBytes < PREFIX_BYTES) {
    throw new SafetensorsError(`the file has ${fileBytes} bytes, a safetensors file has at least ${PREFIX_BYTES}`);
  }
  const length = new DataView(prefix.buffer, prefix.byteOffset, PREFIX_BYTES).getBigUint64(0, true);
  if (length === GIT_LFS) throw new SafetensorsError('it is a pointer of Git LFS, not the file: run git lfs pull');
  if (length > MAX_HEADER_BYTES) {
    throw new SafetensorsError(
      `the first 8 bytes announce a header of ${length} bytes, at most ${MAX_HEADER_BYTES} are read: is this a safetensors file?`,
    );
  }
  if (length > fileBytes - PREFIX_BYTES) {
    throw new SafetensorsError(
      `a header of ${length} bytes is announced, the file has ${fileBytes} bytes: it is truncated or not a safetensors file`,
    );
  }
  return Number(length);
}

/**
 * Parses a header by the rules of the reference implementation: tensors are contiguous and fill the file, and each has
 * the bytes that its shape needs. Stricter than the reference: names are unique, and ranks, sizes and counts are
 * limited.
 * @param dataBytes The size of the file after the header, in bytes.
 * @throws SafetensorsError naming the invalid tensor or key.
 */
export function parseHeader(json: Uint8Array, dataBytes: number): Header {
  if (json[0] !== 0x7b) throw new SafetensorsError("the header must start with '{': this is not a safetensors file");
  const { [METADATA_KEY]: given = {}, ...tensors } = parseObject(json, 'header');
  const metadata = readMetadata(given);
  const locations = Object.entries(tensors).map(([name, value]) => [name, readLocation(name, value)] as const);
  locations.sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  checkCoverage(locations, dataBytes);
  return { locations: new Map(locations), metadata };
}

function readLocation(name: string, value: unknown): TensorLocation {
  const { dtype, shape, data_offsets: offsets } = isObject(value) ? value : {};
  if (typeof dtype !== 'string' || !areSizes(shape) || !areSizes(offsets) || offsets.length !== 2) {
    const needs = 'needs a dtype, a shape of non-negative integers, and data_offsets of two such integers';
    throw new SafetensorsError(`tensor ${quote(name)} ${needs}`, name);
  }
  const [begin, end] = offsets as [number, number];
  return checkedSize(name, { spec: { dtype: dtypeNamed(dtype, name), shape }, begin, end });
}

function areSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

function checkedSize(name: string, place: TensorLocation): TensorLocation {
  const { spec, begin, end } = place;
  const needed = byteLengthOf(name, spec);
  if (end - begin === needed) return place;
  const { dtype, shape } = spec;
  throw new SafetensorsError(
    `tensor ${quote(name)}: ${dtype} of shape [${shape.join(', ')}] takes ${needed} bytes, data_offsets [${begin}, ${end}] give ${end - begin}`,
    name,
  );
}

function readMetadata(value: unknown): Record<string, string> {
  const entries = isObject(value) ? Object.entries(value) : [];
  if (!isObject(value) || !entries.every(([, text]) => typeof text === 'string' && text.isWellFormed())) {
    throw new SafetensorsError(`'${METADATA_KEY}' must be an object of strings of valid characters`, METADATA_KEY);
  }
  return Object.assign(bareRecord(), value);
}

function checkCoverage(locations: readonly (readonly [string, TensorLocation])[], dataBytes: number): void {
  let covered = 0;
  for (const [name, { begin, end }] of locations) {
    if (begin !== covered) {
      const fault = begin < covered ? 'overlaps the tensor before it' : 'leaves a gap before it';
      throw new SafetensorsError(
        `tensor ${quote(name)} ${fault}: it starts at byte ${begin} of the data, expected ${covered}`,
        name,
      );
    }
    if (end > dataBytes) {
      throw new SafetensorsError(
        `tensor ${quote(name)} ends at byte ${end} of the data, the file has ${dataBytes}: it is truncated`,
        name,
      );
    }
    covered = end;
  }
  if (covered !== dataBytes) {
    throw new SafetensorsError(`the tensors fill ${covered} bytes, the file has ${dataBytes} bytes of data`);
  }
}

/** Returns an empty record without a prototype, in which `__proto__` is an ordinary key. */
export function bareRecord(): Record<string, string> {
  return Object.create(null) as Record<string, string>;
}

const MAX_DEPTH = 32;
/** The maximum number of keys in an object: tensors of a file or an index, or entries of the metadata. */
export const MAX_KEYS = 262_144;
/** The maximum number of objects and arrays. A tensor has three. */
const MAX_PARTS = 4 * MAX_KEYS;

/**
 * Parses an untrusted JSON object.
 * @param what The name of the document in messages.
 * @throws SafetensorsError for bytes that are not UTF-8 or not such an object, and as `checkStructure`.
 */
export function parseObject(bytes: Uint8Array, what: string): Readonly<Record<string, unknown>> {
  const text = decodeUtf8(bytes, what);
  checkStructure(text, what);
  try {
    const value: unknown = JSON.parse(text);
    if (isObject(value)) return value;
  } catch (cause) {
    throw new SafetensorsError(`${what} is not valid JSON: ${quote(reason(cause))}`, undefined, cause);
  }
  throw new SafetensorsError(`${what}: expected an object`);
}

/** Whether a JSON value is an object. */
export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * Walks over JSON before anything is built from it.
 * @throws SafetensorsError for duplicate keys, keys that are not valid Unicode, and too many keys, parts or levels.
 */
function checkStructure(text: string, what: string): void {
  const open: Set<string>[] = []; // the keys of each object or array around this place
  let [parts, start, end] = [0, 0, 0]; // the last string is at [start, end)
  let outermost: string | undefined;
  const fault = (message: string, key = outermost) => new SafetensorsError(`${what}: ${message}`, key);
  for (let at = 0; at < text.length; at++) {
    const mark = text[at];
    if (mark === '"') {
      [start, end] = [at, closingQuote(text, at + 1) + 1];
      at = end - 1;
    } else if (mark === '{' || mark === '[') {
      if (open.push(new Set()) > MAX_DEPTH) throw fault(`nested more than ${MAX_DEPTH} deep`);
      if (++parts > MAX_PARTS) throw fault(`more than ${MAX_PARTS} objects and arrays`);
    } else if (mark === '}' || mark === ']') open.pop();
    else if (mark === ':') {
      const key = decodeString(text.slice(start, end));
      const keys = open.at(-1) ?? new Set();
      if (!key.isWellFormed()) throw fault(`key ${quote(key)} must be a string of valid characters`, key);
      if (keys.has(key)) throw fault(`key ${quote(key)} appears twice`, key);
      if (keys.add(key).size > MAX_KEYS) throw fault(`more than ${MAX_KEYS} keys in one object`);
      if (open.length === 1) outermost = key;
    }
  }
}

function decodeUtf8(bytes: Uint8Array, what: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new SafetensorsError(`${what} is not valid UTF-8: ${reason(cause)}`, undefined, cause);
  }
}

/**
 * Returns the index of the quote that ends a string whose characters start at `from`; the text's length if there is
 * none.
 */
function closingQuote(text: string, from: number): number {
  let at = from;
  while (at < text.length && text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
  return at;
}

/** Returns the value of a string token. One that is not JSON is returned as it is: parsing the document reports it. */
function decodeString(token: string): string {
  try {
    return String(JSON.parse(token));
  } catch {
    return token;
  }
}
