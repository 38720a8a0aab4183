import { DataError } from '@peftjs/core';

/** The columns that a table of the user's may have. */
export const columnNames: readonly string[] = ['text', 'text_a', 'text_b', 'label'];

/** A table as it was read: the names of its columns, and the cells of its rows. */
export interface Table {
  readonly columns: readonly string[];
  /** Line that names the columns, from 1. */
  readonly line: number;
  readonly records: readonly TableRecord[];
}

/** The cells of a row by column; an absent cell is missing. */
export interface TableRecord {
  readonly line: number;
  readonly cells: ReadonlyMap<string, string>;
}

/** A row with its texts found and its label still a text. */
export interface RawRow {
  readonly line: number;
  readonly text: string;
  readonly pair?: string;
  readonly label: string;
}

/**
 * The rows of a table with the columns `text` (or `text_a` and `text_b`) and `label`.
 * @throws DataError for other columns, a row with a missing cell, or no rows.
 */
export function rawRows(table: Table, path: string): RawRow[] {
  const { text, pair } = textColumns(table, path);
  if (table.records.length === 0) {
    throw new DataError(`${path}: expected rows below the header, got none`, path);
  }
  return table.records.map((record) => {
    const cell = (column: string) => required(record, column, path);
    const row = { line: record.line, text: cell(text), label: cell('label') };
    return pair === undefined ? row : { ...row, pair: cell(pair) };
  });
}

/** An error at a line of a file, as compilers write it. */
export function errorAt(path: string, line: number, message: string, cause?: unknown): DataError {
  return new DataError(`${path}:${line}: ${message}`, path, cause);
}

/** The beginning of a text from a file, safe to show in one line. */
export function excerpt(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
}

function textColumns({ columns, line }: Table, path: string): { text: string; pair?: string } {
  const repeated = firstRepeated(columns);
  if (repeated !== undefined) {
    throw errorAt(path, line, `expected each column once, got ${excerpt(repeated)} twice`);
  }
  if (columns.includes('label')) {
    if (columns.includes('text')) return { text: 'text' };
    if (columns.includes('text_a') && columns.includes('text_b')) return { text: 'text_a', pair: 'text_b' };
  }
  const came = columns.slice(0, 12).map(excerpt).join(', ');
  throw errorAt(path, line, `expected the columns "label" and "text" (or "text_a" and "text_b"), got ${came}`);
}

function firstRepeated(names: readonly string[]): string | undefined {
  const seen = new Set<string>();
  return names.find((name) => {
    const isRepeated = seen.has(name);
    seen.add(name);
    return isRepeated;
  });
}

function required({ line, cells }: TableRecord, column: string, path: string): string {
  const value = cells.get(column)?.trim();
  if (value) return value;
  throw errorAt(path, line, `the row has no ${column}; fill it in or remove the row`);
}
