import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { CheckpointError } from '@peftjs/core/method';

/** A value on the wire: a number, or the bytes of a string, a message, packed numbers or a fixed-size number. */
type Wire = number | Uint8Array;

/**
 * The most texts, messages and numbers of lists that are read of one file. The largest graphs have some hundred
 * thousand.
 */
const MOST_VALUES = 2_000_000;

/**
 * The fields of a Protocol Buffers message, by number. A field is looked up in the bytes each time that it is asked for,
 * so that a message takes no memory but what is read of it: a field may be two bytes long, and an object for each would
 * take hundreds of times as much. Nothing is copied: bytes are views of the file.
 */
export class Message {
  readonly #bytes: Uint8Array;
  readonly #file: { values: number };

  constructor(bytes: Uint8Array, file = { values: 0 }) {
    this.#bytes = bytes;
    this.#file = file;
  }

  /** Returns an integer, the last one if there are several, as in every reader; 0 if there is none. */
  int(field: number): number {
    let last = 0;
    for (const number of this.integers(field)) last = number;
    return last;
  }

  /** Returns a list of integers, packed or not. Those beyond 2^53 are rounded. */
  ints(field: number): number[] {
    return Array.from(this.integers(field), (number) => this.#counted(number));
  }

  /** Yields integers, packed or not, any number of them. Those beyond 2^53 are rounded. */
  *integers(field: number): Generator<number> {
    for (const { value } of fieldsIn(this.#bytes, field)) {
      if (typeof value === 'number') yield value;
      else yield* packedInts(value);
    }
  }

  /** Returns the bytes of numbers of a fixed size, packed or not, one after the other. */
  fixed(field: number): Uint8Array<ArrayBuffer> {
    const all = new Uint8Array(this.fixedLength(field));
    let at = 0;
    for (const bytes of this.#each(field)) {
      all.set(bytes, at);
      at += bytes.byteLength;
    }
    return all;
  }

  /** Returns the number of bytes of numbers of a fixed size. */
  fixedLength(field: number): number {
    let length = 0;
    for (const { from, end } of this.#places(field)) length += end - from;
    return length;
  }

  /** Returns a text, the last one if there are several. */
  text(field: number): string {
    return textIn(this.bytes(field) ?? new Uint8Array());
  }

  /** Returns texts. @throws CheckpointError when one is not UTF-8. */
  texts(field: number): string[] {
    return Array.from(this.#each(field), (bytes) => this.#counted(textIn(bytes)));
  }

  /** Yields the messages of a field. */
  *messages(field: number): Generator<Message> {
    for (const bytes of this.#each(field)) yield this.#counted(new Message(bytes, this.#file));
  }

  /** Returns the last message of a field, which is empty if there is none. */
  message(field: number): Message {
    return new Message(this.bytes(field) ?? new Uint8Array(), this.#file);
  }

  /** Returns the bytes of a field, the last ones if there are several. @throws CheckpointError for a number. */
  bytes(field: number): Uint8Array | undefined {
    let last: Place | undefined;
    for (const place of this.#places(field)) last = place;
    return last && this.#bytes.subarray(last.from, last.end);
  }

  /** Whether the message has a field. */
  has(field: number): boolean {
    return placesIn(this.#bytes, field).next().done !== true;
  }

  /** Returns how many values a field has. */
  count(field: number): number {
    let count = 0;
    const places = placesIn(this.#bytes, field);
    while (places.next().done !== true) count++;
    return count;
  }

  *#each(field: number): Generator<Uint8Array> {
    for (const { from, end } of this.#places(field)) yield this.#bytes.subarray(from, end);
  }

  /** Yields the places of a field that holds bytes. */
  *#places(field: number): Generator<Place> {
    for (const place of placesIn(this.#bytes, field)) {
      if (place.type === WireType.Varint)
        throw new CheckpointError(`field ${field} of a message is a number, expected bytes`);
      yield place;
    }
  }

  #counted<T>(value: T): T {
    if (++this.#file.values <= MOST_VALUES) return value;
    throw new CheckpointError(`the file has more than ${MOST_VALUES} texts, messages and numbers in lists`);
  }
}

/** A field of a message, and all of its bytes, the number of the field included. */
export interface Field {
  readonly field: number;
  readonly value: Wire;
  readonly whole: Uint8Array;
}

/**
 * Yields the fields of a message in their order.
 * @param only the number of the fields to yield. Default: all.
 * @throws CheckpointError when the bytes are not a message.
 */
export function* fieldsIn(bytes: Uint8Array, only?: number): Generator<Field> {
  const reader = new BinaryReader(bytes);
  for (const { field, type, start, from, end } of placesIn(bytes, only)) {
    reader.pos = from;
    const value = type === WireType.Varint ? Number(reader.int64()) : bytes.subarray(from, end);
    yield { field, value, whole: bytes.subarray(start, end) };
  }
}

/** Where a field is in the bytes of a message. */
interface Place {
  readonly field: number;
  readonly type: WireType;
  /** The first byte of the field's number, the first one of its value, and the one after that. */
  readonly start: number;
  readonly from: number;
  readonly end: number;
}

function* placesIn(bytes: Uint8Array, only?: number): Generator<Place> {
  const reader = new BinaryReader(bytes);
  try {
    while (reader.pos < reader.len) {
      const start = reader.pos;
      const [field, type] = reader.tag();
      const length = type === WireType.LengthDelimited ? reader.uint32() : 0;
      const from = reader.pos;
      if (type === WireType.LengthDelimited) reader.pos += length;
      else reader.skip(type, field);
      if (reader.pos > reader.len) break;
      if (only === undefined || field === only) yield { field, type, start, from, end: reader.pos };
    }
  } catch (cause) {
    throw notAMessage(cause);
  }
  if (reader.pos > reader.len) throw notAMessage('a field ends after them');
}

function* packedInts(bytes: Uint8Array): Generator<number> {
  const reader = new BinaryReader(bytes);
  try {
    while (reader.pos < reader.len) yield Number(reader.int64());
  } catch (cause) {
    throw notAMessage(cause);
  }
}

const TEXT = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Decodes UTF-8. @throws CheckpointError */
export function textIn(bytes: Uint8Array): string {
  try {
    return TEXT.decode(bytes);
  } catch (cause) {
    throw notAMessage(cause);
  }
}

function notAMessage(cause: unknown): CheckpointError {
  return new CheckpointError(`the bytes are not a message of Protocol Buffers: ${String(cause)}`, undefined, cause);
}

/** What a field holds: an integer, a text, bytes, or a message. */
type Value = number | string | Uint8Array | Fields;

/** A message to write: its fields by number, in whose order they are written; several of one number as a list. */
export interface Fields {
  readonly [field: number]: Value | readonly Value[];
  readonly length?: undefined;
}

/** A field with its number, or the bytes of one, its number included. */
export type Part = readonly [field: number, value: Value] | Uint8Array;

/** Returns the bytes of a message. */
export function written(message: Fields | Iterable<Part>): Uint8Array<ArrayBuffer> {
  const writer = new BinaryWriter();
  for (const part of Symbol.iterator in message ? message : partsOf(message)) {
    if (part instanceof Uint8Array) {
      writer.raw(part);
      continue;
    }
    const [field, value] = part;
    if (typeof value === 'number') writer.tag(field, WireType.Varint).int64(value);
    else if (typeof value === 'string') writer.tag(field, WireType.LengthDelimited).string(value);
    else writer.tag(field, WireType.LengthDelimited).bytes(value instanceof Uint8Array ? value : written(value));
  }
  return writer.finish();
}

function partsOf(fields: Fields): Part[] {
  return Object.entries(fields).flatMap(([field, of]) => {
    const values = (Array.isArray(of) ? of : [of]) as readonly Value[];
    return values.map((value): Part => [Number(field), value]);
  });
}
