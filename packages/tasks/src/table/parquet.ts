import { DataError } from '@peftjs/core';
import { type FileMetaData, parquetMetadata, parquetReadObjects, type SchemaElement } from 'hyparquet';
import { checkSize } from './decode.js';
import { checkPages, type FlatColumn } from './parquet-pages.js';
import { skipStruct } from './thrift.js';
import { errorAt, excerpt, type Table, type TableRecord } from './table.js';

/**
 * The named columns of a Parquet file, its values as texts; rows are counted from 1. Pages are compressed with snappy or not at
 * all, as the hub has them. A float32 becomes the shortest text that rounds to it.
 * @throws DataError for a file that is no Parquet, is cut off, or claims what cannot be
 */
export async function parseParquet(bytes: Uint8Array, path: string, wanted: readonly string[]): Promise<Table> {
  checkSize(bytes, path);
  try {
    const metadata = readFooter(bytes, path);
    const elements = topLevel(metadata);
    if (elements.some(({ name }) => typeof name !== 'string')) {
      throw new DataError(`${path}: expected a name for each column, got none; the file is broken`, path);
    }
    const columns = elements.filter(({ name }) => wanted.includes(name)).map((element) => flatColumn(element, path));
    if (columns.length > 0) checkPages(bytes, metadata, { columns, path });
    const rows = columns.length > 0 ? await readRows(bytes, metadata, columns) : [];
    const singles = new Set(elements.filter(({ type }) => type === 'FLOAT').map(({ name }) => name));
    const records = rows.map((row, index) => recordOf(row, { line: index + 1, path, columns, singles }));
    return { columns: elements.map(({ name }) => name), line: 1, records };
  } catch (cause) {
    if (cause instanceof DataError) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new DataError(`${path}: expected a Parquet file, got one that cannot be read: ${reason}`, path, cause);
  }
}

/** The footer stands before its length and the four letters that end a file. */
function readFooter(bytes: Uint8Array, path: string): FileMetaData {
  const end = bytes.length - 8;
  if (end > 0 && new TextDecoder().decode(bytes.subarray(-4)) === 'PAR1') {
    const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(end, true);
    if (length > 0 && length <= end) skipStruct({ bytes: bytes.subarray(0, end), at: end - length }, path);
  }
  return parquetMetadata(bytes, { geoparquet: false });
}

function readRows(bytes: Uint8Array, metadata: FileMetaData, columns: readonly FlatColumn[]) {
  const utf8 = new TextDecoder('utf-8', { fatal: true });
  return parquetReadObjects({
    // copied: the `slice` of a Buffer of Node's is a view
    file: { byteLength: bytes.length, slice: (start, end) => new Uint8Array(bytes.subarray(start, end)).buffer },
    metadata,
    columns: columns.map(({ name }) => name),
    parsers: { stringFromBytes: (text) => (text as Uint8Array | undefined) && utf8.decode(text) },
  });
}

/** The elements right below the root; those of structures and lists come with their own children after them. */
function topLevel({ schema }: FileMetaData): SchemaElement[] {
  const elements: SchemaElement[] = [];
  let at = 1;
  while (at < schema.length) {
    elements.push(schema[at] as SchemaElement);
    at = afterElement(schema, at);
  }
  return elements;
}

function afterElement(schema: readonly SchemaElement[], at: number): number {
  let next = at + 1;
  for (let child = 0; child < (schema[at]?.num_children ?? 0) && next < schema.length; child++) {
    next = afterElement(schema, next);
  }
  return next;
}

function flatColumn({ name, num_children, repetition_type }: SchemaElement, path: string): FlatColumn {
  if (num_children || repetition_type === 'REPEATED') {
    throw new DataError(`${path}: expected one value in each row of ${excerpt(name)}, got a list or a structure`, path);
  }
  return { name, optional: repetition_type !== 'REQUIRED' };
}

interface Place {
  readonly line: number;
  readonly path: string;
  readonly columns: readonly FlatColumn[];
  readonly singles: ReadonlySet<string>;
}

function recordOf(row: Readonly<Record<string, unknown>>, { line, path, columns, singles }: Place): TableRecord {
  const cells = new Map<string, string>();
  for (const { name } of columns) {
    const value = row[name];
    if (value === undefined || value === null) continue;
    const text = typeof value === 'number' && singles.has(name) ? shortest(value) : textOf(value);
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

/** 3.8 for the float32 next to it, which is 3.799999952316284 as a double. */
function shortest(single: number): string {
  for (let digits = 6; digits < 9; digits++) {
    const text = String(Number(single.toPrecision(digits)));
    if (Math.fround(Number(text)) === single) return text;
  }
  return String(single);
}
