import { DataError } from '@peftjs/core/method';
import Papa from 'papaparse';

/** A table as it was read: the names of its columns, and the cells of its rows. */
export interface Table<Cell = string> {
  readonly columns: readonly string[];
  /** Line that names the columns, from 1. */
  readonly line: number;
  readonly records: readonly TableRecord<Cell>[];
}

/** The cells of a row by column; an absent cell is missing. */
export interface TableRecord<Cell = string> {
  readonly line: number;
  readonly cells: ReadonlyMap<string, Cell>;
}

/** An error at a line of a file, as compilers write it. */
export function errorAt(path: string, line: number, message: string, cause?: unknown): DataError {
  return new DataError(`${path}:${line}: ${message}`, path, cause);
}

/** The beginning of a text from a file, safe to show in one line. */
export function excerpt(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
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
 * Comma-separated values by RFC 4180: quoted cells may hold commas, quotes (doubled) and line ends. Files of spreadsheets that are set to
 * another language have semicolons, or tabs, in the place of commas; the header tells.
 * @throws DataError for broken quotes, and for a line with more or fewer cells than the header.
 */
export function parseCsv(text: string, path: string): Table {
  const lines: DelimitedLine[] = [];
  let line = 1;
  let position = 0;
  Papa.parse<string[]>(text, {
    delimiter: delimiterOf(text),
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

/** What cuts the header into most cells; a comma where others cut it into no more. */
function delimiterOf(text: string): string {
  const header = text.slice(text.search(/\S/)).split('\n', 1)[0] as string;
  const cells = (delimiter: string): number => Papa.parse<string[]>(header, { delimiter }).data[0]?.length ?? 0;
  return [',', ';', '\t'].reduce((best, delimiter) => (cells(delimiter) > cells(best) ? delimiter : best));
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
 * One JSON object a line; the first one names the columns. Cells are JSON values.
 * @throws DataError for a line that is too long or no JSON object.
 */
export function parseJsonLines(text: string, path: string): Table<unknown> {
  const objects = jsonLines(text, path);
  const [first] = objects as [JsonLine, ...JsonLine[]];
  return {
    columns: Object.keys(first.object),
    line: first.line,
    records: objects.map(({ object, line }) => ({ line, cells: new Map(Object.entries(object)) })),
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
