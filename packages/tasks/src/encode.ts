import { ConfigError, DataError } from '@peftjs/core/method';
import type { DataSet, RowsByKind, TaggedRow, TaskKind } from './data-set.js';

/** Which text of a pair that is too long loses tokens: the longer one, one after the other; always the first; always the second. */
export type Truncation = 'longest_first' | 'only_first' | 'only_second';

/** How many tokens a row may have, and how it gets there. */
export interface EncodeOptions {
  readonly maxTokens: number;
  /** Default 'longest_first'. */
  readonly truncation?: Truncation | undefined;
}

/** Turns a text, or a pair of texts, into token numbers, special tokens included. */
export interface Tokenizer {
  /**
   * At most `maxTokens` of them. A tokenizer that does not look at it is cut at the end, its closing token with it. Where only one
   * text may be cut and that is not enough, there may be more.
   */
  encode(text: string, pair: string | undefined, options: EncodeOptions): TokenIds;
  /** The tokens of a sentence that is cut into words already, at most `maxTokens` of them. Needed for tagged words alone. */
  encodeWords?(words: readonly string[], options: Pick<EncodeOptions, 'maxTokens'>): WordTokens;
  /** The truncations that `encode` knows. Default: 'longest_first' alone. */
  readonly truncations?: readonly Truncation[];
}

/** The tokens of a text. */
export interface TokenIds {
  readonly ids: readonly number[];
  /** Which of the two texts each token belongs to, for the models that ask. */
  readonly typeIds?: readonly number[];
  /** Whether the tokenizer left tokens out. */
  readonly truncated?: boolean;
}

/** The tokens of a sentence in words. */
export interface WordTokens extends TokenIds {
  /** The number of the word that each token is of; undefined for special tokens. */
  readonly words: readonly (number | undefined)[];
}

/** A text in tokens. */
export interface EncodedText {
  readonly ids: Int32Array;
  readonly typeIds?: Int32Array;
}

/** A text with its label in tokens. */
export interface EncodedRow extends EncodedText {
  readonly label: number;
}

/** A text with any number of labels in tokens. */
export interface EncodedMultiLabelRow extends EncodedText {
  /** Numbers of the labels that hold. */
  readonly labels: readonly number[];
}

/** A sentence in tokens, of which the first one of each word carries the word's tag. */
export interface EncodedTaggedRow extends EncodedText {
  /** The tag of each token, -100 where there is none. */
  readonly labels: Int32Array;
}

/** Texts that are embedded each by itself, in tokens. */
export interface EncodedTextsRow {
  readonly texts: readonly EncodedText[];
}

/** Two texts in tokens and how similar they are. */
export interface EncodedScoredRow extends EncodedTextsRow {
  readonly score: number;
}

/** The encoded rows of each kind of task. */
export interface EncodedRowsByKind {
  readonly classification: EncodedRow;
  readonly regression: EncodedRow;
  readonly 'multi-label': EncodedMultiLabelRow;
  readonly 'token-classification': EncodedTaggedRow;
  readonly pairs: EncodedTextsRow;
  readonly triplets: EncodedTextsRow;
  readonly 'scored-pairs': EncodedScoredRow;
}

/** What a model reads of a row: one sequence, or one for each text that is embedded. */
export function encodedTexts(row: EncodedText | EncodedTextsRow): readonly EncodedText[] {
  return 'texts' in row ? row.texts : [row];
}

/** Tokens of the longest sequence of a row. */
export function rowLength(row: EncodedText | EncodedTextsRow): number {
  return encodedTexts(row).reduce((longest, { ids }) => Math.max(longest, ids.length), 0);
}

/** A data set in tokens. */
export interface EncodedData<K extends TaskKind = TaskKind> {
  readonly name: string;
  readonly kind: K;
  /** Names of classes, labels or tags by their number. */
  readonly classes: readonly string[];
  readonly rows: readonly EncodedRowsByKind[K][];
  /** No text of a row is longer. */
  readonly maxTokens: number;
  /** Rows that were longer and lost tokens. */
  readonly truncated: number;
}

/** @throws ConfigError unless `value` is a positive integer. */
export function checkPositive(name: string, value: number): void {
  if (Number.isInteger(value) && value >= 1) return;
  throw new ConfigError(`expected ${name} to be a positive integer, got ${value}`, name);
}

/**
 * Tokenises a data set; a longer row is cut to `maxTokens` tokens, of rows of several texts each text.
 * @throws ConfigError for an impossible `maxTokens`, a `truncation` that the rows or the tokenizer do not have, or a tokenizer that takes no
 * words where rows have them; DataError for a row without any token, or with too many in the text that must stay whole.
 */
export function encodeRows<K extends TaskKind>(
  dataSet: DataSet<K>,
  tokenizer: Tokenizer,
  options: EncodeOptions,
): EncodedData<K> {
  const { maxTokens, truncation = 'longest_first' } = options;
  checkPositive('maxTokens', maxTokens);
  checkTruncation(truncation, dataSet, tokenizer);
  const limits = truncation === 'longest_first' ? { maxTokens } : { maxTokens, truncation };
  const encoder = { dataSet, tokenizer, limits };
  let truncated = 0;
  const rows = dataSet.rows.map((row, index) => {
    const encoded = encodedRow(row, index, encoder);
    if (encoded.truncated) truncated++;
    return encoded.row as EncodedRowsByKind[K];
  });
  const { name, kind, classes } = dataSet;
  return { name, kind, classes, rows, maxTokens, truncated };
}

/**
 * Tokenises texts, or pairs of texts, to compute outputs of: see `inputBatches`. A longer one is cut to `maxTokens` tokens.
 * @throws ConfigError for an impossible `maxTokens`, DataError for a text without any token.
 */
export function encodeTexts(
  texts: readonly (string | readonly [text: string, pair: string])[],
  tokenizer: Tokenizer,
  { maxTokens }: Pick<EncodeOptions, 'maxTokens'>,
): EncodedText[] {
  checkPositive('maxTokens', maxTokens);
  const encoder = { dataSet: { name: 'texts' }, tokenizer, limits: { maxTokens } };
  return texts.map((one, index) => {
    const [text, pair] = typeof one === 'string' ? [one] : one;
    return encodedText(text, pair, index, encoder).row;
  });
}

/** What encodes the rows of a data set. */
interface Encoder {
  readonly dataSet: Pick<DataSet, 'name'>;
  readonly tokenizer: Tokenizer;
  readonly limits: EncodeOptions;
}

/** A row in tokens, and whether it lost some. */
interface Encoded<T> {
  readonly row: T;
  readonly truncated: boolean;
}

function encodedRow(row: RowsByKind[TaskKind], index: number, encoder: Encoder): Encoded<EncodedRowsByKind[TaskKind]> {
  if ('words' in row) return taggedRow(row, index, encoder);
  if ('texts' in row) {
    const encoded = row.texts.map((text) => encodedText(text, undefined, index, encoder));
    const texts = encoded.map((text) => text.row);
    const truncated = encoded.some((text) => text.truncated);
    return { row: 'score' in row ? { texts, score: row.score } : { texts }, truncated };
  }
  const { row: text, truncated } = encodedText(row.text, row.pair, index, encoder);
  return { row: { ...text, ...('label' in row ? { label: row.label } : { labels: row.labels }) }, truncated };
}

function encodedText(
  text: string,
  pair: string | undefined,
  index: number,
  { dataSet, tokenizer, limits }: Encoder,
): Encoded<EncodedText> {
  const { maxTokens, truncation } = limits;
  const tokens = tokenizer.encode(text, pair, limits);
  if (tokens.ids.length === 0) throw withoutTokens(dataSet, index, text);
  if (tokens.ids.length > maxTokens && truncation !== undefined) throw tooLong(dataSet, index, limits);
  return { row: cut(tokens, maxTokens), truncated: tokens.truncated === true || tokens.ids.length > maxTokens };
}

/** Every first token of a word has its tag, as in transformers' examples; the others have none. */
function taggedRow(
  { words, tags }: TaggedRow,
  index: number,
  { dataSet, tokenizer, limits: { maxTokens } }: Encoder,
): Encoded<EncodedTaggedRow> {
  if (!tokenizer.encodeWords) {
    const missing = 'tagged words need a tokenizer that takes words (encodeWords), as that of fromPretrained does';
    throw new ConfigError(`${dataSet.name}: ${missing}`, 'tokenizer');
  }
  const tokens = tokenizer.encodeWords(words, { maxTokens });
  if (tokens.ids.length === 0) throw withoutTokens(dataSet, index, words.join(' '));
  const wordOf = tokens.words.slice(0, maxTokens);
  const labels = wordOf.map((word, token) =>
    word === undefined || word === wordOf[token - 1] ? IGNORED : (tags[word] ?? IGNORED),
  );
  const truncated = tokens.truncated === true || tokens.ids.length > maxTokens;
  return { row: { ...cut(tokens, maxTokens), labels: Int32Array.from(labels) }, truncated };
}

/** The label of a token that is read but not learnt. */
export const IGNORED = -100;

function cut({ ids, typeIds }: TokenIds, maxTokens: number): EncodedText {
  const text = { ids: new Int32Array(ids).subarray(0, maxTokens) };
  return typeIds === undefined ? text : { ...text, typeIds: new Int32Array(typeIds).subarray(0, maxTokens) };
}

function checkTruncation(truncation: Truncation, { name, rows }: DataSet<TaskKind>, { truncations }: Tokenizer): void {
  if (truncation === 'longest_first') return;
  if (truncation === 'only_second' && rows.some((row) => !('text' in row) || row.pair === undefined)) {
    throw new ConfigError(`truncation 'only_second' needs pairs of texts, and ${name} has single ones`, 'truncation');
  }
  if (truncations?.includes(truncation)) return;
  const known = truncations?.join(', ') ?? 'longest_first';
  throw new ConfigError(`expected a truncation that the tokenizer knows, ${known}, got '${truncation}'`, 'truncation');
}

function tooLong({ name }: Pick<DataSet, 'name'>, index: number, { maxTokens, truncation }: EncodeOptions): DataError {
  const rest = `truncation '${truncation}' leaves more of row ${index + 1}; allow more or truncate 'longest_first'`;
  return new DataError(`${name}: expected at most ${maxTokens} tokens, but ${rest}`, name);
}

function withoutTokens({ name }: Pick<DataSet, 'name'>, index: number, text: string): DataError {
  const shown = JSON.stringify(text.slice(0, 60));
  return new DataError(`${name}: expected row ${index + 1} to have tokens, got none from ${shown}; remove it`, name);
}

/** Rows, in percent, that a length chosen from data holds whole. */
const PERCENT = 99;
/** Batches are padded to multiples of it, so that a length in between saves nothing. */
const MULTIPLE = 8;

/**
 * A maximum length for rows of so many tokens each: their 99th percentile (nearest rank), rounded up to a multiple of 8. Fewer than
 * a hundred rows therefore all fit.
 * @param most never exceeded; also what is given for no rows
 */
export function fittingTokens(counts: readonly number[], most: number): number {
  const ascending = Float64Array.from(counts).sort();
  const percentile = ascending[Math.ceil((PERCENT * ascending.length) / 100) - 1] ?? most;
  return Math.min(most, Math.ceil(percentile / MULTIPLE) * MULTIPLE);
}
