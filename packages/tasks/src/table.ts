import { DataError } from '@peftjs/core/method';
import { firstNames, jsonParts } from '@peftjs/core/model';
import Papa from 'papaparse';

/** A table: the names of its columns, and the cells of its rows. */
export interface Table<Cell = string> {
  /** The names of the columns. */
  readonly columns: readonly string[];
  /** The number of the line with the column names, from 1. */
  readonly line: number;
  /** The rows. */
  readonly records: readonly TableRecord<Cell>[];
}

/** A row of a table. */
export interface TableRecord<Cell = string> {
  /** Its line in the file, from 1. */
  readonly line: number;
  /** Its cells by column; a missing cell is absent. */
  readonly cells: ReadonlyMap<string, Cell>;
}

/** An error at a line of a file, in the format of compilers. */
export function errorAt(path: string, line: number, message: string, cause?: unknown): DataError {
  return new DataError(`${path}:${line}: ${message}`, path, cause);
}

/** The most lines that an error names. */
const listedLines = 5;

/**
 * Reads each of a file's rows, so that all faulty ones are reported at once.
 * @throws DataError for the first row that cannot be read, with the number of such rows and the first five lines.
 */
export function readEach<T extends { readonly line: number }, R>(
  rows: readonly T[],
  path: string,
  read: (row: T) => R,
): R[] {
  const faulty: number[] = [];
  let first: DataError | undefined;
  const results = rows.flatMap((row) => {
    try {
      return [read(row)];
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      first ??= error;
      faulty.push(row.line);
      return [];
    }
  });
  if (first === undefined) return results;
  if (faulty.length === 1) throw first;
  const lines = faulty.slice(0, listedLines).join(', ') + (faulty.length > listedLines ? ', ..' : '');
  const counted = `${faulty.length} of ${rows.length} rows cannot be read, in the lines ${lines}`;
  throw new DataError(`${first.message} (${counted})`, path, first);
}

/** The beginning of a text from a file, as JSON that fits on one line. */
export function excerpt(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
}

/** The first names of a file, for messages. @param none what to say if there are none */
export function listed(names: readonly string[], none = 'no columns'): string {
  return firstNames(names.map(excerpt), none);
}

/** The most bytes of a file: its text must fit into one string. */
const maxFileBytes = 500_000_000;

/**
 * Decodes a UTF-8 file, without byte order mark and with `\n` line ends.
 * @throws DataError for a file that is empty, too large or not UTF-8.
 */
export function decodeText(bytes: Uint8Array, path: string): string {
  checkSize(bytes, path);
  return lines(decodeUtf8(bytes, path), path);
}

/**
 * Decodes a Latin-1 file, where each byte is a code point, with `\n` line ends. (`TextDecoder` decodes Windows-1252
 * under that name.)
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
  const text = content.includes('\n') ? content.replaceAll('\r\n', '\n') : content.replaceAll('\r', '\n'); // old Macs
  if (text.trim()) return text;
  throw new DataError(`${path}: expected text, got an empty file`, path);
}

/** @throws DataError for a file that is too large. */
export function checkSize(bytes: Uint8Array, path: string, most = maxFileBytes): void {
  if (bytes.length <= most) return;
  throw new DataError(`${path}: expected at most ${most} bytes, got ${bytes.length}; use a part of it`, path);
}

/** The most characters of a line of a table. */
const maxLineLength = 1_000_000;

/**
 * Checks the lines of a table before anything is made of them.
 * @throws DataError for too many lines, and for one that is too long.
 */
function checkLines(text: string, path: string): void {
  let line = 1;
  for (let start = 0; start < text.length; line++) {
    const found = text.indexOf('\n', start);
    const end = found === -1 ? text.length : found;
    if (end - start > maxLineLength) {
      throw errorAt(path, line, `expected at most ${maxLineLength} characters in a line, got ${end - start}`);
    }
    start = end + 1;
  }
  checkRows(line - 1, text.length, path);
}

/** A table of this many rows is read whatever its size. A larger one has this many bytes for each row. */
const [smallTable, leastRowBytes] = [500_000, 32];

/**
 * A row takes hundreds of bytes of memory, and may take two in the file.
 * @throws DataError for more rows than texts in a file of that many bytes have.
 */
export function checkRows(rows: number, bytes: number, path: string): void {
  const most = Math.max(smallTable, Math.floor(bytes / leastRowBytes));
  if (rows <= most) return;
  throw new DataError(`${path}: expected at most ${most} rows in ${bytes} bytes, got ${rows}; use a part of it`, path);
}

function decodeUtf8(bytes: Uint8Array, path: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    const [before = ''] = new TextDecoder().decode(bytes).split('\ufffd', 1); // what stands for bytes that are not UTF-8
    const message = 'expected UTF-8 text, got other bytes; save the file as UTF-8';
    throw errorAt(path, 1 + lineEnds(before, 0, before.length), message, cause);
  }
}

/** A line of a delimited file, split into cells. */
export interface DelimitedLine {
  readonly line: number;
  readonly cells: readonly string[];
}

/** The ways in which published TSV files differ from ours. */
export interface TsvLayout {
  /** The names of the columns, for a file without a header line. */
  readonly columns?: readonly string[] | undefined;
  /**
   * Whether to skip lines with too few cells and ignore additional cells, as the published readers do. Default false.
   */
  readonly skipsBrokenLines?: boolean | undefined;
}

/**
 * Parses tab-separated values. Lines are only split at tabs and line ends: quotes in such files are part of the text.
 * @throws DataError for a line with more or fewer cells than the header.
 */
export function parseTsv(text: string, path: string, { columns, skipsBrokenLines }: TsvLayout = {}): Table {
  checkLines(text, path);
  const lines = text.split('\n').map((line, index) => ({ line: index + 1, cells: line.split('\t') }));
  const named = columns ? [{ line: 0, cells: columns }, ...lines] : lines;
  return withHeader(skipsBrokenLines ? wholeLines(named) : named, path);
}

/**
 * Parses comma-separated values by RFC 4180: quoted cells may hold commas, quotes (doubled) and line ends. Spreadsheets
 * in other languages may write semicolons or tabs in place of commas; the header decides.
 * @throws DataError for broken quotes, and for a line with more or fewer cells than the header.
 */
export function parseCsv(text: string, path: string): Table {
  checkLines(text, path);
  return withHeader(csvLines(text, path, { delimiter: delimiterOf(text), line: 1, isLast: true }).lines, path);
}

/** A part of a CSV file. */
interface CsvPart {
  /** The delimiter of the file. */
  readonly delimiter: string;
  /** The number of the first line. */
  readonly line: number;
  /** Whether the file ends with it: otherwise its last row may be incomplete. */
  readonly isLast: boolean;
}

/** Splits a part of a CSV file into its complete rows. Returns them with the number of characters that they take. */
export function csvLines(text: string, path: string, { delimiter, line: from, isLast }: CsvPart) {
  const lines: DelimitedLine[] = [];
  let line = from;
  let position = 0;
  const step = ({ data, errors: [error], meta }: Papa.ParseStepResult<string[][]>): void => {
    if (error) throw errorAt(path, line, `${error.message}; close each quote and double the quotes inside a cell`);
    for (const cells of data) lines.push({ line, cells });
    line += lineEnds(text, position, meta.cursor);
    position = meta.cursor;
  };
  new Papa.Parser({ delimiter, newline: '\n', step }).parse(text, 0, !isLast);
  return { lines, used: position, nextLine: line };
}

/** The delimiter that splits the header into most cells; a comma in a tie. */
export function delimiterOf(text: string): string {
  const header = text.slice(text.search(/\S/)).split('\n', 1)[0] as string;
  const cells = (delimiter: string): number => Papa.parse<string[]>(header, { delimiter }).data[0]?.length ?? 0;
  return [',', ';', '\t'].reduce((best, delimiter) => (cells(delimiter) > cells(best) ? delimiter : best));
}

/** The lines that have a cell for each column, without additional cells. */
function wholeLines(lines: readonly DelimitedLine[]): DelimitedLine[] {
  const columns = lines[0]?.cells.length ?? 0;
  return lines
    .filter(({ cells }) => cells.length >= columns)
    .map(({ line, cells }) => ({ line, cells: cells.slice(0, columns) }));
}

function withHeader(lines: readonly DelimitedLine[], path: string): Table {
  const [header, ...filled] = lines.filter(({ cells }) => cells.some((cell) => cell.trim()));
  if (!header) throw errorAt(path, 1, 'expected a header line that names the columns, got only blank lines');
  const columns = header.cells.map((name) => name.trim());
  return { columns, line: header.line, records: readEach(filled, path, (line) => recordOfLine(line, columns, path)) };
}

/** Names the cells of a line. @throws DataError if it has more or fewer than the header. */
export function recordOfLine({ line, cells }: DelimitedLine, columns: readonly string[], path: string): TableRecord {
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

/** An object and the number of its line. */
export interface JsonLine {
  /** The number of the line, from 1. */
  readonly line: number;
  /** The object. */
  readonly object: object;
}

/**
 * Parses one JSON object per line; the columns are those that any of them names. Cells are JSON values.
 * @throws DataError for a line that is too long or not a JSON object.
 */
export function parseJsonLines(text: string, path: string): Table<unknown> {
  const objects = jsonLines(text, path);
  const [first] = objects as [JsonLine, ...JsonLine[]];
  return {
    columns: [...new Set(objects.flatMap(({ object }) => Object.keys(object)))],
    line: first.line,
    records: objects.map(({ object, line }) => ({ line, cells: new Map(Object.entries(object)) })),
  };
}

/**
 * Returns the objects of a text with one object in each line that is not blank.
 * @throws DataError for a line that is too long or not a JSON object, or when there is none.
 */
export function jsonLines(text: string, path: string): JsonLine[] {
  checkLines(text, path);
  checkParts(text, path);
  const filled = text
    .split('\n')
    .map((content, index) => ({ content, line: index + 1 }))
    .filter(({ content }) => content.trim());
  if (filled.length > 0) {
    return readEach(filled, path, ({ content, line }) => ({ line, object: parseObject(content, line, path) }));
  }
  throw new DataError(`${path}: expected a JSON object in each line, got only blank lines`, path);
}

/** The objects, lists and keys that are read whatever the size of a file. A larger one has this many bytes for each. */
const [fewParts, leastPartBytes] = [2_000_000, 16];

/** @throws DataError for more objects, lists and keys than texts have around them: each takes dozens of bytes of memory. */
function checkParts(text: string, path: string): void {
  const most = Math.max(fewParts, Math.floor(text.length / leastPartBytes));
  const parts = jsonParts(text);
  if (parts > most)
    throw new DataError(
      `${path}: expected at most ${most} objects, lists and keys, got ${parts}; use a part of it`,
      path,
    );
}

/** Reads the object of a line. @throws DataError for a line that is too long or not a JSON object. */
export function parseObject(content: string, line: number, path: string): object {
  if (content.length > maxLineLength) {
    throw errorAt(path, line, `expected at most ${maxLineLength} characters in a line, got ${content.length}`);
  }
  let value: unknown;
  try {
    value = JSON.parse(content);
  } catch (cause) {
    throw errorAt(path, line, `expected a JSON object, got ${excerpt(content)}, which is not JSON`, cause);
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    throw errorAt(path, line, `expected a JSON object, got ${excerpt(content)}`);
  }
  if (!isDeeper(value, maxLevels)) return value;
  throw errorAt(path, line, `expected at most ${maxLevels} levels of lists and objects, got ${excerpt(content)}`);
}

/** The most levels of lists and objects in a line: what walks them needs a call for each. */
const maxLevels = 100;

function isDeeper(value: unknown, levels: number): boolean {
  if (value === null || typeof value !== 'object') return false;
  return levels === 0 || Object.values(value).some((one) => isDeeper(one, levels - 1));
}
