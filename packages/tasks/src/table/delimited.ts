import Papa from 'papaparse';
import { errorAt, type Table, type TableRecord } from './table.js';

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
  return { columns, line: header.line, records: filled.map((line) => recordOf(line, columns, path)) };
}

function recordOf({ line, cells }: DelimitedLine, columns: readonly string[], path: string): TableRecord {
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
