import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { CheckpointError } from '@peftjs/core/method';

/** A value on the wire: a number, or the bytes of a string, a message, packed numbers or a fixed-size number. */
type Wire = number | Uint8Array;

/**
 * The fields of a Protocol Buffers message, by number. Nothing is copied: bytes are views of the file, and messages
 * within are parsed when they are first asked for.
 */
export class Message {
  readonly #fields = new Map<number, Wire[]>();
  readonly #messages = new Map<number, Message[]>();

  /** @throws CheckpointError when the bytes are not a message. */
  constructor(bytes: Uint8Array) {
    for (const { field, value } of fieldsIn(bytes)) {
      const known = this.#fields.get(field);
      if (known) known.push(value);
      else this.#fields.set(field, [value]);
    }
  }

  /** Returns an integer, the last one if there are several, as in every reader. */
  int(field: number): number {
    return this.ints(field).at(-1) ?? 0;
  }

  /** Returns integers, packed or not. Those beyond 2^53 are rounded. */
  ints(field: number): number[] {
    return this.#all(field).flatMap((value) => (typeof value === 'number' ? [value] : packedInts(value)));
  }

  /** Returns the bytes of numbers of a fixed size, packed or not, one after the other. */
  fixed(field: number): Uint8Array<ArrayBuffer> {
    return written(this.bytes(field));
  }

  /** Returns a text, the last one if there are several. */
  text(field: number): string {
    return this.texts(field).at(-1) ?? '';
  }

  /** Returns texts. @throws CheckpointError when one is not UTF-8. */
  texts(field: number): string[] {
    return this.bytes(field).map(textIn);
  }

  /** Returns the messages of a field. */
  messages(field: number): Message[] {
    const known = this.#messages.get(field) ?? this.bytes(field).map((bytes) => new Message(bytes));
    this.#messages.set(field, known);
    return known;
  }

  /** Returns the last message of a field, which is empty if there is none. */
  message(field: number): Message {
    return this.messages(field).at(-1) ?? new Message(new Uint8Array());
  }

  /** Returns the values of a field as bytes. @throws CheckpointError when one is a number. */
  bytes(field: number): Uint8Array[] {
    return this.#all(field).map((value) => {
      if (typeof value !== 'number') return value;
      throw new CheckpointError(`field ${field} of a message is the number ${value}, expected bytes`);
    });
  }

  /** Whether the message has a field. */
  has(field: number): boolean {
    return this.#fields.has(field);
  }

  #all(field: number): readonly Wire[] {
    return this.#fields.get(field) ?? [];
  }
}

/** A field of a message, and all of its bytes, the number of the field included. */
export interface Field {
  readonly field: number;
  readonly value: Wire;
  readonly whole: Uint8Array;
}

/** Returns the fields of a message in their order. @throws CheckpointError when the bytes are not a message. */
export function fieldsIn(bytes: Uint8Array): Field[] {
  return parsed(() => {
    const reader = new BinaryReader(bytes);
    const fields: Field[] = [];
    while (reader.pos < reader.len) {
      const start = reader.pos;
      const [field, type] = reader.tag();
      const value = valueOf(reader, field, type);
      fields.push({ field, value, whole: bytes.subarray(start, reader.pos) });
    }
    return fields;
  });
}

function valueOf(reader: BinaryReader, field: number, type: WireType): Wire {
  if (type === WireType.Varint) return Number(reader.int64());
  if (type === WireType.LengthDelimited) return reader.bytes();
  return reader.skip(type, field);
}

function packedInts(bytes: Uint8Array): number[] {
  return parsed(() => {
    const reader = new BinaryReader(bytes);
    const numbers: number[] = [];
    while (reader.pos < reader.len) numbers.push(Number(reader.int64()));
    return numbers;
  });
}

const TEXT = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Decodes UTF-8. @throws CheckpointError */
export function textIn(bytes: Uint8Array): string {
  return parsed(() => TEXT.decode(bytes));
}

function parsed<T>(parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    if (cause instanceof CheckpointError) throw cause;
    throw new CheckpointError(`the bytes are not a message of Protocol Buffers: ${String(cause)}`, undefined, cause);
  }
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
export function written(message: Fields | readonly Part[]): Uint8Array<ArrayBuffer> {
  const writer = new BinaryWriter();
  for (const part of message.length === undefined ? partsOf(message) : message) {
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
