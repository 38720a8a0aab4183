import { memoryStorage, PeftError } from '@peftjs/core';
import { mapValues } from '@peftjs/core/method';
import { fromPretrained } from '@peftjs/models';
import { fromOnnx } from '@peftjs/onnx';
import { GgufError, openGguf } from '@peftjs/gguf';
import { bytesSource, openSafetensors, SafetensorsError } from '@peftjs/safetensors';
import { readTable } from '@peftjs/tasks';

type Bytes = Uint8Array | readonly number[] | string;

/** Parts of a file, one after the other. */
function joined(...parts: readonly Bytes[]): Uint8Array {
  const bytes = parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : Uint8Array.from(part)));
  return new Uint8Array(Buffer.concat(bytes));
}

/** A pattern that is repeated up to a number of bytes. */
function filled(bytes: number, pattern: string | readonly number[]): Uint8Array {
  const unit = typeof pattern === 'string' ? Buffer.from(pattern) : Uint8Array.from(pattern);
  return Buffer.alloc(bytes - (bytes % unit.length), unit);
}

/** Texts that are made of numbers, up to a number of bytes. */
function numbered(bytes: number, text: (number: string) => string): Uint8Array {
  const all = Buffer.alloc(bytes);
  let length = 0;
  for (let at = 0; length < bytes - 100; at++) length += all.write(text(at.toString(36)), length);
  return all.subarray(0, length);
}

const varint = (value: number): number[] =>
  value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))];

/** A field of Protocol Buffers that holds bytes. */
const field = (number: number, bytes: Uint8Array | readonly number[]): Uint8Array =>
  joined(varint(number * 8 + 2), varint(bytes.length), bytes);

/** An ONNX model of a graph. */
const graph = (bytes: Uint8Array): Uint8Array => joined(field(7, bytes), [0x42, 2, 0x10, 17]);

const u64 = (value: number): Uint8Array => new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);
const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);

/** A GGUF file with an array in its metadata. */
const gguf = (type: number, least: number, elements: Uint8Array): Uint8Array =>
  joined('GGUF', u32(3), u64(0), u64(1), u64(1), 'a', u32(9), u32(type), u64(elements.length / least), elements);

/** A safetensors file that is all header. */
const safetensors = (json: Uint8Array): Uint8Array => joined(u64(json.length), json);

/** A Parquet file that is all footer. */
const parquet = (footer: Uint8Array): Uint8Array => joined('PAR1', footer, u32(footer.length), 'PAR1');

/** JSON objects of as many things as possible. */
const things: Readonly<Record<string, (bytes: number) => Uint8Array>> = {
  objects: (bytes) => joined('{"a":[', filled(bytes, '{},'), '0]}'),
  lists: (bytes) => joined('{"a":[', filled(bytes, '[],'), '0]}'),
  keys: (bytes) =>
    joined(
      '{"a":{',
      numbered(bytes, (number) => `"${number}":0,`),
      '"":0}}',
    ),
  numbers: (bytes) => joined('{"a":[', filled(bytes, '1,'), '0]}'),
  texts: (bytes) => joined('{"a":[', filled(bytes, '"ab",'), '0]}'),
  'one text': (bytes) => joined('{"a":"', filled(bytes, 'a'), '\u4e00"}'),
};

const inFolder = (bytes: Uint8Array): Promise<unknown> =>
  fromPretrained('m', {
    storage: memoryStorage(
      new Map([
        ['m/model.safetensors', new Uint8Array(8)],
        ['m/config.json', bytes],
      ]),
    ),
  });

const readers = {
  ONNX: (bytes: Uint8Array) =>
    fromOnnx('m.onnx', { task: 'feature-extraction', storage: memoryStorage(new Map([['m.onnx', bytes]])) }),
  GGUF: (bytes: Uint8Array) => openGguf(bytesSource(bytes)),
  safetensors: (bytes: Uint8Array) => openSafetensors(bytesSource(bytes)),
  Parquet: (bytes: Uint8Array) => readTable(bytes, { path: 'a.parquet' }),
  'config.json': inFolder,
  CSV: (bytes: Uint8Array) => readTable(bytes, { path: 'a.csv' }),
  TSV: (bytes: Uint8Array) => readTable(bytes, { path: 'a.tsv' }),
  JSONL: (bytes: Uint8Array) => readTable(bytes, { path: 'a.jsonl' }),
};

/** An ONNX model of a graph with empty fields of this number. */
const empty =
  (number: number) =>
  (bytes: number): Uint8Array =>
    graph(filled(bytes, [number * 8 + 2, 0]));

/** An ONNX model of a node with these fields. */
const node = (fields: Uint8Array): Uint8Array => graph(field(1, fields));

/** An ONNX model of a tensor of a type with these fields. */
const tensor = (type: number, ...fields: readonly Uint8Array[]): Uint8Array =>
  graph(field(5, joined([16, type], ...fields)));

/** The type of an attribute: whole numbers, texts. */
const [ints, texts] = [7, 8].map((type) => [0xa0, 1, type]) as [number[], number[]];

/** The largest files of parts that are as small as their format allows, by what reads them. */
const files: Readonly<Record<keyof typeof readers, Readonly<Record<string, (bytes: number) => Uint8Array>>>> = {
  ONNX: {
    'fields that nobody reads': (bytes) => filled(bytes, [0x1a, 0]),
    graphs: (bytes) => filled(bytes, [0x3a, 0]),
    opsets: (bytes) => joined(graph(new Uint8Array()), filled(bytes, [0x42, 0])),
    nodes: empty(1),
    tensors: empty(5),
    inputs: empty(11),
    outputs: empty(12),
    'inputs of a node': (bytes) => node(filled(bytes, [10, 0])),
    'attributes of a node': (bytes) => node(filled(bytes, [42, 0])),
    'notes of a node': (bytes) => node(filled(bytes, [74, 0])),
    'numbers of an attribute': (bytes) => node(field(5, joined(ints, field(8, filled(bytes, [1]))))),
    'texts of an attribute': (bytes) => node(field(5, joined(texts, filled(bytes, [74, 0])))),
    'axes of a tensor': (bytes) => tensor(1, field(1, filled(bytes, [1]))),
    'numbers of a tensor': (bytes) => tensor(7, field(1, varint(bytes)), field(7, filled(bytes, [1]))),
    'single numbers of a tensor': (bytes) => tensor(7, field(1, varint(bytes)), filled(bytes, [56, 1])),
    'names of other files': (bytes) => tensor(1, filled(bytes, [0x6a, 0])),
    'axes of an input': (bytes) => graph(field(11, field(2, field(1, field(2, filled(bytes, [10, 0])))))),
  },
  GGUF: {
    booleans: (bytes) => gguf(7, 1, filled(bytes, [1])),
    'short strings': (bytes) => gguf(8, 10, filled(bytes, [...u64(2), 97, 98])),
    'empty strings': (bytes) => gguf(8, 8, filled(bytes, [...u64(0)])),
    numbers: (bytes) => gguf(0, 1, filled(bytes, [1])),
  },
  safetensors: mapValues(things, (make) => (bytes: number) => safetensors(make(bytes))),
  'config.json': things,
  Parquet: {
    structures: (bytes) => parquet(joined([0x19, 0xfc], varint(bytes), filled(bytes, [0]))),
    fields: (bytes) => parquet(joined(filled(bytes, [0x15, 2]), [0])),
    numbers: (bytes) => parquet(joined([0x19, 0xf5], varint(bytes), filled(bytes, [2]), [0])),
    texts: (bytes) => parquet(joined([0x19, 0xf8], varint(bytes), filled(bytes, [0]), [0])),
  },
  CSV: {
    rows: (bytes) => joined('text,label\n', filled(bytes, 'a,b\n')),
    'as many rows as are read': (bytes) => joined('text,label\n', filled(bytes, 'a text of sixteen words at most,b\n')),
    'blank lines': (bytes) => joined('text,label\n', filled(bytes, '\n')),
    columns: (bytes) => joined(filled(bytes, ','), 'text,label\na,b\n'),
    cells: (bytes) => joined('text,label\n', filled(bytes, 'a,'), '\n'),
    quotes: (bytes) => joined('text,label\n', filled(bytes, '"",')),
  },
  TSV: {
    rows: (bytes) => joined('text\tlabel\n', filled(bytes, 'a\tb\n')),
    cells: (bytes) => joined('text\tlabel\n', filled(bytes, 'a\t'), '\n'),
  },
  JSONL: {
    rows: (bytes) => filled(bytes, '{"text":"a","label":"b"}\n'),
    'as many rows as are read': (bytes) => filled(bytes, '{"text":"abcdefg","label":"abc"}\n'),
    'empty rows': (bytes) => filled(bytes, '{}\n'),
    'no JSON': (bytes) => filled(bytes, 'a\n'),
    columns: (bytes) => numbered(bytes, (number) => `{"${number}":0}\n`),
    objects: (bytes) => filled(bytes, `{"text":[${'{},'.repeat(300_000)}0]}\n`),
  },
};

/** The readers of such files, and the names of those. */
export const costly: readonly (readonly [reader: string, file: string])[] = Object.entries(files).flatMap(
  ([reader, own]) => Object.keys(own).map((file) => [reader, file] as const),
);

/** Reads such a file: 'read', or why it was refused. */
export async function outcomeOf(reader: string, file: string, bytes: number): Promise<string> {
  const { [file]: make = () => new Uint8Array() } = files[reader as keyof typeof files];
  return readers[reader as keyof typeof files](make(bytes)).then(
    () => 'read',
    (error: unknown) => {
      if (error instanceof PeftError || error instanceof GgufError || error instanceof SafetensorsError)
        return error.message;
      throw error;
    },
  );
}
