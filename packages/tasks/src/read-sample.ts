import type { Storage } from '@peftjs/core';
import { createRng, DataError, warnOnce } from '@peftjs/core/method';
import { labelIn } from './columns.js';
import type { TaskKind } from './data-set.js';
import { formatOf, readBytes, type ReadTableOptions, tableOf } from './read-table.js';
import {
  csvLines,
  type DelimitedLine,
  delimiterOf,
  errorAt,
  parseObject,
  recordOfLine,
  type Table,
  type TableRecord,
} from './table.js';

/** A row that may be kept: its cells are named only if it is. */
interface Candidate {
  readonly record: () => TableRecord<unknown>;
  /** The text of its label; undefined for rows without one. */
  readonly label: string | undefined;
}

/** A row that is kept, and the text of its label, empty without one. */
interface Kept {
  readonly record: TableRecord<unknown>;
  readonly label: string;
}

/** The seed of the rows that are kept. */
const SEED = 0;
/** Up to this many different labels each keep a row; more are numbers or texts. */
const MAX_LABELS = 1000;

/**
 * Reads a seeded sample of a table: `rows` of its rows, each as likely as the others, and of every class that they
 * would miss its first row. Delimited files and JSON lines are read in pieces, so memory grows with the rows kept, not
 * with the file.
 * @throws DataError for the first problem.
 */
export async function sampleTable<K extends TaskKind>(
  storage: Storage,
  rows: number,
  options: ReadTableOptions<K>,
): Promise<Table<unknown>> {
  const { path } = options;
  const rng = createRng(SEED).fork('rows');
  const kept: Kept[] = [];
  const firsts = new Map<string, Kept>();
  let seen = 0;
  for await (const { label = '', record } of candidatesOf(storage, options)) {
    const isFirst = label !== '' && firsts.size < MAX_LABELS && !firsts.has(label);
    const place = seen < rows ? seen : rng.integer(seen + 1);
    seen++;
    if (!isFirst && place >= rows) continue;
    const own = { label, record: structuredClone(record()) }; // parts of a text keep all of it in memory
    if (isFirst) firsts.set(label, own);
    if (place < rows) kept[place] = own;
  }
  if (seen === 0) throw new DataError(`${path}: expected rows, got none`, path);
  const hasFew = firsts.size < MAX_LABELS;
  for (const { label } of kept) firsts.delete(label);
  const missing = hasFew ? [...firsts.values()] : [];
  const records = [...kept, ...missing].map(({ record }) => record).sort((a, b) => a.line - b.line);
  if (records.length < seen) warnOnce(`${path}: a sample of ${records.length} of its ${seen} rows is read`);
  const columns = [...new Set(records.flatMap(({ cells }) => [...cells.keys()]))];
  return { columns, line: 1, records };
}

/** The rows of a table, one after the other. */
async function* candidatesOf(storage: Storage, options: ReadTableOptions): AsyncGenerator<Candidate> {
  const { path, readers = [] } = options;
  const format = readers.length > 0 ? undefined : formatOf(options);
  if (format === 'csv' || format === 'tsv') yield* ofDelimited(textsOf(storage, path), format, options);
  else if (format === 'jsonl') yield* ofJson(textsOf(storage, path), options);
  else {
    const table = await tableOf(await readBytes(storage, path), options);
    for (const record of table.records) yield { record: () => record, label: labelOf(record, options) };
  }
}

/** A part of a text. */
interface Part {
  readonly text: string;
  readonly isLast: boolean;
}

async function* ofDelimited(
  parts: AsyncIterable<Part>,
  format: 'csv' | 'tsv',
  options: ReadTableOptions,
): AsyncGenerator<Candidate> {
  const { path } = options;
  let columns: readonly string[] | undefined;
  let label: number | undefined;
  for await (const entry of format === 'csv' ? linesOfCsv(parts, path) : linesOfTsv(parts, path)) {
    const { cells } = entry;
    if (cells.every((cell) => cell.trim() === '')) continue;
    if (columns === undefined) {
      columns = cells.map((name) => name.trim());
      const name = labelIn(columns, options);
      label = name === undefined ? undefined : columns.indexOf(name);
      continue;
    }
    const names = columns;
    if (cells.length !== names.length) recordOfLine(entry, names, path); // throws
    yield {
      record: () => recordOfLine(entry, names, path),
      label: label === undefined ? undefined : cells[label]?.trim(),
    };
  }
}

async function* linesOfCsv(parts: AsyncIterable<Part>, path: string): AsyncGenerator<DelimitedLine> {
  let [rest, line, delimiter] = ['', 1, ''];
  for await (const { text, isLast } of parts) {
    rest += text;
    delimiter ||= delimiterOf(rest);
    const { lines, used, nextLine } = csvLines(rest, path, { delimiter, line, isLast });
    yield* lines;
    [rest, line] = [rest.slice(used), nextLine];
    assertShort(rest, line, path);
  }
}

async function* linesOfTsv(parts: AsyncIterable<Part>, path: string): AsyncGenerator<DelimitedLine> {
  for await (const { line, content } of linesOf(parts, path)) yield { line, cells: content.split('\t') };
}

async function* ofJson(parts: AsyncIterable<Part>, options: ReadTableOptions): AsyncGenerator<Candidate> {
  for await (const { line, content } of linesOf(parts, options.path)) {
    if (content.trim() === '') continue;
    const record = { line, cells: new Map(Object.entries(parseObject(content, line, options.path))) };
    yield { record: () => record, label: labelOf(record, options) };
  }
}

function labelOf({ cells }: TableRecord<unknown>, options: ReadTableOptions): string | undefined {
  const name = labelIn([...cells.keys()], options);
  const value = name === undefined ? undefined : cells.get(name);
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
    ? String(value)
    : undefined;
}

/** A line of a text. */
interface Line {
  readonly line: number;
  readonly content: string;
}

async function* linesOf(parts: AsyncIterable<Part>, path: string): AsyncGenerator<Line> {
  let [rest, line] = ['', 1];
  for await (const { text, isLast } of parts) {
    const contents = (rest + text).split('\n');
    rest = isLast ? '' : (contents.pop() as string);
    for (const content of contents) yield { line: line++, content };
    assertShort(rest, line, path);
  }
}

/** The most characters of a row. */
const MOST_CHARACTERS = 2 ** 24;

/** @throws DataError for a row that does not end: it would be kept in memory. */
function assertShort(rest: string, line: number, path: string): void {
  if (rest.length <= MOST_CHARACTERS) return;
  throw errorAt(path, line, `expected a row of at most ${MOST_CHARACTERS} characters, got more; close each quote`);
}

/** The bytes that are read at a time. */
const PART_BYTES = 2 ** 22;

/** Reads a UTF-8 text in parts, with `\n` line ends. @throws DataError for other bytes and an empty file. */
async function* textsOf(storage: Storage, path: string): AsyncGenerator<Part> {
  const { size, read, close } = await openBytes(storage, path);
  const decoder = new TextDecoder('utf-8', { fatal: true });
  const decoded = (bytes: Uint8Array, isLast: boolean): string => {
    try {
      return decoder.decode(bytes, { stream: !isLast });
    } catch (cause) {
      throw new DataError(`${path}: expected UTF-8 text, got other bytes; save the file as UTF-8`, path, cause);
    }
  };
  try {
    let carried = ''; // a \r whose \n may follow
    for (let at = 0; at < size; at += PART_BYTES) {
      const isLast = at + PART_BYTES >= size;
      const bytes = await read(at, Math.min(PART_BYTES, size - at));
      const text = carried + decoded(bytes, isLast);
      carried = !isLast && text.endsWith('\r') ? '\r' : '';
      yield { text: text.slice(0, text.length - carried.length).replaceAll('\r\n', '\n'), isLast };
    }
  } finally {
    await close();
  }
}

async function openBytes(storage: Storage, path: string) {
  const source = await storage.open?.(path).catch(() => undefined); // `readBytes` says why
  if (source) {
    return {
      size: source.size,
      read: (at: number, length: number) => source.read(at, length),
      close: async () => source.close?.(),
    };
  }
  const bytes = await readBytes(storage, path);
  return {
    size: bytes.length,
    read: (at: number, length: number) => Promise.resolve(bytes.subarray(at, at + length)),
    close: () => Promise.resolve(),
  };
}
