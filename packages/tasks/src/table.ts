import { DataError } from '@peftjs/core/method';
import Papa from 'papaparse';

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

/** Largest file that is read: its text must fit one string. */
const maxFileBytes = 500_000_000;

/**
 * The text of a UTF-8 file, without byte order mark and with `\n` line ends.
 * @throws DataError for a file that is empty, too large or not UTF-8.
 */
export function decodeText(bytes: Uint8Array, path: string): string {
  checkSize(bytes, path);
  return lines(decodeUtf8(bytes, path), path);
}

/**
 * The text of a Latin-1 file, each byte the code point of its number, with `\n` line ends. (`TextDecoder` reads Windows-1252 under
 * that name.)
 * @throws DataError for a file that is empty or too large.
 */
export function decodeLatin1(bytes: Uint8Array, path: string): string {
  checkSize(bytes, path);
  const blocks: string[] = [];
  for (let start = 0; start < bytes.length; start += 4096) {
    blocks.push(String.fromCharCode(...bytes.subarray(start, start + 4096)));
  }
  return lines(blocks.join(''), path);
}

function lines(content: string, path: string): string {
  const text = content.replaceAll('\r\n', '\n');
  if (text.trim()) return text;
  throw new DataError(`${path}: expected text, got an empty file`, path);
}

/** @throws DataError for a file beyond the bound. */
export function checkSize(bytes: Uint8Array, path: string, most = maxFileBytes): void {
  if (bytes.length <= most) return;
  throw new DataError(`${path}: expected at most ${most} bytes, got ${bytes.length}; use a part of it`, path);
}

function decodeUtf8(bytes: Uint8Array, path: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw errorAt(path, firstBrokenLine(bytes), 'expected UTF-8 text, got other bytes; save the file as UTF-8', cause);
  }
}

/** The first line that is no UTF-8 by itself: line ends are never part of a longer sequence. */
function firstBrokenLine(bytes: Uint8Array): number {
  let line = 1;
  for (let start = 0; start < bytes.length; line++) {
    const end = bytes.indexOf(0x0a, start);
    const content = bytes.subarray(start, end === -1 ? bytes.length : end);
    if (!isUtf8(content)) return line;
    start += content.length + 1;
  }
  return line;
}

function isUtf8(bytes: Uint8Array): boolean {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    return true;
  } catch {
    return false;
  }
}

/** A line of a delimited file, cut into cells. */
interface DelimitedLine {
  readonly line: number;
  readonly cells: readonly string[];
}

/** What a published TSV may have that a TSV of ours may not. */
export interface TsvLayout {
  /** The names of the columns, where the file does not tell them. */
  readonly columns?: readonly string[] | undefined;
  /** Leave lines with too few cells out, as the published readers do, and of others what is too much. */
  readonly skipsBrokenLines?: boolean | undefined;
}

/**
 * Tab-separated values: cut at tabs and line ends and nothing else, for quotes in such files are part of the text.
 * @throws DataError for a line with more or fewer cells than the header.
 */
export function parseTsv(text: string, path: string, { columns, skipsBrokenLines }: TsvLayout = {}): Table {
  const lines = text.split('\n').map((line, index) => ({ line: index + 1, cells: line.split('\t') }));
  const named = columns ? [{ line: 0, cells: columns }, ...lines] : lines;
  return withHeader(skipsBrokenLines ? wholeLines(named) : named, path);
}

/**
 * Comma-separated values by RFC 4180: quoted cells may hold commas, quotes (doubled) and line ends.
 * @throws DataError for broken quotes, and for a line with more or fewer cells than the header.
 */
export function parseCsv(text: string, path: string): Table {
  const lines: DelimitedLine[] = [];
  let line = 1;
  let position = 0;
  Papa.parse<string[]>(text, {
    delimiter: ',',
    newline: '\n',
    step({ data, errors: [error], meta }) {
      if (error) throw errorAt(path, line, `${error.message}; close each quote and double the quotes inside a cell`);
      lines.push({ line, cells: data });
      line += lineEnds(text, position, meta.cursor);
      position = meta.cursor;
    },
  });
  return withHeader(lines, path);
}

/** The lines that have a cell for each column. */
function wholeLines(lines: readonly DelimitedLine[]): DelimitedLine[] {
  const columns = lines[0]?.cells.length ?? 0;
  return lines
    .filter(({ cells }) => cells.length >= columns)
    .map(({ line, cells }) => ({ line, cells: cells.slice(0, columns) }));
}

function withHeader(lines: readonly DelimitedLine[], path: string): Table {
  const [header, ...filled] = lines.filter(({ cells }) => cells.length > 1 || cells[0]?.trim());
  if (!header) throw errorAt(path, 1, 'expected a header line that names the columns, got only blank lines');
  const columns = header.cells.map((name) => name.trim());
  return { columns, line: header.line, records: filled.map((line) => recordOfLine(line, columns, path)) };
}

function recordOfLine({ line, cells }: DelimitedLine, columns: readonly string[], path: string): TableRecord {
  if (cells.length !== columns.length) {
    throw errorAt(path, line, `expected ${columns.length} cells as in the header, got ${cells.length}`);
  }
  return { line, cells: new Map(columns.map((name, index) => [name, cells[index] ?? ''])) };
}

function lineEnds(text: string, from: number, to: number): number {
  let count = 0;
  for (let at = text.indexOf('\n', from); at !== -1 && at < to; at = text.indexOf('\n', at + 1)) count++;
  return count;
}

/** Longest line that is parsed, in characters. */
const maxLineLength = 1_000_000;

/** An object and the line it stands in. */
export interface JsonLine {
  readonly line: number;
  readonly object: object;
}

/**
 * One JSON object a line; the first one names the columns. A label may be a string, a number or a boolean.
 * @throws DataError for a line that is too long, is no JSON object, or has a value of another type.
 */
export function parseJsonLines(text: string, path: string): Table {
  const objects = jsonLines(text, path);
  const [first] = objects as [JsonLine, ...JsonLine[]];
  return {
    columns: Object.keys(first.object),
    line: first.line,
    records: objects.map(({ object, line }) => recordOfObject(object, line, path)),
  };
}

/**
 * The objects of a text with one in each line that is not blank.
 * @throws DataError for a line that is too long or no JSON object, or when there is none.
 */
export function jsonLines(text: string, path: string): JsonLine[] {
  const objects = text
    .split('\n')
    .map((content, index) => ({ content, line: index + 1 }))
    .filter(({ content }) => content.trim())
    .map(({ content, line }) => ({ line, object: parseObject(content, line, path) }));
  if (objects.length > 0) return objects;
  throw new DataError(`${path}: expected a JSON object in each line, got only blank lines`, path);
}

function parseObject(content: string, line: number, path: string): object {
  if (content.length > maxLineLength) {
    throw errorAt(path, line, `expected at most ${maxLineLength} characters in a line, got ${content.length}`);
  }
  const value = parseJson(content, line, path);
  if (value !== null && typeof value === 'object' && !Array.isArray(value)) return value;
  throw errorAt(path, line, `expected a JSON object, got ${excerpt(content)}`);
}

function parseJson(content: string, line: number, path: string): unknown {
  try {
    return JSON.parse(content);
  } catch (cause) {
    throw errorAt(path, line, `expected a JSON object, got ${excerpt(content)}, which is not JSON`, cause);
  }
}

function recordOfObject(object: object, line: number, path: string): TableRecord {
  const cells = new Map<string, string>();
  const values = new Map<string, unknown>(Object.entries(object));
  for (const name of columnNames) {
    const value = values.get(name);
    if (value !== undefined && value !== null) cells.set(name, cellOf(value, name, line, path));
  }
  return { line, cells };
}

function cellOf(value: unknown, name: string, line: number, path: string): string {
  if (typeof value === 'string') return value;
  if (name === 'label' && (typeof value === 'number' || typeof value === 'boolean')) return String(value);
  throw errorAt(path, line, `expected ${name} to be a string, got ${excerpt(JSON.stringify(value))}`);
}
