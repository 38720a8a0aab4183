import { PeftError, type Storage } from '@peftjs/core';
import { CheckpointError, ConfigError, DataError } from '@peftjs/core/method';
import { createDataSet, type DataSet, type Row, type TaskKind } from './data-set.js';
import { metricsFor, metricsLedBy, type Task, taskOf } from './task.js';
import { parseParquet } from './parquet.js';
import {
  checkSize,
  columnNames,
  decodeText,
  errorAt,
  excerpt,
  parseCsv,
  parseJsonLines,
  parseTsv,
  type RawRow,
  rawRows,
  type Table,
} from './table.js';

/** The forms of a table that `readTable` knows. */
export type TableFormat = 'tsv' | 'csv' | 'jsonl' | 'parquet';

/** A form of table that this package does not have. */
export interface TableReader {
  /** What the form is called in messages. */
  readonly name: string;
  /** Most bytes of a file that it is given. Default 500 MB. */
  readonly maxBytes?: number;
  /** Whether a file is of this form, by its path and its first kilobyte. */
  recognises(path: string, head: Uint8Array): boolean;
  /** The table in the bytes of a file, whose columns are those of `readTable`. @throws DataError for the first thing that is wrong. */
  read(bytes: Uint8Array, path: string): Table | Promise<Table>;
}

/** What `readTable` needs to know beside the bytes. */
export interface ReadTableOptions {
  /** Named in errors; its extension says the format. */
  readonly path: string;
  readonly format?: TableFormat | undefined;
  /** Forms beside those of this package: a file is held against them first, unless `format` says what it is. */
  readonly readers?: readonly TableReader[] | undefined;
  /** Default: regression if all labels are numbers and one has decimals. */
  readonly kind?: TaskKind | undefined;
  /** The training set whose kind, classes and number of texts this file must share. */
  readonly like?: DataSet | undefined;
}

const parsers: Readonly<Record<Exclude<TableFormat, 'parquet'>, (text: string, path: string) => Table>> = {
  tsv: parseTsv,
  csv: parseCsv,
  jsonl: parseJsonLines,
};

/**
 * Reads labelled rows from the bytes of a TSV, CSV, JSONL or Parquet file with the columns `text` (or `text_a` and `text_b`) and
 * `label`; other columns are ignored, cells are trimmed, blank lines are skipped. Other forms are read by `readers` of your own.
 * @throws DataError for the first thing that is wrong, in one line with the path and the line number; ConfigError for what is no reader.
 */
export async function readTable(bytes: Uint8Array, options: ReadTableOptions): Promise<DataSet> {
  const { path, like } = options;
  const raw = rawRows(await tableOf(bytes, options), path);
  const scheme = like ?? labelScheme(raw, path, options.kind);
  const rows = labelledRows(raw, scheme, path);
  if (like) checkTexts(like, { paired: rows[0]?.pair !== undefined, path });
  return createDataSet({ name: fileStem(path), kind: scheme.kind, classes: scheme.classes, rows });
}

/** The name of a file without its folders and its extension. */
export function fileStem(path: string): string {
  const name = path.slice(Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1);
  return name.replace(/\.[^.]+$/, '');
}

async function tableOf(bytes: Uint8Array, { path, format: given, readers = [] }: ReadTableOptions): Promise<Table> {
  assertReaders(readers);
  const own = given ? undefined : readers.find((reader) => reader.recognises(path, bytes.subarray(0, HEAD_BYTES)));
  if (own) return readBy(own, bytes, path);
  const format = given ?? formatOf(path, readers);
  return format === 'parquet' ? parseParquet(bytes, path, columnNames) : parsers[format](decodeText(bytes, path), path);
}

/** What a form is recognised by. */
const HEAD_BYTES = 1024;

function assertReaders(readers: readonly TableReader[]): void {
  const isReader = (reader: Partial<TableReader>): boolean =>
    typeof reader.name === 'string' && typeof reader.recognises === 'function' && typeof reader.read === 'function';
  if (Array.isArray(readers) && readers.every((reader) => isReader(Object(reader) as Partial<TableReader>))) return;
  throw new ConfigError("option 'readers' must be a list of { name, recognises, read }", 'readers');
}

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

function formatOf(path: string, readers: readonly TableReader[]): TableFormat {
  const extension = /\.([^./\\]+)$/.exec(path)?.[1]?.toLowerCase() ?? '';
  if (extension === 'parquet' || Object.hasOwn(parsers, extension)) return extension as TableFormat;
  const others = readers.map(({ name }) => `, or ${name}`).join('');
  throw new DataError(`${path}: expected a file that ends in .tsv, .csv, .jsonl or .parquet${others}`, path);
}

function checkTexts(like: DataSet, { paired, path }: { paired: boolean; path: string }): void {
  if (paired === (like.rows[0]?.pair !== undefined)) return;
  const [expected, came] = paired ? ['"text"', '"text_a", "text_b"'] : ['"text_a", "text_b"', '"text"'];
  throw new DataError(`${path}: expected the text columns of the training file, ${expected}, got ${came}`, path);
}

/** How the label texts of a file become numbers. */
interface LabelScheme {
  readonly kind: TaskKind;
  readonly classes: readonly string[];
}

/**
 * The scheme of a training file: regression where every label is a number and one has decimals, or where the caller says so;
 * else the distinct labels, as numbers if all are, else by code point.
 * @throws DataError when all rows have one label.
 */
function labelScheme(rows: readonly RawRow[], path: string, kind?: TaskKind): LabelScheme {
  const labels = [...new Set(rows.map(({ label }) => className(label)))];
  const [only = ''] = labels;
  if (labels.length < 2) {
    throw new DataError(`${path}: expected at least two different labels, got only ${excerpt(only)}`, path);
  }
  const numeric = labels.every(isNumeric);
  const decimals = numeric && labels.some((label) => !Number.isInteger(Number(label)));
  if (kind === 'regression' || (kind === undefined && decimals)) return { kind: 'regression', classes: [] };
  const order = numeric ? (a: string, b: string) => Number(a) - Number(b) || byCodePoint(a, b) : byCodePoint;
  return { kind: 'classification', classes: labels.sort(order) };
}

/**
 * The rows with their labels as numbers.
 * @throws DataError for a label that is no number, or none of the classes.
 */
function labelledRows(rows: readonly RawRow[], { kind, classes }: LabelScheme, path: string): Row[] {
  const numbers = new Map(classes.map((name, index) => [name, index]));
  return rows.map(({ line, text, pair, label: came }) => {
    const label = kind === 'regression' ? numberOf(came) : numbers.get(className(came));
    if (label === undefined) {
      const expected = kind === 'regression' ? 'a number' : `one of the training classes ${listed(classes)}`;
      throw errorAt(path, line, `expected the label to be ${expected}, got ${excerpt(came)}`);
    }
    return pair === undefined ? { text, label } : { text, pair, label };
  });
}

/** Texts in the order of their Unicode code points, whatever the locale. */
function byCodePoint(a: string, b: string): number {
  const [left, right] = [Array.from(a), Array.from(b)];
  const at = left.findIndex((character, index) => character !== right[index]);
  if (at === -1) return left.length - right.length;
  return (left[at]?.codePointAt(0) ?? 0) - (right[at]?.codePointAt(0) ?? -1);
}

/** One name for `1`, `1.0` and `+1`, which tools write alike. */
function className(label: string): string {
  const number = numberOf(label);
  return Number.isSafeInteger(number) ? String((number as number) + 0) : label;
}

/** The number that a text says; undefined where it says none. */
export function numberOf(label: string): number | undefined {
  return isNumeric(label) ? Number(label) : undefined;
}

function isNumeric(label: string): boolean {
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(label) && Number.isFinite(Number(label));
}

function listed(classes: readonly string[]): string {
  const shown = classes.slice(0, 10).map(excerpt).join(', ');
  return classes.length > 10 ? `${shown}, … (${classes.length})` : shown;
}

/** The files of a task. */
export interface ReadTaskOptions {
  /** Path of the training file. */
  readonly train: string;
  /** Path of the file that results are reported on. */
  readonly dev: string;
  readonly storage: Storage;
  /** Default: the name of the training file. */
  readonly name?: string | undefined;
  readonly kind?: TaskKind | undefined;
  /** Name of the metric that selects a checkpoint, e.g. 'f1'. Default: that of the kind. */
  readonly metric?: string | undefined;
  /** Forms of table beside those of `readTable`. */
  readonly readers?: readonly TableReader[] | undefined;
}

/**
 * Reads the user's own task: two tables in the forms of `readTable`.
 * @throws DataError when a file is missing, malformed, or does not fit the other; ConfigError for a metric that does not fit.
 */
export async function readTask({ train, dev, storage, name, kind, metric, readers }: ReadTaskOptions): Promise<Task> {
  const trainSet = await readTable(await readBytes(storage, train), { path: train, kind, readers });
  const devSet = await readTable(await readBytes(storage, dev), { path: dev, like: trainSet, readers });
  const metrics = metric === undefined ? metricsFor(trainSet.kind) : metricsLedBy(metric, trainSet);
  return taskOf(name ?? fileStem(train), trainSet, devSet, metrics);
}

/** A file's bytes. @throws DataError when it is missing. */
export async function readBytes(storage: Storage, path: string): Promise<Uint8Array> {
  try {
    return await storage.read(path);
  } catch (cause) {
    if (cause instanceof CheckpointError) throw new DataError(cause.message, path, cause);
    throw cause;
  }
}
