import { describe, expect, it } from 'vitest';
import { readTable } from '@peftjs/tasks';
import { expectDataError } from './files.js';

/** The parts of Thrift's compact protocol that a Parquet file needs. */
type Field = readonly [id: number, type: number, bytes: readonly number[]];

const varint = (value: number): number[] =>
  value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))];
const int = (value: number): number[] => varint(value * 2);
const text = (value: string): number[] => [...varint(value.length), ...new TextEncoder().encode(value)];
const list = (type: number, items: readonly (readonly number[])[]): number[] => [
  items.length * 16 + type,
  ...items.flat(),
];
const struct = (...fields: readonly Field[]): number[] => [
  ...fields.flatMap(([id, type, bytes], index) => [(id - (fields[index - 1]?.[0] ?? 0)) * 16 + type, ...bytes]),
  0,
];
const [i32, i64, binary, listOf, structOf] = [5, 6, 8, 9, 12];

interface Claims {
  readonly rows: number;
  readonly values: number;
  readonly pageBytes: number;
  readonly page: readonly number[];
  readonly codec: number;
  readonly encoding: number;
  readonly dictionaryWords?: number;
  /** The number of the type: 0 is BOOLEAN, 1 is INT32, the default. */
  readonly type?: number;
}

/** A file with one column `label` of optional values, in one page with the given claims. */
function bomb({
  rows,
  values,
  pageBytes,
  page,
  codec,
  encoding,
  dictionaryWords,
  type: ofValues = 1,
}: Claims): Uint8Array {
  const dataHeader = struct([1, i32, int(values)], [2, i32, int(encoding)], [3, i32, int(3)], [4, i32, int(3)]);
  const header = (type: number, rest: Field, bytes: readonly number[]) => [
    ...struct([1, i32, int(type)], [2, i32, int(pageBytes)], [3, i32, int(bytes.length)], rest),
    ...bytes,
  ];
  const dictionary =
    dictionaryWords === undefined
      ? []
      : header(2, [7, structOf, struct([1, i32, int(dictionaryWords)], [2, i32, int(0)])], page);
  const pages = [...dictionary, ...header(0, [5, structOf, dataHeader], page)];
  const column = struct(
    [1, i32, int(ofValues)],
    [2, listOf, list(i32, [int(0)])],
    [3, listOf, list(binary, [text('label')])],
    [4, i32, int(codec)],
    [5, i64, int(values)],
    [6, i64, int(pages.length)],
    [7, i64, int(pages.length)],
    [9, i64, int(4)],
  );
  const group = struct(
    [1, listOf, list(structOf, [struct([2, i64, int(4)], [3, structOf, column])])],
    [2, i64, int(pages.length)],
    [3, i64, int(rows)],
  );
  const schema = [
    struct([4, binary, text('root')], [5, i32, int(1)]),
    struct([1, i32, int(ofValues)], [3, i32, int(1)], [4, binary, text('label')]),
  ];
  const footer = struct(
    [1, i32, int(1)],
    [2, listOf, list(structOf, schema)],
    [3, i64, int(rows)],
    [4, listOf, list(structOf, [group])],
  );
  return file(pages, footer);
}

function file(pages: readonly number[], footer: readonly number[]): Uint8Array {
  const length = new Uint8Array(Uint32Array.of(footer.length).buffer);
  const magic = new TextEncoder().encode('PAR1');
  return Uint8Array.from([...magic, ...pages, ...footer, ...length, ...magic]);
}

/** Two values: levels in a run of 1s, followed by dictionary numbers or plain values. */
const levels = [2, 0, 0, 0, 4, 1];
const plain = { rows: 2, values: 2, pageBytes: 14, page: [...levels, 1, 0, 0, 0, 0, 0, 0, 0], codec: 0, encoding: 0 };
const read = (claims: Claims) => readTable(bomb(claims), { path: 'bomb.parquet' });
const manyTimes = [255, 255, 255, 255, 7]; // a run of 2^30 and more

describe('a Parquet file with false claims', () => {
  const padded = [65, ...new Array<number>(32).fill(255)]; // a packed run of 256 bits
  const paddedLevels = [33, 0, 0, 0, ...padded, 1, 0, 0, 0, 0, 0, 0, 0];

  it.each<[string, Partial<Claims>]>([
    ['a run', {}],
    ['a packed run of 256 values, as DuckDB writes it', { page: paddedLevels, pageBytes: 45 }],
    ['a run of booleans', { type: 0, encoding: 3, page: [...levels, 2, 0, 0, 0, 4, 1], pageBytes: 12 }],
  ])('is read as far as its columns if the claims are true: %s', async (_, claims) => {
    await expectDataError(read({ ...plain, ...claims }), 'bomb.parquet:1', '"label"', '"text"');
  });

  it.each<[string, Partial<Claims>, string]>([
    ['rows', { rows: 2 ** 40, values: 2 ** 30 }, 'rows'],
    ['values', { values: 2 ** 30 }, 'values in a page'],
    ['bytes before compression', { pageBytes: 2 ** 30, codec: 1 }, 'bytes in an uncompressed page'],
    ['a run of levels', { page: [6, 0, 0, 0, ...[254, 255, 255, 255, 7], 1] }, 'values in a run'],
    ['a packed run of levels', { page: [6, 0, 0, 0, ...manyTimes, 1] }, 'values in a run'],
    ['a run of words', { encoding: 8, page: [...levels, 1, ...[254, 255, 255, 255, 7], 0] }, 'values in a run'],
    ['a packed run of words', { encoding: 8, page: [...levels, 1, ...manyTimes, 0] }, 'values in a run'],
    ['a run of booleans', { type: 0, encoding: 3, page: [...levels, 6, 0, 0, 0, ...manyTimes, 1] }, 'values in a run'],
    ['bits of a word', { encoding: 8, page: [...levels, 200, 4, 0] }, 'bits in a number'],
    ['words of a dictionary', { dictionaryWords: 2 ** 30 }, 'words in a dictionary'],
    ['an unsupported encoding', { encoding: 5 }, 'DELTA_BINARY_PACKED'],
    ['runs of numbers', { encoding: 3 }, 'got RLE'],
    ['an unsupported compression', { codec: 2 }, 'GZIP'],
  ])('is rejected before memory is allocated: %s', async (_, claims, part) => {
    await expectDataError(read({ ...plain, ...claims }), 'bomb.parquet', part);
  });

  const lists = [0x19, ...Array.from({ length: 40 }, () => [0xf9, ...varint(2 ** 25)]).flat()]; // each is the first element of the one before

  it.each<[string, readonly number[], string]>([
    ['lists of many elements', lists, 'bytes or elements, got 33554432'],
    ['lists in lists', [0x19, ...new Array<number>(40).fill(0x19)], 'structures within each other'],
    ['structures in structures', new Array<number>(40).fill(0x1c), 'structures within each other'],
    ['a long text', [0x18, ...varint(2 ** 30)], 'bytes or elements'],
    ['a number without end', [0x16, ...new Array<number>(5000).fill(255), 0], 'bytes of a number'],
    ['a number of eleven bytes', [0x16, ...new Array<number>(10).fill(128), 0], 'bytes of a number'],
    ['a map', [0x1b, 0, 0], 'cannot be read: thrift'],
    ['no end', [0x15, 2], 'cannot be read'],
  ])('is rejected for a footer of %s', async (_, footer, part) => {
    await expectDataError(readTable(file([], footer), { path: 'bomb.parquet' }), 'bomb.parquet', part);
  });

  it('costs no memory', async () => {
    const before = process.memoryUsage().rss;
    await expectDataError(read({ ...plain, page: [6, 0, 0, 0, ...[254, 255, 255, 255, 7], 1] }), 'values in a run');
    expect(process.memoryUsage().rss - before).toBeLessThan(200e6);
  });
});
