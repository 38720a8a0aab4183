/** How Python prints values: `str`, `repr` and `json.dumps`. Shared parts of nested values count at each occurrence. */
import { Fault, type Budget } from './budget.js';
import { compareTexts, floatText, quoted } from './text.js';
import { Float, isMapping, listOf, Missing, Namespace, textIn, Tuple, typeName, type Value } from './values.js';

/** How values are printed: each scalar, what is around the items of another value, and what is between them. */
interface Style {
  readonly scalar: (value: Value) => string;
  /** Returns the brackets of a value with items; undefined for a scalar. */
  readonly brackets: (value: Value) => readonly [open: string, close: string] | undefined;
  readonly separators: readonly [item: string, key: string];
  /** What each level is indented by. Default: one line. */
  readonly indent?: string | undefined;
  readonly sortKeys?: boolean;
}

/** Prints a value piece by piece, each charged before it is written. */
function printed(budget: Budget, root: Value, { scalar, brackets, separators, indent, sortKeys }: Style): string {
  const pieces: string[] = [];
  let length = 0;
  const write = (piece: string): void => {
    length += piece.length;
    budget.characters(piece.length);
    budget.length(length);
    pieces.push(piece);
  };
  const line = (level: number): void => {
    if (indent === undefined) return;
    budget.characters(indent.length * level);
    write(`\n${indent.repeat(level)}`);
  };
  const visit = (value: Value, level: number): void => {
    budget.items(1);
    const around = brackets(value);
    if (!around) {
      write(scalar(value));
      return;
    }
    write(around[0]);
    let isFirst = true;
    for (const [key, item] of entriesOf(value, sortKeys ? budget : undefined)) {
      if (!isFirst) write(separators[0]);
      isFirst = false;
      line(level + 1);
      if (typeof key === 'string') write(scalar(key) + separators[1]);
      visit(item, level + 1);
    }
    if (!isFirst) line(level);
    write(around[1]);
  };
  visit(root, 0);
  return pieces.join('');
}

/** The items of a value with their positions or keys, which are sorted with a budget. */
function entriesOf(value: Value, sorts: Budget | undefined): Iterable<readonly [number | string, Value]> {
  const entries = isMapping(value) ? value : value instanceof Namespace ? value.fields : undefined;
  if (!entries) return (listOf(value) ?? []).entries();
  if (!sorts) return entries;
  return Array.from(entries).sort(([a], [b]) => (sorts.codePoints(a.length + 32), compareTexts(a, b)));
}

/** Python's `str`: texts as they are, other values as in a program. */
export function textOf(budget: Budget, value: Value): string {
  const text = textIn(value);
  if (text !== undefined) {
    budget.characters(text.length);
    return text;
  }
  if (value instanceof Missing) return '';
  return printed(budget, value, {
    scalar: (one) => simple(budget, one),
    brackets(one) {
      if (one instanceof Tuple) return ['(', one.items.length === 1 ? ',)' : ')'];
      if (listOf(one)) return ['[', ']'];
      if (isMapping(one)) return ['{', '}'];
      return one instanceof Namespace ? ['<Namespace {', '}>'] : undefined;
    },
    separators: [', ', ': '],
  });
}

/** Python's `repr` of a value without items. */
function simple(budget: Budget, value: Value): string {
  const text = textIn(value);
  if (text !== undefined) {
    budget.codePoints(text.length);
    return quoted(text);
  }
  if (value instanceof Float) return floatText(value.value);
  if (typeof value === 'number') return String(value);
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (value === null) return 'None';
  if (value instanceof Missing) return 'Undefined';
  throw new Fault(`a ${typeName(value)} cannot be printed`);
}

/** The settings of `json.dumps` that transformers' `tojson` takes. */
export interface JsonOptions extends Pick<Style, 'indent' | 'separators' | 'sortKeys'> {
  readonly ensureAscii: boolean;
}

/** Python's `json.dumps`. @throws Fault for a value that JSON does not have. */
export function jsonOf(budget: Budget, value: Value, { ensureAscii, ...style }: JsonOptions): string {
  return printed(budget, value, {
    ...style,
    scalar: (one) => jsonScalar(budget, one, ensureAscii),
    brackets: (one) => (listOf(one) ? ['[', ']'] : isMapping(one) ? ['{', '}'] : undefined),
  });
}

function jsonScalar(budget: Budget, value: Value, ensureAscii: boolean): string {
  const text = textIn(value);
  if (text !== undefined) {
    budget.codePoints(text.length);
    return ensureAscii ? JSON.stringify(text).replace(/[\x7f-\uffff]/g, escaped) : JSON.stringify(text);
  }
  if (value instanceof Float) {
    const printed = floatText(value.value);
    return JSON_NUMBERS[printed] ?? printed;
  }
  if (value === null || typeof value === 'number' || typeof value === 'boolean') return String(value);
  throw new Fault(`Object of type ${typeName(value)} is not JSON serializable`);
}

const JSON_NUMBERS: Readonly<Record<string, string>> = { nan: 'NaN', inf: 'Infinity', '-inf': '-Infinity' };

function escaped(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
