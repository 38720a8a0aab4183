import { quote, reason, SafetensorsError } from './errors.js';
import { byteLengthOf, dtypeNamed, MAX_RANK, type TensorSpec } from './tensor.js';

/** The number of bytes before the header: its length as a little-endian 64-bit integer. */
export const PREFIX_BYTES = 8;
/** The maximum size of the header in bytes, as in the reference implementation. */
export const MAX_HEADER_BYTES = 100_000_000;
/** The header's key for metadata; all others are tensors. */
export const METADATA_KEY = '__metadata__';

/** A tensor and the position of its bytes. */
export interface TensorLocation extends TensorSpec {
  /** The first byte, counted from the end of the header. */
  readonly begin: number;
  /** The end of the bytes (exclusive), counted from the end of the header. */
  readonly end: number;
}

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
  const reader = new JsonReader(json, 'header');
  const locations: [string, TensorLocation][] = [];
  let metadata: Record<string, string> = bareRecord();
  reader.object((key) => {
    if (key === METADATA_KEY) metadata = readMetadata(reader);
    else locations.push([key, readLocation(reader, key)]);
  });
  reader.end();
  locations.sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  checkCoverage(locations, dataBytes);
  return { locations: new Map(locations), metadata };
}

function readLocation(reader: JsonReader, name: string): TensorLocation {
  const fields: { dtype?: string; shape?: number[]; offsets?: number[] } = {};
  reader.object((field) => {
    if (field === 'dtype') fields.dtype = reader.string();
    else if (field === 'shape') fields.shape = reader.integers(MAX_RANK);
    else if (field === 'data_offsets') fields.offsets = reader.integers(2);
    else reader.skip();
  });
  const { dtype, shape, offsets: [begin, end] = [] } = fields;
  if (dtype === undefined || shape === undefined || begin === undefined || end === undefined) {
    throw new SafetensorsError(`tensor ${quote(name)} needs dtype, shape and data_offsets of two integers`, name);
  }
  return checkedSize(name, { dtype: dtypeNamed(dtype, name), shape, begin, end });
}

function checkedSize(name: string, place: TensorLocation): TensorLocation {
  const needed = byteLengthOf(name, place);
  if (place.end - place.begin === needed) return place;
  const { dtype, shape, begin, end } = place;
  throw new SafetensorsError(
    `tensor ${quote(name)}: ${dtype} of shape [${shape.join(', ')}] takes ${needed} bytes, data_offsets [${begin}, ${end}] give ${end - begin}`,
    name,
  );
}

function readMetadata(reader: JsonReader): Record<string, string> {
  const metadata = bareRecord();
  reader.object((key) => {
    metadata[key] = reader.string();
  });
  return metadata;
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
const SHOWN_CHARACTERS = 24;

const INTEGER = /(?:0|[1-9]\d*)(?![\d.eE])/y;
const LITERAL = /true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const LONE_SURROGATE = /\p{Surrogate}/u;

/**
 * Reads untrusted JSON piece by piece. It only builds what the caller asks for, rejects duplicate keys, and limits the
 * nesting and the number of keys.
 */
export class JsonReader {
  readonly #text: string;
  readonly #what: string;
  readonly #keys: string[] = [];
  #at = 0;
  #depth = 0;

  /** @param what The name of the document in messages. @throws SafetensorsError when the bytes are not UTF-8. */
  constructor(bytes: Uint8Array, what: string) {
    this.#what = what;
    this.#text = decodeUtf8(bytes, what);
  }

  /** Reads an object. `onKey` must read the value of each key. */
  object(onKey: (key: string) => void): void {
    const seen = new Set<string>();
    this.#sequence('{', '}', 'an object', () => {
      const key = this.string();
      if (seen.has(key)) throw this.#error(`key ${quote(key)} appears twice`, key);
      if (seen.size === MAX_KEYS) throw this.#error(`more than ${MAX_KEYS} keys in one object`);
      seen.add(key);
      this.#take(':');
      this.#keys.push(key);
      onKey(key);
      this.#keys.pop();
    });
  }

  /** Reads an array. `onItem` must read each item. */
  array(onItem: () => void): void {
    this.#sequence('[', ']', 'an array', onItem);
  }

  /** Reads an array of at most `most` non-negative integers. */
  integers(most: number): number[] {
    const values: number[] = [];
    this.array(() => {
      if (values.length === most) throw this.expected(`at most ${most} integers`);
      values.push(this.#integer());
    });
    return values;
  }

  /** Reads a string. */
  string(): string {
    if (this.#peek() !== '"') throw this.expected('a string');
    const end = closingQuote(this.#text, this.#at + 1);
    const value = decodeString(this.#text.slice(this.#at, end + 1));
    if (value === undefined) throw this.expected('a string of valid characters and escapes');
    this.#at = end + 1;
    return value;
  }

  /** Checks and skips any value. */
  skip(): void {
    const first = this.#peek();
    if (first === '{') {
      this.object(() => {
        this.skip();
      });
    } else if (first === '[') {
      this.array(() => {
        this.skip();
      });
    } else if (first === '"') this.string();
    else if (this.#match(LITERAL) === undefined) throw this.expected('a value');
  }

  /** Checks that only white space follows. */
  end(): void {
    if (this.#peek() !== '') throw this.expected('the end');
  }

  /** The error for finding something other than `wanted` here. */
  expected(wanted: string): SafetensorsError {
    const rest = this.#text.slice(this.#at, this.#at + SHOWN_CHARACTERS);
    return this.#error(`expected ${wanted} at character ${this.#at}, found ${rest === '' ? 'the end' : quote(rest)}`);
  }

  #error(message: string, key = this.#keys[0]): SafetensorsError {
    const place = this.#keys.map((each) => quote(each)).join('.');
    return new SafetensorsError(`${this.#what}${place === '' ? '' : `, at ${place}`}: ${message}`, key);
  }

  #sequence(open: string, close: string, what: string, onItem: () => void): void {
    if (this.#peek() !== open) throw this.expected(what);
    if (++this.#depth > MAX_DEPTH) throw this.#error(`nested more than ${MAX_DEPTH} deep`);
    this.#at++;
    if (this.#peek() !== close) {
      onItem();
      while (this.#peek() === ',') {
        this.#at++;
        onItem();
      }
    }
    this.#take(close);
    this.#depth--;
  }

  #integer(): number {
    this.#peek();
    const digits = this.#match(INTEGER);
    if (digits === undefined) throw this.expected('a non-negative integer');
    const value = Number(digits);
    if (!Number.isSafeInteger(value)) throw this.#error(`integer ${quote(digits)} is out of range`);
    return value;
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found !== undefined) this.#at += found.length;
    return found;
  }

  #take(mark: string): void {
    if (this.#peek() !== mark) throw this.expected(quote(mark));
    this.#at++;
  }

  /** Skips white space and returns the next character without reading it; '' at the end. */
  #peek(): string {
    while (isSpace(this.#text.charCodeAt(this.#at))) this.#at++;
    return this.#text.charAt(this.#at);
  }
}

/** Whether a string is valid Unicode, without lone surrogates, which UTF-8 cannot encode. */
export function isWellFormed(text: string): boolean {
  return !LONE_SURROGATE.test(text);
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

/** Returns the value of a string token; undefined if it is invalid JSON or Unicode. */
function decodeString(token: string): string | undefined {
  try {
    const value = JSON.parse(token) as string;
    return isWellFormed(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isSpace(code: number): boolean {
  return code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09;
}
