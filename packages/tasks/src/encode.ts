import { ConfigError, DataError, integerFrom, parseOptions, type HostTensors, type Rng } from '@peftjs/core/method';
import { aList, anything, assertArgument, objectLike } from '@peftjs/core/model';
import { aDataSet, type DataSet, type RowsByKind, type TaggedRow, type TaskKind } from './data-set.js';

/**
 * Which text of a pair that is too long loses tokens: whichever is longer at each step, only the first, or only the
 * second.
 */
export type Truncation = 'longest_first' | 'only_first' | 'only_second';

/** Options of {@link encodeRows}. */
export interface EncodeOptions {
  /** The most tokens in a row, special tokens included. */
  readonly maxTokens: number;
  /** Which text of a pair is truncated. Default 'longest_first'. */
  readonly truncation?: Truncation | undefined;
}

const entries = { maxTokens: integerFrom(1), truncation: anything } satisfies Record<keyof EncodeOptions, unknown>;

/** Turns a text, or a pair of texts, into token ids, including special tokens. */
export interface Tokenizer {
  /**
   * Returns at most `maxTokens` tokens. If a tokenizer ignores `maxTokens`, its result is cut at the end, including its
   * closing token. If only one text may be truncated and that is not enough, there may be more tokens.
   */
  encode(text: string, pair: string | undefined, options: EncodeOptions): TokenIds;
  /**
   * Returns at most `maxTokens` tokens of a sentence that is already split into words. Only needed for tagged words.
   */
  encodeWords?(words: readonly string[], options: Pick<EncodeOptions, 'maxTokens'>): WordTokens;
  /** The truncations that `encode` supports. Default: only 'longest_first'. */
  readonly truncations?: readonly Truncation[];
}

const aTokenizer = objectLike<Tokenizer>("a tokenizer, e.g. a model's", { encode: 'function' });

/** The tokens of a text. */
export interface TokenIds {
  /** The token ids. */
  readonly ids: readonly number[];
  /** The segment of each token, 0 for the first text and 1 for the second, for models that read it. */
  readonly typeIds?: readonly number[];
  /** Whether the tokenizer left tokens out. */
  readonly truncated?: boolean;
}

/** The tokens of a sentence that is given as words. */
export interface WordTokens extends TokenIds {
  /** The index of each token's word; undefined for special tokens. */
  readonly words: readonly (number | undefined)[];
}

/** A tokenised text. */
export interface EncodedText {
  /** The token ids. */
  readonly ids: Int32Array;
  /** The segment of each token, 0 for the first text and 1 for the second. */
  readonly typeIds?: Int32Array;
}

/** A tokenised text with one label. */
export interface EncodedRow extends EncodedText {
  /** The class number, or the target number. */
  readonly label: number;
}

/** A tokenised text with any number of labels. */
export interface EncodedMultiLabelRow extends EncodedText {
  /** The numbers of its labels. */
  readonly labels: readonly number[];
}

/** A tokenised sentence; the first token of each word has the word's tag. */
export interface EncodedTaggedRow extends EncodedText {
  /** The tag of each token, -100 for tokens without one. */
  readonly labels: Int32Array;
}

/** Tokenised texts that are embedded separately. */
export interface EncodedTextsRow {
  /** The texts: an anchor, its positive and its negatives, or a pair. */
  readonly texts: readonly EncodedText[];
}

/** Two tokenised texts and their similarity. */
export interface EncodedScoredRow extends EncodedTextsRow {
  /** The similarity, from -1 to 1, as a cosine. */
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

/** The sequences that a model reads for a row: one, or one per embedded text. */
export function encodedTexts(row: EncodedText | EncodedTextsRow): readonly EncodedText[] {
  return 'texts' in row ? row.texts : [row];
}

/** The number of tokens in the longest sequence of a row. */
export function rowLength(row: EncodedText | EncodedTextsRow): number {
  return encodedTexts(row).reduce((longest, { ids }) => Math.max(longest, ids.length), 0);
}

/** A tokenised data set. */
export interface EncodedData<K extends TaskKind = TaskKind> extends Pick<DataSet<K>, 'name' | 'kind' | 'classes'> {
  /** The tokenised rows. */
  readonly rows: readonly EncodedRowsByKind[K][];
  /** The most tokens in a text. */
  readonly maxTokens: number;
  /** The number of rows that were truncated. */
  readonly truncated: number;
  /**
   * Makes the inputs of a batch from rows that are not texts, such as images.
   * @param rng draws how they are changed in an epoch of training; without it they are not
   */
  inputs?(rows: readonly EncodedText[], rng?: Rng): HostTensors;
}

/**
 * Tokenises a data set. A longer row is truncated to `maxTokens` tokens; if its texts are embedded separately, each
 * text is.
 * @throws ConfigError for an impossible `maxTokens`, a `truncation` that does not suit the rows or the tokenizer, or a
 * tokenizer without `encodeWords` for tagged rows; DataError for a row without tokens, or with too many in the text
 * that must stay whole.
 */
export function encodeRows<K extends TaskKind>(
  dataSet: DataSet<K>,
  tokenizer: Tokenizer,
  options: EncodeOptions,
): EncodedData<K> {
  assertArgument('dataSet', dataSet, aDataSet);
  assertArgument('tokenizer', tokenizer, aTokenizer);
  parseOptions('encodeRows', entries, options);
  const { maxTokens, truncation = 'longest_first' } = options;
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
 * Tokenises texts, or pairs of texts, to compute outputs for: see `inputBatches`. Longer ones are truncated to
 * `maxTokens` tokens.
 * @throws ConfigError for an impossible `maxTokens`, DataError for a text without tokens.
 */
export function encodeTexts(
  texts: readonly (string | readonly [text: string, pair: string])[],
  tokenizer: Tokenizer,
  options: Pick<EncodeOptions, 'maxTokens'>,
): EncodedText[] {
  assertArgument('texts', texts, aList);
  assertArgument('tokenizer', tokenizer, aTokenizer);
  const { maxTokens } = parseOptions('encodeTexts', { maxTokens: entries.maxTokens }, options);
  const encoder = { dataSet: { name: 'texts' }, tokenizer, limits: { maxTokens } };
  return texts.map((one, index) => {
    const [text, pair] = typeof one === 'string' ? [one] : one;
    return encodedText(text, pair, index, encoder).row;
  });
}

/** Encodes the rows of a data set. */
interface Encoder {
  readonly dataSet: Pick<DataSet, 'name'>;
  readonly tokenizer: Tokenizer;
  readonly limits: EncodeOptions;
}

/** An encoded row, and whether it was truncated. */
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

/** The first token of each word gets its tag, as in transformers' examples; other tokens get none. */
function taggedRow(
  { words, tags }: TaggedRow,
  index: number,
  { dataSet, tokenizer, limits: { maxTokens } }: Encoder,
): Encoded<EncodedTaggedRow> {
  if (!tokenizer.encodeWords) {
    const missing = 'tagged words need a tokenizer that takes words (encodeWords), like that of fromPretrained';
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
    throw new ConfigError(`truncation 'only_second' needs pairs of texts, but ${name} has single texts`, 'truncation');
  }
  if (truncations?.includes(truncation)) return;
  const known = truncations?.join(', ') ?? 'longest_first';
  throw new ConfigError(
    `expected a truncation that the tokenizer supports, ${known}, got '${truncation}'`,
    'truncation',
  );
}

function tooLong({ name }: Pick<DataSet, 'name'>, index: number, { maxTokens, truncation }: EncodeOptions): DataError {
  const rest = `truncation '${truncation}' leaves more of row ${index + 1}; allow more or truncate 'longest_first'`;
  return new DataError(`${name}: expected at most ${maxTokens} tokens, but ${rest}`, name);
}

function withoutTokens({ name }: Pick<DataSet, 'name'>, index: number, text: string): DataError {
  const shown = JSON.stringify(text.slice(0, 60));
  return new DataError(`${name}: expected row ${index + 1} to have tokens, got none from ${shown}; remove it`, name);
}

/** The percentage of rows that a length chosen from data does not truncate. */
const PERCENT = 99;
/** The chosen length is a multiple of this number, which batches are padded to: a length in between saves nothing. */
const MULTIPLE = 8;

/**
 * Chooses a maximum length from the lengths of rows: their 99th percentile (nearest rank), rounded up to a multiple of
 * 8. With fewer than a hundred rows, all rows fit.
 * @param counts the number of tokens of each row
 * @param most the upper limit; also the result for no rows
 */
export function chooseMaxTokens(counts: readonly number[], most: number): number {
  const ascending = Float64Array.from(counts).sort();
  const percentile = ascending[Math.ceil((PERCENT * ascending.length) / 100) - 1] ?? most;
  return Math.min(most, Math.ceil(percentile / MULTIPLE) * MULTIPLE);
}
