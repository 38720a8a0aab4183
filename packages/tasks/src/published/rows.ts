import { DataError } from '@peftjs/core';
import { createDataSet, type DataSet, type Row } from '../data-set.js';
import { numberOf } from '../table/labels.js';
import { errorAt, excerpt, type Table, type TableRecord } from '../table/table.js';

/** Where the rows of a published table are, and what its labels mean. */
export interface PublishedLayout {
  readonly text: string;
  readonly pair?: string | undefined;
  readonly label: string;
  /** Class names by label; empty where labels are numbers. */
  readonly classes: readonly string[];
}

/**
 * The rows of a published table: texts may be empty there, and a label is the name or the number of its class.
 * @throws DataError for other columns, a cell without value, an unknown label, or no rows.
 */
export async function publishedRows(
  table: Table,
  layout: PublishedLayout,
  { name, path }: { readonly name: string; readonly path: string },
): Promise<DataSet> {
  const columns = [layout.text, layout.pair, layout.label].filter((column) => column !== undefined);
  const missing = columns.find((column) => !table.columns.includes(column));
  if (missing !== undefined) {
    const came = table.columns.slice(0, 12).map(excerpt).join(', ');
    throw errorAt(path, table.line, `expected the columns ${columns.map(excerpt).join(', ')}, got ${came}`);
  }
  if (table.records.length === 0) throw new DataError(`${path}: expected rows, got none`, path);
  const { classes } = layout;
  const kind = classes.length > 0 ? 'classification' : 'regression';
  const rows = table.records.map((record) => rowOf(record, layout, path));
  return createDataSet({ name, kind, classes, rows });
}

function rowOf({ line, cells }: TableRecord, { text, pair, label, classes }: PublishedLayout, path: string): Row {
  const cell = (column: string): string => {
    const value = cells.get(column);
    if (value === undefined) throw errorAt(path, line, `the row has no ${excerpt(column)}; is the file whole?`);
    return value.trim();
  };
  const row = { text: cell(text), label: labelOf(cell(label), classes) };
  if (row.label === undefined) {
    const expected = classes.length > 0 ? `one of ${classes.map(excerpt).join(', ')} or its number` : 'a number';
    throw errorAt(path, line, `expected the label to be ${expected}, got ${excerpt(cell(label))}`);
  }
  const { label: number } = row;
  return pair === undefined ? { text: row.text, label: number } : { text: row.text, pair: cell(pair), label: number };
}

function labelOf(cell: string, classes: readonly string[]): number | undefined {
  if (classes.length === 0) return numberOf(cell);
  const named = classes.indexOf(cell);
  if (named !== -1) return named;
  return /^\d{1,3}$/.test(cell) && Number(cell) < classes.length ? Number(cell) : undefined;
}
