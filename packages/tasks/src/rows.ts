import { ConfigError, DataError, warnOnce } from '@peftjs/core/method';
import { type ColumnOptions, type Layout } from './columns.js';
import type { DataSet, GivenRow, MultiLabelRow, Row, RowsByKind, TaggedRow, TaskKind } from './data-set.js';
import { errorAt, excerpt, listed, readEach, type Table, type TableRecord } from './table.js';

/** A row whose labels are still texts. */
interface RawRow {
  readonly line: number;
  readonly texts: readonly string[];
  readonly labels: readonly string[];
}

/** The meaning of a file's labels. */
type Scheme = Pick<DataSet<TaskKind>, 'kind' | 'classes'>;

/** The rows to read, and how. */
export interface Reading extends Pick<ColumnOptions, 'textColumn' | 'labelSeparator' | 'scoreScale'> {
  readonly layout: Layout;
  /** The kind of the rows. Default: decided by the columns and the labels. */
  readonly kind?: TaskKind | undefined;
  /** The training set whose kind and classes apply. */
  readonly like?: DataSet<TaskKind> | undefined;
  readonly path: string;
}

/**
 * Leaves out the rows without a label, tags or score, and warns of how many there are.
 * @throws DataError when no row has one, ConfigError for rows that need none.
 */
export function withoutUnlabelled(table: Table<unknown>, reading: Reading): Table<unknown> {
  const { layout, path } = reading;
  if (layout.label === undefined) {
    throw new ConfigError(
      `option 'skipUnlabelled' is for rows with labels, but these are ${layout.form}; leave it out`,
      'skipUnlabelled',
    );
  }
  const records = table.records.filter((record) => !isUnlabelled(record, reading));
  const all = table.records.length;
  if (records.length === 0) {
    throw new DataError(`${path}: expected a value of ${excerpt(layout.label)} in some rows, got none in ${all}`, path);
  }
  const left = all - records.length;
  if (left > 0) warnOnce(`${path}: left out ${left} of ${all} rows, which have no ${layout.label}`);
  return { ...table, records };
}

/** Whether a row lacks its label, tags or score. With a separator, an empty text is a row with none of the labels. */
function isUnlabelled({ cells }: TableRecord<unknown>, { layout: { label }, labelSeparator }: Reading): boolean {
  const cell = label === undefined ? undefined : cells.get(label);
  return label !== undefined && isEmpty(cell) && (labelSeparator === undefined || typeof cell !== 'string');
}

function assertLabelled(record: TableRecord<unknown>, reading: Reading): void {
  if (!isUnlabelled(record, reading)) return;
  throw errorAt(
    reading.path,
    record.line,
    `the row has no ${reading.layout.label}; fill it in, remove the row, or leave out all such rows (skipUnlabelled, --skip-unlabelled)`,
  );
}

/**
 * Reads the rows of a table and the meaning of their labels.
 * @throws DataError for the rows that do not match the columns, or for labels from which nothing can be learnt.
 */
export function rowsOf(
  table: Table<unknown>,
  reading: Reading,
): Scheme & { readonly rows: readonly GivenRow<TaskKind>[] } {
  const { path } = reading;
  const kind = kindOf(table, reading);
  const { records } = table;
  if (kind === 'pairs' || kind === 'triplets') {
    return {
      kind,
      classes: [],
      rows: readEach(records, path, (record) => ({ texts: textsOf(record, reading.layout, path) })),
    };
  }
  if (kind === 'scored-pairs') {
    return { kind, classes: [], rows: readEach(records, path, (record) => scoredRow(record, reading)) };
  }
  const raw = readEach(records, path, (record) => rawRow(record, kind, reading));
  if (kind === 'multi-label' && !reading.like) assertNotVectors(raw, path);
  const { kind: meant, classes } = reading.like ?? schemeOf(raw, kind, path);
  const numbered = numbering({ kind: meant, classes }, path);
  return { kind: meant, classes, rows: readEach(raw, path, (row) => labelled(row, meant, numbered)) };
}

/** The kind of a table; undefined if its labels decide between classes and numbers. */
function kindOf(
  { records }: Table<unknown>,
  { layout: { form, label = '' }, kind, labelSeparator, path }: Reading,
): TaskKind | undefined {
  if (form !== 'labelled') return form;
  const isList = Array.isArray(records[0]?.cells.get(label));
  if (kind === 'multi-label' && labelSeparator === undefined && !isList) {
    const way = `lists of labels in ${excerpt(label)}, or texts with a separator that you name (labelSeparator, --label-separator)`;
    throw new DataError(`${path}: expected ${way}, got ${shown(records[0]?.cells.get(label))}`, path);
  }
  if (isList || labelSeparator !== undefined) {
    if (kind === undefined || kind === 'multi-label') return 'multi-label';
    throw new ConfigError(`rows with several labels are of kind 'multi-label', not '${kind}'`, 'kind');
  }
  return kind;
}

function rawRow(record: TableRecord<unknown>, kind: TaskKind | undefined, reading: Reading): RawRow {
  const { layout, path, labelSeparator } = reading;
  const { line } = record;
  const label = layout.label ?? 'label';
  assertLabelled(record, reading);
  if (kind === 'token-classification') {
    const words = listOf(record, layout.texts[0] ?? '', path);
    const labels = listOf(record, label, path).map((tag) => tag.trim());
    if (words.length === 0) throw errorAt(path, line, `expected tokens, got an empty list; remove the row`);
    if (labels.length !== words.length) {
      throw errorAt(path, line, `expected a tag for each of ${words.length} tokens, got ${labels.length}`);
    }
    if (!labels.includes('')) return { line, texts: words, labels };
    throw errorAt(path, line, `expected a tag for each token, got an empty text; write O for a token outside entities`);
  }
  const texts = textsOf(record, layout, path);
  if (kind !== 'multi-label') return { line, texts, labels: [oneLabel(record, label, path)] };
  const labels = severalLabels(record, label, labelSeparator, path);
  if (new Set(labels).size === labels.length) return { line, texts, labels };
  throw notALabelList(shown(record.cells.get(label)), line, path);
}

/** @throws DataError for rows with a 0 or 1 for each of two labels, all of them `[0, 1]` or `[1, 0]`. */
function assertNotVectors(rows: readonly RawRow[], path: string): void {
  const isVector = ({ labels }: RawRow): boolean => [...labels].sort().join() === '0,1';
  const [first] = rows;
  if (first && rows.every(isVector)) throw notALabelList(`[${first.labels.join(', ')}]`, first.line, path);
}

function notALabelList(found: string, line: number, path: string): DataError {
  return errorAt(path, line, `expected each label once, got ${found}; list the row's labels, not a 0 or 1 for each`);
}

function textsOf(record: TableRecord<unknown>, { texts }: Layout, path: string): string[] {
  return texts.map((column) => {
    const value = record.cells.get(column);
    if (isEmpty(value)) throw missing(record, column, path);
    if (typeof value === 'string') return value.trim();
    throw errorAt(path, record.line, `expected ${column} to be a string, got ${shown(value)}`);
  });
}

/** @throws DataError for a row without one of the texts, or with negatives that the first row lacks. */
function oneLabel(record: TableRecord<unknown>, column: string, path: string): string {
  const value = record.cells.get(column);
  if (isScalar(value)) return String(value).trim();
  throw errorAt(path, record.line, `expected ${column} to be a string, got ${shown(value)}`);
}

function severalLabels(
  record: TableRecord<unknown>,
  column: string,
  separator: string | undefined,
  path: string,
): string[] {
  const value = record.cells.get(column);
  const isText = separator !== undefined && typeof value === 'string';
  if (isText && value.trim() === '') return [];
  const labels = (isText ? value.split(separator) : listOf(record, column, path)).map((label) => label.trim());
  if (!labels.includes('')) return labels.map(className);
  const expected = isText ? `a label on both sides of each ${excerpt(separator)}` : 'a list of labels';
  throw errorAt(path, record.line, `expected ${expected}, got ${shown(value)}`);
}

/** The items of a list as texts; numbers become their text. */
function listOf(record: TableRecord<unknown>, column: string, path: string): string[] {
  const value = record.cells.get(column);
  if (value === undefined || value === null) throw missing(record, column, path);
  if (Array.isArray(value) && value.every(isScalar)) return value.map(String);
  throw errorAt(path, record.line, `expected ${column} to be a list of texts or numbers, got ${shown(value)}`);
}

function scoredRow(record: TableRecord<unknown>, reading: Reading): GivenRow<'scored-pairs'> {
  const { layout, scoreScale = 1, path } = reading;
  assertLabelled(record, reading);
  const texts = textsOf(record, layout, path);
  const column = layout.label ?? 'score';
  const found = oneLabel(record, column, path);
  const number = numberOf(found);
  if (number === undefined)
    throw errorAt(path, record.line, `expected ${column} to be a number, got ${excerpt(found)}`);
  const score = number / scoreScale;
  if (Math.abs(score) <= 1) return { texts, score };
  const way = 'divide the scores by the largest possible one (scoreScale, --score-scale)';
  throw errorAt(path, record.line, `expected ${column} to lie between -1 and 1, as cosines do, got ${score}; ${way}`);
}

function isEmpty(cell: unknown): boolean {
  return cell === undefined || cell === null || (typeof cell === 'string' && cell.trim() === '');
}

function missing({ line }: TableRecord<unknown>, column: string, path: string): DataError {
  return errorAt(path, line, `the row has no ${column}; fill it in or remove the row`);
}

function isScalar(value: unknown): value is string | number | boolean {
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean';
}

function shown(value: unknown): string {
  const json = value === undefined ? 'nothing' : JSON.stringify(value);
  return json.length > 60 ? `${json.slice(0, 60)}…` : json;
}

/**
 * Decides the meaning of a training file's labels: regression if the caller says so, or if all labels are numbers and
 * one has decimals; otherwise the distinct labels are classes, ordered by value if all are numbers, else by code point.
 * @throws DataError when all rows have the same label or none has any, and when most labels are numbers with decimals.
 */
function schemeOf(rows: readonly RawRow[], kind: TaskKind | undefined, path: string): Scheme {
  const names = [...new Set(rows.flatMap(({ labels }) => labels.map(className)))];
  const [only] = names;
  if (kind === 'multi-label' && only === undefined) {
    throw new DataError(`${path}: expected a row with a label, got only rows without any`, path);
  }
  if (kind !== 'multi-label' && names.length < 2) {
    const what = kind === 'token-classification' ? 'tags' : 'labels';
    throw new DataError(`${path}: expected at least two different ${what}, got only ${excerpt(only ?? '')}`, path);
  }
  const numeric = names.every(isNumeric);
  const decimals = numeric && names.some((label) => !Number.isInteger(Number(label)));
  if (kind === 'regression' || (kind === undefined && decimals)) return { kind: 'regression', classes: [] };
  if (kind === undefined) assertNoNumbers(rows, names, path);
  const order = numeric ? (a: string, b: string) => Number(a) - Number(b) || byCodePoint(a, b) : byCodePoint;
  return { kind: kind ?? 'classification', classes: names.sort(order) };
}

/** With more classes than this, labels of which most are numbers with decimals were not meant as classes. */
const MAX_NUMERIC_CLASSES = 20;

/** @throws DataError for classes that are likely numbers of which some are missing or have decimal commas. */
function assertNoNumbers(rows: readonly RawRow[], names: readonly string[], path: string): void {
  const numbers = names.filter((name) => isNumeric(name.replace(',', '.')));
  const decimals = numbers.some((name) => !Number.isInteger(Number(name))); // also if it has a comma
  if (!decimals || numbers.length <= names.length / 2 || names.length <= MAX_NUMERIC_CLASSES) return;
  const odd = rows.find(({ labels: [label = ''] }) => !isNumeric(label));
  throw errorAt(
    path,
    odd?.line ?? 1,
    `expected the label to be a number, as most are, got ${excerpt(odd?.labels[0] ?? '')}; write decimals with a point and remove rows without a number, or say that labels are classes (kind, --kind classification)`,
  );
}

/** Turns a label into its number. @param what the subject of the label, for messages */
type Numbering = (label: string, line: number, what?: string) => number;

/** Numbers labels. @throws DataError for a label that is not a number, or not one of the classes. */
function numbering({ kind, classes }: Scheme, path: string): Numbering {
  const numbers = new Map(classes.map((name, index) => [name, index]));
  return (label, line, what = 'label') => {
    const number = kind === 'regression' ? numberOf(label) : numbers.get(className(label));
    if (number !== undefined) return number;
    const expected = kind === 'regression' ? 'a number' : `one of the training classes ${listed(classes)}`;
    throw errorAt(path, line, `expected the ${what} to be ${expected}, got ${excerpt(label)}`);
  };
}

function labelled({ line, texts, labels }: RawRow, kind: TaskKind, numbered: Numbering): RowsByKind[TaskKind] {
  if (kind === 'token-classification') {
    const tags = labels.map((tag, word) => numbered(tag, line, `tag of ${excerpt(texts[word] ?? '')}`));
    return { words: texts, tags } satisfies TaggedRow;
  }
  const numbers = labels.map((label) => numbered(label, line));
  const [text = '', pair] = texts;
  const own = pair === undefined ? { text } : { text, pair };
  if (kind === 'multi-label') return { ...own, labels: numbers.sort((a, b) => a - b) } satisfies MultiLabelRow;
  return { ...own, label: numbers[0] as number } satisfies Row;
}

/** Compares texts by their Unicode code points, whatever the locale. */
function byCodePoint(a: string, b: string): number {
  const [left, right] = [Array.from(a), Array.from(b)];
  const at = left.findIndex((character, index) => character !== right[index]);
  if (at === -1) return left.length - right.length;
  return (left[at]?.codePointAt(0) ?? 0) - (right[at]?.codePointAt(0) ?? -1);
}

/** A whole number as tools write it; `01` and `1e2` are codes. */
const WHOLE = /^[+-]?(?:0|[1-9]\d*)(?:\.0*)?$/;

/** One name for `1`, `1.0` and `+1`, which tools use interchangeably. */
function className(label: string): string {
  const number = WHOLE.test(label.trim()) ? numberOf(label) : undefined;
  return Number.isSafeInteger(number) ? String((number as number) + 0) : label;
}

/** The number that a text stands for; undefined if it is not a number. */
export function numberOf(label: string): number | undefined {
  return isNumeric(label) ? Number(label) : undefined;
}

/** Whether a text is a number. */
export function isNumeric(label: string): boolean {
  return /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?$/i.test(label) && Number.isFinite(Number(label));
}
