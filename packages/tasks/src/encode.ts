import { ConfigError, DataError } from '@peftjs/core/method';
import type { DataSet, Row, TaskKind } from './data-set.js';

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

/** A row in tokens. */
export interface EncodedRow {
  readonly ids: Int32Array;
  readonly typeIds?: Int32Array;
  readonly label: number;
}

/** A data set in tokens. */
export interface EncodedData {
  readonly name: string;
  readonly kind: TaskKind;
  readonly rows: readonly EncodedRow[];
  /** No row is longer. */
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
 * Tokenises a data set; a longer row is cut to `maxTokens` tokens.
 * @throws ConfigError for an impossible `maxTokens` or a `truncation` that the rows or the tokenizer do not have; DataError for a
 * row without any token, or with too many in the text that must stay whole.
 */
export function encodeRows(dataSet: DataSet, tokenizer: Tokenizer, options: EncodeOptions): EncodedData {
  const { maxTokens, truncation = 'longest_first' } = options;
  checkPositive('maxTokens', maxTokens);
  checkTruncation(truncation, dataSet, tokenizer);
  const limits = truncation === 'longest_first' ? { maxTokens } : { maxTokens, truncation };
  let truncated = 0;
  const rows = dataSet.rows.map((row, index) => {
    const tokens = tokenizer.encode(row.text, row.pair, limits);
    if (tokens.ids.length === 0) throw withoutTokens(dataSet, index, row);
    if (tokens.ids.length > maxTokens && truncation !== 'longest_first') throw tooLong(dataSet, index, limits);
    if (tokens.truncated || tokens.ids.length > maxTokens) truncated++;
    return encodedRow(tokens, maxTokens, row.label);
  });
  return { name: dataSet.name, kind: dataSet.kind, rows, maxTokens, truncated };
}

function encodedRow({ ids, typeIds }: TokenIds, maxTokens: number, label: number): EncodedRow {
  const row = { ids: new Int32Array(ids).subarray(0, maxTokens), label };
  return typeIds === undefined ? row : { ...row, typeIds: new Int32Array(typeIds).subarray(0, maxTokens) };
}

function checkTruncation(truncation: Truncation, { name, rows }: DataSet, { truncations }: Tokenizer): void {
  if (truncation === 'longest_first') return;
  if (truncation === 'only_second' && rows.some(({ pair }) => pair === undefined)) {
    throw new ConfigError(`truncation 'only_second' needs pairs of texts, and ${name} has single ones`, 'truncation');
  }
  if (truncations?.includes(truncation)) return;
  const known = truncations?.join(', ') ?? 'longest_first';
  throw new ConfigError(`expected a truncation that the tokenizer knows, ${known}, got '${truncation}'`, 'truncation');
}

function tooLong({ name }: DataSet, index: number, { maxTokens, truncation }: EncodeOptions): DataError {
  const rest = `truncation '${truncation}' leaves more of row ${index + 1}; allow more or truncate 'longest_first'`;
  return new DataError(`${name}: expected at most ${maxTokens} tokens, but ${rest}`, name);
}

function withoutTokens({ name }: DataSet, index: number, { text }: Row): DataError {
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
