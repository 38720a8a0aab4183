import { type ColumnMetaData, type FileMetaData, type PageHeader, snappyUncompress } from 'hyparquet';
import { parquetHeader } from 'hyparquet/src/column.js';
import { DataError } from '@peftjs/core';
import { type Cursor, skipStruct } from './thrift.js';

/** Most rows of a file. */
const maxRows = 10_000_000;

/** Snappy says in 3 bytes at least that 64 are to be copied: a page that claims to grow by more is none. */
const mostGrowth = 64;

/** A column to be read: no list or structure, and whether values may be missing. */
export interface FlatColumn {
  readonly name: string;
  readonly optional: boolean;
}

/** What is checked of a column in a group of rows. */
interface Chunk {
  readonly column: ColumnMetaData;
  readonly optional: boolean;
  /** Rows of the group. */
  readonly rows: number;
  readonly path: string;
}

/**
 * Looks through the pages of columns before they are read: hyparquet allocates what a file claims, and repeats a value as often as
 * it is told to.
 * @throws DataError for a claim that cannot be true; other errors for bytes that end too early
 */
export function checkPages(
  bytes: Uint8Array,
  { row_groups: groups }: FileMetaData,
  { columns, path }: { readonly columns: readonly FlatColumn[]; readonly path: string },
): void {
  let left = maxRows;
  for (const group of groups) {
    const rows = within(group.num_rows, left, 'rows', path);
    left -= rows;
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
    skipStruct({ bytes: bytes.subarray(start, start + length), at: reader.offset }, path);
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
    if (chunk.optional) checkRuns(levels(cursor), values, { width: 1, path: chunk.path });
    checkValues(cursor, values, encoding, chunk.path);
  } else if (header.data_page_header_v2) {
    checkSecondVersion(page, header, chunk);
  } else if (dictionary) {
    within(dictionary.num_values, size, 'words in a dictionary', chunk.path);
  }
}

/** The second version of a page keeps the levels outside of what is compressed, without their length before them. */
function checkSecondVersion(page: Uint8Array, header: PageHeader, chunk: Chunk): void {
  const { path } = chunk;
  const {
    num_values,
    num_nulls,
    encoding,
    is_compressed,
    definition_levels_byte_length,
    repetition_levels_byte_length,
  } = header.data_page_header_v2 as NonNullable<PageHeader['data_page_header_v2']>;
  const values = within(num_values, chunk.rows, 'values in a page', path);
  within(num_nulls, values, 'missing values in a page', path);
  within(repetition_levels_byte_length, 0, 'bytes of repetition levels', path);
  const levelBytes = within(definition_levels_byte_length, page.length, 'bytes of definition levels', path);
  if (levelBytes > 0) checkRuns({ bytes: page.subarray(0, levelBytes), at: 0 }, values, { width: 1, path });
  const rest = page.subarray(levelBytes);
  const size = within(header.uncompressed_page_size - levelBytes, Infinity, 'bytes in an uncompressed page', path);
  checkValues({ bytes: is_compressed ? uncompressed(rest, size, chunk) : rest, at: 0 }, values, encoding, path);
}

/** Values are plain, or words of the dictionary by number. */
function checkValues(cursor: Cursor, values: number, encoding: string, path: string): void {
  if (encoding === 'PLAIN') return;
  if (encoding !== 'PLAIN_DICTIONARY' && encoding !== 'RLE_DICTIONARY') {
    throw new DataError(
      `${path}: expected plain or dictionary encoding, got ${encoding}; write it with the defaults`,
      path,
    );
  }
  const width = cursor.bytes[cursor.at++] ?? 0;
  checkRuns(cursor, values, { width: within(width, 32, 'bits in a number', path), path });
}

/** Runs of equal or packed numbers: none is longer than what is left of the values. */
function checkRuns(cursor: Cursor, values: number, { width, path }: { width: number; path: string }): void {
  for (let left = values; left > 0 && cursor.at < cursor.bytes.length;) {
    const run = unsigned(cursor);
    const packed = run % 2 === 1;
    const length = Math.floor(run / 2) * (packed ? 8 : 1);
    within(length, packed ? left + 7 : left, 'values in a run', path);
    cursor.at += packed ? (length / 8) * width : Math.ceil(width / 8);
    left -= length;
  }
}

/** The definition levels at the cursor, behind their length; the cursor goes on after them. */
function levels(cursor: Cursor): Cursor {
  const { bytes, at } = cursor;
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);
  cursor.at = at + 4 + length;
  return { bytes: bytes.subarray(at + 4, cursor.at), at: 0 };
}

/** A number in groups of 7 bits, the lowest first. */
function unsigned(cursor: Cursor): number {
  let value = 0;
  for (let scale = 1; cursor.at < cursor.bytes.length; scale *= 128) {
    const byte = cursor.bytes[cursor.at++] as number;
    value += (byte & 127) * scale;
    if (byte < 128) break;
  }
  return value;
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
