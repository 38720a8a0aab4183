import { DataError } from '@peftjs/core/method';
import {
  type ColumnMetaData,
  type FileMetaData,
  type PageHeader,
  parquetMetadata,
  parquetReadObjects,
  parquetSchema,
  type SchemaElement,
  snappyUncompress,
} from 'hyparquet';
import { parquetHeader } from 'hyparquet/src/column.js';
import { checkRows, checkSize, errorAt, excerpt, type Table, type TableRecord } from './table.js';

/**
 * Reads the wanted columns of a Parquet file, with values as texts; rows are counted from 1. Pages may be uncompressed
 * or compressed with snappy, as on the hub. A float32 becomes the shortest text that rounds to it.
 * @param wantedOf selects the columns to read from all column names
 * @throws DataError for a file that is not Parquet, is truncated, or makes impossible claims
 */
export async function parseParquet(
  bytes: Uint8Array,
  path: string,
  wantedOf: (columns: readonly string[]) => readonly string[],
): Promise<Table> {
  checkSize(bytes, path);
  try {
    const metadata = readFooter(bytes, path);
    const elements = parquetSchema(metadata).children.map(({ element }) => element);
    if (elements.some(({ name }) => typeof name !== 'string')) {
      throw new DataError(`${path}: expected a name for each column, got none; the file is broken`, path);
    }
    const wanted = wantedOf(elements.map(({ name }) => name));
    const columns = elements.filter(({ name }) => wanted.includes(name)).map((element) => flatColumn(element, path));
    if (columns.length > 0) checkPages(bytes, metadata, { columns, path });
    const rows = columns.length > 0 ? await readRows(bytes, metadata, columns) : [];
    const records = rows.map((row, index) => recordOf(row, index + 1, columns, path));
    return { columns: elements.map(({ name }) => name), line: 1, records };
  } catch (cause) {
    if (cause instanceof DataError) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new DataError(`${path}: expected a Parquet file, got one that cannot be read: ${reason}`, path, cause);
  }
}

/** Checks the footer and parses it. It is followed by its length and the four letters that end a file. */
function readFooter(bytes: Uint8Array, path: string): FileMetaData {
  const end = bytes.length - 8;
  if (end > 0 && new TextDecoder().decode(bytes.subarray(-4)) === 'PAR1') {
    const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(end, true);
    if (length > 0 && length <= end) skip({ bytes: bytes.subarray(0, end), at: end - length }, types.struct, path);
  }
  return parquetMetadata(bytes, { geoparquet: false });
}

function readRows(bytes: Uint8Array, metadata: FileMetaData, columns: readonly FlatColumn[]) {
  const utf8 = new TextDecoder('utf-8', { fatal: true });
  return parquetReadObjects({
    // copies, since `slice` of a Node Buffer is a view
    file: { byteLength: bytes.length, slice: (start, end) => new Uint8Array(bytes.subarray(start, end)).buffer },
    metadata,
    columns: columns.map(({ name }) => name),
    parsers: { stringFromBytes: (text) => (text as Uint8Array | undefined) && utf8.decode(text) },
  });
}

function flatColumn({ name, type, num_children, repetition_type }: SchemaElement, path: string): FlatColumn {
  if (num_children || repetition_type === 'REPEATED') {
    throw new DataError(`${path}: expected one value in each row of ${excerpt(name)}, got a list or a structure`, path);
  }
  return { name, optional: repetition_type !== 'REQUIRED', isSingle: type === 'FLOAT' };
}

function recordOf(
  row: Readonly<Record<string, unknown>>,
  line: number,
  columns: readonly FlatColumn[],
  path: string,
): TableRecord {
  const cells = new Map<string, string>();
  for (const { name, isSingle } of columns) {
    const value = row[name];
    if (value === undefined || value === null) continue;
    const text = typeof value === 'number' && isSingle ? shortest(value) : textOf(value);
    if (text === undefined) {
      throw errorAt(path, line, `expected ${excerpt(name)} to be a text or a number, got another type`);
    }
    cells.set(name, text);
  }
  return { line, cells };
}

function textOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  return ['number', 'bigint', 'boolean'].includes(typeof value) ? `${value as number}` : undefined;
}

/** 3.8 for the nearest float32, which is 3.799999952316284 as a double. */
function shortest(single: number): string {
  for (let digits = 6; digits < 9; digits++) {
    const text = String(Number(single.toPrecision(digits)));
    if (Math.fround(Number(text)) === single) return text;
  }
  return String(single);
}

/** The largest factor by which a page can grow: Snappy needs at least 3 bytes to say that 64 are copied. */
const mostGrowth = 22;

/** A column to read; it has no lists or structures. */
interface FlatColumn {
  /** The name of the column. */
  readonly name: string;
  /** Whether values may be missing. */
  readonly optional: boolean;
  /** Whether values are float32. */
  readonly isSingle: boolean;
}

/** The part of a column in one group of rows. */
interface Chunk {
  readonly column: ColumnMetaData;
  readonly optional: boolean;
  /** The number of rows in the group. */
  readonly rows: number;
  readonly path: string;
}

/**
 * Checks the pages of columns before they are read: hyparquet allocates as much memory as a file claims to need, and
 * repeats a value as often as the file says.
 * @throws DataError for an impossible claim; other errors for bytes that end too early
 */
function checkPages(
  bytes: Uint8Array,
  { row_groups: groups }: FileMetaData,
  { columns, path }: { readonly columns: readonly FlatColumn[]; readonly path: string },
): void {
  let all = 0;
  for (const group of groups) {
    const rows = within(group.num_rows, Number.MAX_SAFE_INTEGER, 'rows', path);
    all += rows;
    checkRows(all, bytes.length, path);
    for (const { meta_data: column } of group.columns) {
      const known = column && columns.find(({ name }) => name === column.path_in_schema.join('.'));
      if (known) checkColumn(bytes, { column, optional: known.optional, rows, path });
    }
  }
}

function checkColumn(bytes: Uint8Array, chunk: Chunk): void {
  const { column, path } = chunk;
  const place = column.dictionary_page_offset ? column.dictionary_page_offset : column.data_page_offset;
  const start = within(place, bytes.length, 'as the place of a column', path);
  const length = within(column.total_compressed_size, bytes.length - start, 'bytes in a column', path);
  const reader = { view: new DataView(bytes.buffer, bytes.byteOffset + start, length), offset: 0 };
  while (reader.offset < length) {
    skip({ bytes: bytes.subarray(start, start + length), at: reader.offset }, types.struct, path);
    const header = parquetHeader(reader);
    const size = within(header.compressed_page_size, length - reader.offset, 'bytes in a page', path);
    within(header.uncompressed_page_size, size * mostGrowth, 'bytes in an uncompressed page', path);
    const from = start + reader.offset;
    checkPage(bytes.subarray(from, from + size), header, chunk);
    reader.offset += size;
  }
}

function checkPage(page: Uint8Array, header: PageHeader, chunk: Chunk): void {
  const { uncompressed_page_size: size, dictionary_page_header: dictionary } = header;
  if (header.data_page_header) {
    const { num_values, encoding } = header.data_page_header;
    const values = within(num_values, chunk.rows, 'values in a page', chunk.path);
    const cursor = { bytes: uncompressed(page, size, chunk), at: 0 };
    if (chunk.optional) checkRuns(runs(cursor), values, { width: 1, path: chunk.path });
    checkValues(cursor, values, encoding, chunk);
  } else if (header.data_page_header_v2) {
    checkSecondVersion(page, header, chunk);
  } else if (dictionary) {
    within(dictionary.num_values, size, 'words in a dictionary', chunk.path);
  }
}

/** Checks a page of version 2, which keeps the levels uncompressed and without their length in front. */
function checkSecondVersion(page: Uint8Array, header: PageHeader, chunk: Chunk): void {
  const { path } = chunk;
  const own = header.data_page_header_v2 as NonNullable<PageHeader['data_page_header_v2']>;
  const values = within(own.num_values, chunk.rows, 'values in a page', path);
  within(own.num_nulls, values, 'missing values in a page', path);
  within(own.repetition_levels_byte_length, 0, 'bytes of repetition levels', path);
  const levelBytes = within(own.definition_levels_byte_length, page.length, 'bytes of definition levels', path);
  if (levelBytes > 0) checkRuns({ bytes: page.subarray(0, levelBytes), at: 0 }, values, { width: 1, path });
  const rest = page.subarray(levelBytes);
  const size = within(header.uncompressed_page_size - levelBytes, Infinity, 'bytes in an uncompressed page', path);
  const bytes = own.is_compressed ? uncompressed(rest, size, chunk) : rest;
  checkValues({ bytes, at: 0 }, values, own.encoding, chunk);
}

/** Checks values, which are plain, numbers of dictionary words, or runs of booleans. */
function checkValues(cursor: Cursor, values: number, encoding: string, { column, path }: Chunk): void {
  if (encoding === 'PLAIN') return;
  if (encoding === 'RLE' && column.type === 'BOOLEAN') {
    checkRuns(runs(cursor), values, { width: 1, path });
    return;
  }
  if (encoding !== 'PLAIN_DICTIONARY' && encoding !== 'RLE_DICTIONARY') {
    throw new DataError(
      `${path}: expected plain or dictionary encoding, got ${encoding}; write it with the defaults`,
      path,
    );
  }
  checkRuns(cursor, values, { width: within(byteOf(cursor), 32, 'bits in a number', path), path });
}

/** How many values a packed run may have beyond those left in the page: DuckDB pads its last run to a multiple of 256. */
const MOST_PADDING = 255;

/** Checks runs of equal or packed numbers: none is longer than the number of values left. */
function checkRuns(cursor: Cursor, values: number, { width, path }: { width: number; path: string }): void {
  for (let left = values; left > 0 && cursor.at < cursor.bytes.length;) {
    const run = unsigned(cursor, path);
    const packed = run % 2 === 1;
    const length = Math.floor(run / 2) * (packed ? 8 : 1);
    within(length, packed ? left + MOST_PADDING : left, 'values in a run', path);
    cursor.at += packed ? (length / 8) * width : Math.ceil(width / 8);
    left -= length;
  }
}

/** Returns the runs at the cursor, which follow their length, and moves the cursor behind them. */
function runs(cursor: Cursor): Cursor {
  const { bytes, at } = cursor;
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);
  cursor.at = at + 4 + length;
  return { bytes: bytes.subarray(at + 4, cursor.at), at: 0 };
}

function uncompressed(page: Uint8Array, size: number, { column: { codec }, path }: Chunk): Uint8Array {
  if (codec === 'UNCOMPRESSED') return page;
  if (codec !== 'SNAPPY') {
    throw new DataError(`${path}: expected snappy or no compression, got ${codec}; write it with snappy`, path);
  }
  const output = new Uint8Array(size);
  snappyUncompress(page, output);
  return output;
}

/** @throws DataError unless the claim is a whole number from 0 to `most`. */
function within(claim: number | bigint, most: number, of: string, path: string): number {
  const value = Number(claim);
  if (Number.isInteger(value) && value >= 0 && value <= most) return value;
  throw new DataError(`${path}: expected at most ${most} ${of}, got ${value}; the file is broken`, path);
}

/** Bytes, and the position of the next one. */
interface Cursor {
  readonly bytes: Uint8Array;
  at: number;
  /** The number of values that were skipped. */
  skipped?: number;
}

/** The types of values in Thrift's compact protocol; others are whole numbers, or Parquet does not have them. */
const types = { stop: 0, true: 1, false: 2, byte: 3, double: 7, binary: 8, list: 9, struct: 12 };

/** The most values of a footer: hyparquet makes a field or an object of each, and they may take one byte in the file. */
const maxValues = 1_000_000;

/** The deepest nesting of structures and lists: the footer of a Parquet file has fewer than ten levels. */
const maxDepth = 16;

/**
 * Walks over a value without keeping anything, and moves the cursor behind it: hyparquet, which finds all other
 * mistakes, allocates lists of the length that a file claims.
 * @throws DataError for more elements than bytes, or endless nesting
 */
function skip(cursor: Cursor, type: number, path: string, depth = 0): void {
  within(depth, maxDepth, 'structures within each other', path);
  cursor.skipped = within((cursor.skipped ?? 0) + 1, maxValues, 'values in a footer', path);
  if (type === types.struct) {
    for (let field = byteOf(cursor); field % 16 !== types.stop; field = byteOf(cursor)) {
      if (field < 16) unsigned(cursor, path); // the field number, unless it follows from the last one
      const own = field % 16;
      if (own !== types.true && own !== types.false) skip(cursor, own, path, depth + 1);
    }
  } else if (type === types.list) {
    const head = byteOf(cursor);
    const length = head < 0xf0 ? Math.floor(head / 16) : lengthOf(cursor, path);
    for (let element = 0; element < length; element++) skip(cursor, head % 16, path, depth + 1);
  } else if (type === types.binary) {
    const length = lengthOf(cursor, path);
    cursor.at += length;
  } else if (type === types.double) cursor.at += 8;
  else if (type <= types.byte) cursor.at += 1;
  else unsigned(cursor, path);
}

/** Reads a number of bytes or elements; there cannot be more than remaining bytes. */
function lengthOf(cursor: Cursor, path: string): number {
  return within(unsigned(cursor, path), Math.max(0, cursor.bytes.length - cursor.at), 'bytes or elements', path);
}

/** The most bytes of a number: ten hold 64 bits. */
const maxNumberBytes = 10;

/** Reads a number in groups of 7 bits, lowest first. */
function unsigned(cursor: Cursor, path: string): number {
  let value = 0;
  for (let count = 0; ; count++) {
    within(count + 1, maxNumberBytes, 'bytes of a number', path);
    const byte = byteOf(cursor);
    value += (byte % 128) * 128 ** count;
    if (byte < 128) return value;
  }
}

/** Reads a byte; 0, which ends structures and numbers, after the last one. */
function byteOf(cursor: Cursor): number {
  return cursor.bytes[cursor.at++] ?? 0;
}
