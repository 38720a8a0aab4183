import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { CheckpointError } from '@peftjs/core/method';

/** A value on the wire: a number, or the bytes of a string, a message, packed numbers or a fixed-size number. */
type Wire = number | Uint8Array;

/**
 * The fields of a Protocol Buffers message, by number. Nothing is copied: bytes are views of the file, and messages
 * within are parsed when they are asked for.
 */
export class Message {
  readonly #fields = new Map<number, Wire[]>();

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
    return joined(this.bytes(field));
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
    return this.bytes(field).map((bytes) => new Message(bytes));
  }

  /** Returns the last message of a field, which is empty if there is none. */
  message(field: number): Message {
    return new Message(this.bytes(field).at(-1) ?? new Uint8Array());
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

/** Returns parts as one array. */
export function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let end = 0;
  for (const part of parts) {
    bytes.set(part, end);
    end += part.byteLength;
  }
  return bytes;
}

/** Returns the bytes of a field that holds a message or a text, given its content in parts. */
export function sized(field: number, parts: readonly Uint8Array[]): Uint8Array[] {
  const length = parts.reduce((sum, part) => sum + part.byteLength, 0);
  return [new BinaryWriter().tag(field, WireType.LengthDelimited).uint32(length).finish(), ...parts];
}

/** Returns the bytes of a message: numbers, texts, and messages or bytes, each with its number. */
export function written(
  fields: readonly (readonly [field: number, value: number | string | Uint8Array])[],
): Uint8Array {
  const writer = new BinaryWriter();
  for (const [field, value] of fields) {
    if (typeof value === 'number') writer.tag(field, WireType.Varint).int64(value);
    else if (typeof value === 'string') writer.tag(field, WireType.LengthDelimited).string(value);
    else writer.tag(field, WireType.LengthDelimited).bytes(value);
  }
  return writer.finish();
}
