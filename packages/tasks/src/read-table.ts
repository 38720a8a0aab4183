import { PeftError, type Storage } from '@peftjs/core';
import { CheckpointError, ConfigError, DataError, parseOptions } from '@peftjs/core/method';
import { aReadStorage, assertArgument, aText, objectLike } from '@peftjs/core/model';
import * as v from 'valibot';
import { assertDifferent, columnEntries, type ColumnOptions, layoutOf, readColumns } from './columns.js';
import { parseConll } from './conll.js';
import { aDataSet, createDataSet, type DataSet, type GivenRow, type TaskKind, taskKinds } from './data-set.js';
import { rowsOf, withoutUnlabelled } from './rows.js';
import { checkSize, decodeText, excerpt, parseCsv, parseJsonLines, parseTsv, type Table } from './table.js';

const FORMATS = ['tsv', 'csv', 'jsonl', 'conll', 'parquet'] as const;

/** The table formats that `readTable` supports. */
export type TableFormat = (typeof FORMATS)[number];

/** A reader of a table format that this package does not support. */
export interface TableReader {
  /** The name of the format, for messages. */
  readonly name: string;
  /** The most bytes of a file that it reads. Default 500 MB. */
  readonly maxBytes?: number;
  /** Whether a file has this format, by its path and its first kilobyte. */
  recognises(path: string, head: Uint8Array): boolean;
  /** Reads a table, with the column names that `readTable` expects. @throws DataError for the first problem. */
  read(bytes: Uint8Array, path: string): Table | Promise<Table>;
}

/** Options of {@link readTable}. */
export interface ReadTableOptions<K extends TaskKind = TaskKind> extends ColumnOptions {
  /** The path, for error messages; its extension decides the format. */
  readonly path: string;
  /** The format. Default: by the extension of the path; `.txt` is CoNLL if the kind is token-classification. */
  readonly format?: TableFormat | undefined;
  /** Readers of other formats; they are asked before the built-in ones, unless `format` is set. */
  readonly readers?: readonly TableReader[] | undefined;
  /**
   * The kind of the rows. Default: decided by the columns; for texts with one label, regression if all labels are
   * numbers and one has decimals.
   */
  readonly kind?: K | undefined;
  /** The training set whose kind, classes and number of texts this file must have. */
  readonly like?: DataSet<K> | undefined;
}

const aReader = objectLike<TableReader>('a reader', { name: 'string', recognises: 'function', read: 'function' });
const readers = v.custom<readonly TableReader[]>(
  (given) => Array.isArray(given) && given.every((reader) => v.is(aReader, reader)),
  'a list of { name, recognises, read }',
);

/** A schema for the bytes of a file. */
export const fileBytes = v.instance(Uint8Array, 'the bytes of a file');

const entries = {
  ...columnEntries,
  path: aText,
  format: v.optional(v.picklist(FORMATS)),
  readers: v.optional(readers),
  kind: v.optional(v.picklist(taskKinds)),
  like: v.optional(aDataSet),
} satisfies Record<keyof ReadTableOptions, unknown>;

const parsers: Readonly<Record<Exclude<TableFormat, 'parquet'>, (text: string, path: string) => Table<unknown>>> = {
  tsv: parseTsv,
  csv: parseCsv,
  jsonl: parseJsonLines,
  conll: parseConll,
};

/** Other extensions of CoNLL files. */
const CONLL = ['bio', 'iob'];

/**
 * Reads rows from the bytes of a TSV, CSV, JSONL, CoNLL or Parquet file. The columns decide the kind of the rows:
 *
 * | columns | kind |
 * | --- | --- |
 * | `text`, or `text` (`text_a`) and `text_b`; `label` | classification or regression |
 * | the same; `labels`, a list or separated by `labelSeparator` | multi-label |
 * | the lists `tokens` and `ner_tags` (or `tags`); CoNLL | token-classification |
 * | `anchor` and `positive`; with `negative` | pairs; triplets |
 * | `text_a` and `text_b`; `score` | scored-pairs |
 *
 * Other columns are ignored, cells are trimmed, blank lines are skipped. `readers` add other formats.
 * @throws DataError for the first problem, in one line with the path and the line number, and for faulty rows with
 * their number; ConfigError for an impossible option.
 */
export async function readTable<K extends TaskKind = TaskKind>(
  bytes: Uint8Array,
  options: ReadTableOptions<K>,
): Promise<DataSet<K>> {
  assertArgument('bytes', bytes, fileBytes);
  parseOptions('readTable', entries, options);
  assertDifferent(options);
  return dataSetOf(await tableOf(bytes, options), options);
}

/** Makes a data set of a table. @throws DataError for the first problem of its columns or rows. */
export async function dataSetOf<K extends TaskKind>(
  table: Table<unknown>,
  options: ReadTableOptions<K>,
): Promise<DataSet<K>> {
  const { path, like, kind = like?.kind, textColumn, labelSeparator, scoreScale, skipUnlabelled } = options;
  const layout = layoutOf(table, { ...options, kind }, path);
  if (table.records.length === 0) throw new DataError(`${path}: expected rows below the header, got none`, path);
  const reading = { layout, kind, like, textColumn, labelSeparator, scoreScale, path };
  const read = rowsOf(skipUnlabelled ? withoutUnlabelled(table, reading) : table, reading);
  assertUsed('labelSeparator', labelSeparator, read.kind, 'multi-label');
  assertUsed('scoreScale', scoreScale, read.kind, 'scored-pairs');
  if (like) checkTexts(like.rows[0], read.rows[0], path);
  return createDataSet({ name: fileStem(path), ...read } as Omit<DataSet<K>, 'fingerprint'>);
}

/** @throws ConfigError for an option of another kind of rows. */
function assertUsed(option: string, value: unknown, kind: TaskKind, of: TaskKind): void {
  if (value === undefined || kind === of) return;
  throw new ConfigError(`option '${option}' is for ${of} rows, but these are ${kind}; leave it out`, option);
}

/** The name of a file without its folders and its extension. */
export function fileStem(path: string): string {
  const name = path.slice(Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1);
  return name.replace(/\.[^.]+$/, '');
}

/** Reads all rows of a table. @throws DataError for the first problem. */
export async function tableOf(bytes: Uint8Array, options: ReadTableOptions): Promise<Table<unknown>> {
  const { path, format: given, readers = [] } = options;
  const own = given ? undefined : readers.find((reader) => reader.recognises(path, bytes.subarray(0, HEAD_BYTES)));
  if (own) return readBy(own, bytes, path);
  const format = given ?? formatOf(options);
  const named = [options.textColumn, options.pairColumn, options.labelColumn].filter((name) => name !== undefined);
  if (format === 'parquet') {
    const { parseParquet } = await import('./parquet.js'); // only for such files: a program starts faster without it
    return parseParquet(bytes, path, (columns) => readColumns(columns, options));
  }
  if (format === 'conll' && named.length > 0) {
    throw new ConfigError(`${path}: the columns of a CoNLL file have no names: leave ${excerpt(named[0] ?? '')} out`);
  }
  return parsers[format](decodeText(bytes, path), path);
}

/** The bytes at the beginning of a file that `recognises` gets. */
const HEAD_BYTES = 1024;

async function readBy(reader: TableReader, bytes: Uint8Array, path: string): Promise<Table> {
  checkSize(bytes, path, reader.maxBytes);
  try {
    return await reader.read(bytes, path);
  } catch (cause) {
    if (cause instanceof PeftError) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new DataError(`${path}: cannot be read as ${reader.name}: ${reason}`, path, cause);
  }
}

/** The format of a file, by its path and the kind of its rows. @throws DataError for another one. */
export function formatOf({ path, readers = [], like, kind = like?.kind }: ReadTableOptions): TableFormat {
  const extension = /\.([^./\\]+)$/.exec(path)?.[1]?.toLowerCase() ?? '';
  const isConll = CONLL.includes(extension) || (extension === 'txt' && kind === 'token-classification');
  const format = isConll ? 'conll' : FORMATS.find((each) => each === extension);
  if (format) return format;
  const others = readers.map(({ name }) => `, or ${name}`).join('');
  throw new DataError(`${path}: expected a file that ends in .tsv, .csv, .jsonl, .conll or .parquet${others}`, path);
}

/** Checks that both files have the same number of texts per row. */
function checkTexts(
  expected: GivenRow<TaskKind> | undefined,
  found: GivenRow<TaskKind> | undefined,
  path: string,
): void {
  const isPair = (row: GivenRow<TaskKind> | undefined): boolean =>
    row !== undefined && 'text' in row && row.pair !== undefined;
  if (isPair(expected) === isPair(found)) return;
  const [two, one] = ['two, "text_a", "text_b"', 'one, "text"'];
  const columns = isPair(expected) ? `${two}, got ${one}` : `${one}, got ${two}`;
  throw new DataError(`${path}: expected as many text columns as in the training file, ${columns}`, path);
}

/** Reads the bytes of a file. @throws DataError when it is missing. */
export async function readBytes(storage: Storage, path: string): Promise<Uint8Array> {
  assertArgument('path', path, aText);
  assertArgument('storage', storage, aReadStorage);
  try {
    return await storage.read(path);
  } catch (cause) {
    if (cause instanceof CheckpointError) throw new DataError(cause.message, path, cause);
    throw cause;
  }
}
