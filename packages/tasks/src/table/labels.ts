import { DataError } from '@peftjs/core';
import type { Row, TaskKind } from '../data-set.js';
import { errorAt, excerpt, type RawRow } from './table.js';

/** How the label texts of a file become numbers. */
export interface LabelScheme {
  readonly kind: TaskKind;
  readonly classes: readonly string[];
}

/**
 * The scheme of a training file: regression where every label is a number and one has decimals, or where the caller says so;
 * else the distinct labels, as numbers if all are, else by code point.
 * @throws DataError when all rows have one label.
 */
export function labelScheme(rows: readonly RawRow[], path: string, kind?: TaskKind): LabelScheme {
  const labels = [...new Set(rows.map(({ label }) => className(label)))];
  const [only = ''] = labels;
  if (labels.length < 2) {
    throw new DataError(`${path}: expected at least two different labels, got only ${excerpt(only)}`, path);
  }
  const numeric = labels.every(isNumeric);
  const decimals = numeric && labels.some((label) => !Number.isInteger(Number(label)));
  if (kind === 'regression' || (kind === undefined && decimals)) return { kind: 'regression', classes: [] };
  const order = numeric ? (a: string, b: string) => Number(a) - Number(b) || byCodePoint(a, b) : byCodePoint;
  return { kind: 'classification', classes: labels.sort(order) };
}

/**
 * The rows with their labels as numbers.
 * @throws DataError for a label that is no number, or none of the classes.
 */
export function labelledRows(rows: readonly RawRow[], { kind, classes }: LabelScheme, path: string): Row[] {
  const numbers = new Map(classes.map((name, index) => [name, index]));
  return rows.map(({ line, text, pair, label: came }) => {
    const label = kind === 'regression' ? numberOf(came) : numbers.get(className(came));
    if (label === undefined) {
      const expected = kind === 'regression' ? 'a number' : `one of the training classes ${listed(classes)}`;
      throw errorAt(path, line, `expected the label to be ${expected}, got ${excerpt(came)}`);
    }
    return pair === undefined ? { text, label } : { text, pair, label };
  });
}

/** Texts in the order of their Unicode code points, whatever the locale. */
function byCodePoint(a: string, b: string): number {
  const [left, right] = [Array.from(a), Array.from(b)];
  const at = left.findIndex((character, index) => character !== right[index]);
  if (at === -1) return left.length - right.length;
  return (left[at]?.codePointAt(0) ?? 0) - (right[at]?.codePointAt(0) ?? -1);
}

/** One name for `1`, `1.0` and `+1`, which tools write alike. */
function className(label: string): string {
  const number = numberOf(label);
  return Number.isSafeInteger(number) ? String((number as number) + 0) : label;
}

/** The number that a text says; undefined where it says none. */
export function numberOf(label: string): number | undefined {
  return isNumeric(label) ? Number(label) : undefined;
}

function isNumeric(label: string): boolean {
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(label) && Number.isFinite(Number(label));
}

function listed(classes: readonly string[]): string {
  const shown = classes.slice(0, 10).map(excerpt).join(', ');
  return classes.length > 10 ? `${shown}, … (${classes.length})` : shown;
}
