import { ConfigError, positive } from '@peftjs/core/method';
import { aText, didYouMean } from '@peftjs/core/model';
import * as v from 'valibot';
import type { TaskKind } from './data-set.js';
import { TAGS, TOKENS } from './conll.js';
import { errorAt, excerpt, listed, type Table } from './table.js';

/** How to read the rows of a table, where its column names and cells do not say it. */
export interface ColumnOptions {
  /** The column of the text, of the first of two texts, or of a sentence's words. Default: by its name. */
  readonly textColumn?: string | undefined;
  /** The column of the second text. Default: by its name. */
  readonly pairColumn?: string | undefined;
  /** The column of the label, the labels, the tags or the score. Default: by its name. */
  readonly labelColumn?: string | undefined;
  /** The separator between the labels of a cell, e.g. `'|'`: the rows then have any number of labels. */
  readonly labelSeparator?: string | undefined;
  /** Scores of pairs are divided by this number, e.g. 5 if the most similar pairs have a score of 5. Default 1. */
  readonly scoreScale?: number | undefined;
  /** Whether to leave out rows without a label, tags or score, with a warning that says how many. Default false. */
  readonly skipUnlabelled?: boolean | undefined;
}

const aColumn = v.optional(
  v.custom<string>((name) => typeof name === 'string' && name.trim() !== '', 'the name of a column'),
);

/** The schemas of the column options. */
export const columnEntries = {
  textColumn: aColumn,
  pairColumn: aColumn,
  labelColumn: aColumn,
  labelSeparator: v.optional(aText),
  scoreScale: v.optional(positive),
  skipUnlabelled: v.optional(v.boolean()),
} satisfies Record<keyof ColumnOptions, unknown>;

/** The columns that rows are read from. */
export interface Layout {
  /** The kind of the rows; `'labelled'` is classification, regression or multi-label, depending on the labels. */
  readonly form: 'labelled' | Exclude<TaskKind, 'classification' | 'regression' | 'multi-label'>;
  /** The columns of the texts: one, two (a pair) or more (a positive and negatives). */
  readonly texts: readonly string[];
  /** The column of the label, the labels, the tags or the score. */
  readonly label?: string;
}

/** Known column names; the first name that a table has is used. */
const WORDS = [TOKENS, 'words'];
const TAG_LISTS = [TAGS, 'tags'];
const LABELS = ['label', 'labels'];
const SECOND = 'text_b';
const PAIRS = [
  ['text_a', SECOND],
  ['sentence1', 'sentence2'],
] as const;
const ANCHORS = ['anchor', 'query', 'question'];
const POSITIVES = ['positive', 'answer'];
/** `negative`, or `negative_1`, `negative_2`, .. */
const NEGATIVE = /^negative(_\d+)?$/;
const SCORE = 'score';

/**
 * Selects the columns of a table that may be read: those with a known name, and those named by options. Where the
 * texts are no lists of words, nor are the labels lists of tags.
 */
export function readColumns(columns: readonly string[], options: ColumnOptions): readonly string[] {
  const { textColumn, pairColumn, labelColumn } = options;
  const named = [textColumn, pairColumn, labelColumn].filter((name) => name !== undefined);
  const plain = [
    'text',
    ...PAIRS.flat(),
    ...LABELS,
    SCORE,
    ...ANCHORS,
    ...POSITIVES,
    ...negativesIn(columns),
    ...named,
  ];
  const mayBeWords = textColumn === undefined && !isLabelled(columns) && WORDS.some((name) => columns.includes(name));
  return mayBeWords ? [...plain, ...WORDS, ...TAG_LISTS] : plain;
}

/** The column of the labels or scores, if one is named or has a known name. */
export function labelIn(columns: readonly string[], { labelColumn }: ColumnOptions): string | undefined {
  return labelColumn ?? [...LABELS, SCORE].find((name) => columns.includes(name));
}

/** Whether a table is of labelled texts, whatever else its rows say, e.g. how many words they have. */
function isLabelled(columns: readonly string[]): boolean {
  return columns.includes('text') && LABELS.some((name) => columns.includes(name));
}

/** Fields that mark a row as one for a language model, even if it also has `question` and `answer`, `tags`, .. */
const LANGUAGE = [['messages'], ['chosen', 'rejected'], ['prompt', 'completion']];

/**
 * Whether JSON lines with these fields are rows of a table: rows of language data have no labels, which may say that a
 * completion is bad, and texts have neither tags nor pairs.
 */
export function isTableHeader(fields: readonly string[]): boolean {
  const has = (name: string): boolean => fields.includes(name);
  if (LABELS.some(has)) return true;
  if (LANGUAGE.some((names) => names.every(has))) return false;
  return [...TAG_LISTS, ...PAIRS.flat()].some(has) || (ANCHORS.some(has) && POSITIVES.some(has));
}

/** @throws ConfigError for a column that two options name. */
export function assertDifferent({ textColumn, pairColumn, labelColumn }: ColumnOptions): void {
  const named = { textColumn, pairColumn, labelColumn };
  const columns = Object.values(named).filter((column) => column !== undefined);
  if (new Set(columns).size === columns.length) return;
  const options = Object.keys(named).join(', ');
  throw new ConfigError(`each of ${options} must be a different column, got ${columns.join(', ')}`);
}

/**
 * Finds the columns that the rows of a table are read from, by their names and the options.
 * @throws DataError for a column that the options name and the table lacks, and when no layout fits.
 */
export function layoutOf(
  table: Table<unknown>,
  options: ColumnOptions & { readonly kind?: TaskKind | undefined },
  path: string,
): Layout {
  const { columns, line } = table;
  assertDistinct(columns, line, path);
  for (const column of [options.textColumn, options.pairColumn, options.labelColumn]) {
    if (column === undefined || columns.includes(column)) continue;
    const hint = didYouMean(column, columns);
    throw errorAt(path, line, `expected a column ${excerpt(column)}${hint}, got ${listed(columns)}`);
  }
  const layout = found(table, options);
  if (layout && options.kind === undefined) assertLabelsUsed(layout, table, path);
  if (layout && (options.kind === undefined || fits(layout, options.kind))) return layout;
  throw errorAt(path, line, `expected ${expectation(options)}, got ${listed(columns)}; ${remedy(columns)}`);
}

/**
 * @throws DataError for labels next to pairs or triplets: without them, wrong answers would be learnt as right; and for
 * scores next to negatives, which scored pairs do not have.
 */
function assertLabelsUsed(
  { form, texts, label: score }: Layout,
  { columns, line }: Table<unknown>,
  path: string,
): void {
  const negatives = form === 'scored-pairs' && score === SCORE ? negativesIn(columns) : [];
  if (negatives.length > 0) {
    const given = `${listed([...texts, ...negatives])} and ${excerpt(SCORE)}`;
    const ways =
      "'triplets' (--kind triplets) to ignore the scores, or 'scored-pairs' (--kind scored-pairs) to ignore the negatives";
    throw errorAt(path, line, `expected kind for the columns ${given}, got none; set kind ${ways}`);
  }
  const label = LABELS.find((name) => columns.includes(name));
  if (label === undefined || (form !== 'pairs' && form !== 'triplets')) return;
  const way = `set labelColumn (--label-column ${label}) to learn the labels, or kind '${form}' (--kind ${form}) to ignore them`;
  const given = `${listed(texts)} and ${excerpt(label)}`;
  throw errorAt(path, line, `expected labelColumn or kind for the columns ${given}, got neither; ${way}`);
}

/** What to do about columns that have no known names. */
function remedy(columns: readonly string[]): string {
  return columns.length === 1 && /[,;\t]/.test(columns[0] as string)
    ? 'cells are separated by tabs in a .tsv file, and by commas, semicolons or tabs in a .csv file'
    : 'rename them, or set textColumn and labelColumn (--text-column, --label-column)';
}

/** The layout that the columns and options determine; undefined if there is none. */
function found(
  table: Table<unknown>,
  { kind, textColumn, pairColumn, labelColumn }: Parameters<typeof layoutOf>[1],
): Layout | undefined {
  const { columns } = table;
  const firstOf = (names: readonly string[]): string | undefined => names.find((name) => columns.includes(name));
  const texts =
    textColumn !== undefined || pairColumn !== undefined
      ? givenTexts(textColumn ?? firstOf(['text']), pairColumn)
      : knownTexts(columns, kind);
  if (!texts) return undefined;
  const label = labelColumn ?? firstOf(LABELS);
  const [first] = texts;
  if (texts.length === 1) {
    if (!isListOf(table, first)) return label === undefined ? undefined : { form: 'labelled', texts, label };
    const tags = labelColumn ?? firstOf([...TAG_LISTS, ...LABELS]);
    return tags === undefined ? undefined : { form: 'token-classification', texts, label: tags };
  }
  const embedded = embeddedLayout(texts, columns);
  if (kind === 'pairs') return { form: 'pairs', texts };
  if (kind === 'triplets') return embedded;
  if (kind === 'scored-pairs') return scored(texts, labelColumn ?? firstOf([SCORE, ...LABELS]));
  if (label !== undefined && (labelColumn !== undefined || !isAnchored(texts)))
    return { form: 'labelled', texts, label };
  return scored(texts, firstOf([SCORE])) ?? embedded;
}

function givenTexts(text: string | undefined, pair: string | undefined): readonly string[] | undefined {
  if (text === undefined) return undefined;
  return pair === undefined ? [text] : [text, pair];
}

/** The text columns with a known name. */
function knownTexts(columns: readonly string[], kind: TaskKind | undefined): readonly string[] | undefined {
  const has = (name: string): boolean => columns.includes(name);
  const words = WORDS.find(has);
  const isTagged = kind === 'token-classification' || (TAG_LISTS.some(has) && !isLabelled(columns)) || !has('text');
  if (words !== undefined && isTagged) return [words];
  if (has('text')) return has(SECOND) ? ['text', SECOND] : ['text'];
  const pair = PAIRS.find((names) => names.every(has));
  if (pair) return pair;
  const [anchor, positive] = [ANCHORS.find(has), POSITIVES.find(has)];
  return anchor === undefined || positive === undefined ? undefined : [anchor, positive];
}

/** Whether two columns have names that mean a pair without a label. */
function isAnchored([first, second]: readonly string[]): boolean {
  return ANCHORS.includes(first ?? '') && POSITIVES.includes(second ?? '');
}

function embeddedLayout(texts: readonly string[], columns: readonly string[]): Layout {
  const negatives = negativesIn(columns).filter((name) => !texts.includes(name));
  return negatives.length > 0 ? { form: 'triplets', texts: [...texts, ...negatives] } : { form: 'pairs', texts };
}

/** The columns of negatives, in the order of their numbers. */
function negativesIn(columns: Iterable<string>): readonly string[] {
  const numberOf = (name: string): number => Number(NEGATIVE.exec(name)?.[1]?.slice(1) ?? 0);
  return [...columns].filter((name) => NEGATIVE.test(name)).sort((a, b) => numberOf(a) - numberOf(b));
}

function scored(texts: readonly string[], label: string | undefined): Layout | undefined {
  return label === undefined ? undefined : { form: 'scored-pairs', texts, label };
}

function isListOf({ records }: Table<unknown>, column: string | undefined): boolean {
  if (column === undefined) return false;
  const values = records.map(({ cells }) => cells.get(column));
  return Array.isArray(values.find((value) => value !== undefined && value !== null));
}

function fits({ form }: Layout, kind: TaskKind): boolean {
  return form === 'labelled' ? ['classification', 'regression', 'multi-label'].includes(kind) : form === kind;
}

const LABELLED = 'the columns "label" and "text" (or "text_a" and "text_b")';
const expectations: Readonly<Record<TaskKind, string>> = {
  classification: LABELLED,
  regression: LABELLED,
  'multi-label': LABELLED,
  'token-classification': 'the lists "tokens" and "ner_tags" (or "tags")',
  pairs: 'the columns "anchor" and "positive"',
  triplets: 'the columns "anchor", "positive" and "negative" (or "negative_1", "negative_2", ..)',
  'scored-pairs': 'the columns "text_a", "text_b" and "score"',
};

/** The columns that were expected. */
function expectation({ kind, textColumn, labelColumn }: Parameters<typeof layoutOf>[1]): string {
  if (kind !== undefined) return expectations[kind];
  if (textColumn !== undefined) return 'a column "label"';
  if (labelColumn !== undefined) return 'a column "text" (or "text_a" and "text_b")';
  return `${LABELLED}, "anchor" and "positive", or the lists "tokens" and "ner_tags"`;
}

/** Columns without a name, as spreadsheets write them behind a table, are never read. */
function assertDistinct(columns: readonly string[], line: number, path: string): void {
  const seen = new Set<string>();
  const repeated = columns.find((name) => name !== '' && seen.size === seen.add(name).size);
  if (repeated !== undefined) throw errorAt(path, line, `expected each column once, got ${excerpt(repeated)} twice`);
}
