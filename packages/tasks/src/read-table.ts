import { DataError } from '@peftjs/core';
import { createDataSet, type DataSet, type TaskKind } from './data-set.js';
import { decodeText } from './table/decode.js';
import { parseCsv, parseTsv } from './table/delimited.js';
import { parseJsonLines } from './table/json-lines.js';
import { labelledRows, labelScheme } from './table/labels.js';
import { parseParquet } from './table/parquet.js';
import { columnNames, rawRows, type Table } from './table/table.js';

/** The forms of a table that `readTable` knows. */
export type TableFormat = 'tsv' | 'csv' | 'jsonl' | 'parquet';

/** What `readTable` needs to know beside the bytes. */
export interface ReadTableOptions {
  /** Named in errors; its extension says the format. */
  readonly path: string;
  readonly format?: TableFormat | undefined;
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
 * `label`; other columns are ignored, cells are trimmed, blank lines are skipped.
 * @throws DataError for the first thing that is wrong, in one line with the path and the line number.
 */
export async function readTable(bytes: Uint8Array, options: ReadTableOptions): Promise<DataSet> {
  const { path, like } = options;
  const raw = rawRows(await tableOf(bytes, options.format ?? formatOf(path), path), path);
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

async function tableOf(bytes: Uint8Array, format: TableFormat, path: string): Promise<Table> {
  return format === 'parquet' ? parseParquet(bytes, path, columnNames) : parsers[format](decodeText(bytes, path), path);
}

function formatOf(path: string): TableFormat {
  const extension = /\.([^./\\]+)$/.exec(path)?.[1]?.toLowerCase() ?? '';
  if (extension === 'parquet' || Object.hasOwn(parsers, extension)) return extension as TableFormat;
  throw new DataError(`${path}: expected a file that ends in .tsv, .csv, .jsonl or .parquet`, path);
}

function checkTexts(like: DataSet, { paired, path }: { paired: boolean; path: string }): void {
  if (paired === (like.rows[0]?.pair !== undefined)) return;
  const [expected, came] = paired ? ['"text"', '"text_a", "text_b"'] : ['"text_a", "text_b"', '"text"'];
  throw new DataError(`${path}: expected the text columns of the training file, ${expected}, got ${came}`, path);
}
