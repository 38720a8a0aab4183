import { ConfigError, DataError } from '@peftjs/core';
import type { DataSet, Row, TaskKind } from './data-set.js';

/** Turns a text, or a pair of texts, into token numbers, special tokens included. */
export interface Tokenizer {
  encode(text: string, pair?: string): TokenIds;
}

/** The tokens of a text. */
export interface TokenIds {
  readonly ids: readonly number[];
  /** Which of the two texts each token belongs to, for the models that ask. */
  readonly typeIds?: readonly number[];
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
  /** Rows that were longer and lost their end. */
  readonly truncated: number;
}

/**
 * Tokenises a data set; of a longer row the first `maxTokens` tokens stay.
 * @throws ConfigError for an impossible `maxTokens`, DataError for a row without any token.
 */
export function encodeRows(
  dataSet: DataSet,
  tokenizer: Tokenizer,
  { maxTokens }: { readonly maxTokens: number },
): EncodedData {
  if (!Number.isInteger(maxTokens) || maxTokens < 1) {
    throw new ConfigError(`expected maxTokens to be a positive integer, got ${maxTokens}`, 'maxTokens');
  }
  let truncated = 0;
  const rows = dataSet.rows.map((row, index) => {
    const tokens = row.pair === undefined ? tokenizer.encode(row.text) : tokenizer.encode(row.text, row.pair);
    if (tokens.ids.length === 0) throw withoutTokens(dataSet, index, row);
    if (tokens.ids.length > maxTokens) truncated++;
    return encodedRow(tokens, maxTokens, row.label);
  });
  return { name: dataSet.name, kind: dataSet.kind, rows, maxTokens, truncated };
}

function encodedRow({ ids, typeIds }: TokenIds, maxTokens: number, label: number): EncodedRow {
  const row = { ids: Int32Array.from(ids.slice(0, maxTokens)), label };
  return typeIds === undefined ? row : { ...row, typeIds: Int32Array.from(typeIds.slice(0, maxTokens)) };
}

function withoutTokens({ name }: DataSet, index: number, { text }: Row): DataError {
  const shown = JSON.stringify(text.slice(0, 60));
  return new DataError(`${name}: expected row ${index + 1} to have tokens, got none from ${shown}; remove it`, name);
}
