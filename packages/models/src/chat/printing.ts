/** How Python prints values: `str`, `repr` and `json.dumps`. Shared parts of nested values count as often as they occur. */
import { Fault, type Budget } from './budget.js';
import type { List, Mapping, Value } from './jinja.js';
import { compareTexts, floatText, quoted } from './text.js';
import { isList, isMapping, typeName, type Runtime } from './values.js';

/** How values are printed: each scalar, what is around the items of another value, and what is between them. */
interface Style {
  readonly scalar: (value: Scalar) => string;
  /** Returns the brackets of a value with items; undefined for a scalar. */
  readonly brackets: (value: Value) => readonly [open: string, close: string] | undefined;
  readonly separators: readonly [item: string, key: string];
  /** What each level is indented by. Default: one line. */
  readonly indent?: string | undefined;
  readonly sortKeys?: boolean;
}

type Scalar = Exclude<Value, List | Mapping>;

/** Prints a value piece by piece, each charged before it is written. */
function printed({ budget, make }: Runtime, root: Value, style: Style): string {
  const { scalar, brackets, separators, indent } = style;
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
      write(scalar(value as Scalar));
      return;
    }
    write(around[0]);
    let isFirst = true;
    for (const [key, item] of entriesOf(value, style.sortKeys ? budget : undefined)) {
      if (!isFirst) write(separators[0]);
      isFirst = false;
      line(level + 1);
      if (typeof key === 'string') write(scalar(make.text(key) as Scalar) + separators[1]);
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
  if (isList(value)) return value.value.entries();
  const { value: entries } = value as Mapping;
  if (!sorts) return entries;
  return Array.from(entries).sort(([a], [b]) => (sorts.codePoints(a.length + 32), compareTexts(a, b)));
}

/** Python's `str`: texts as they are, other values as in a program. */
export function textOf(runtime: Runtime, value: Value): string {
  if (value.type === 'StringValue') {
    runtime.budget.characters(value.value.length);
    return value.value;
  }
  if (value.type === 'UndefinedValue') return '';
  return printed(runtime, value, {
    scalar: (one) => simple(runtime, one),
    brackets(one) {
      if (one.type === 'ArrayValue') return ['[', ']'];
      if (isList(one)) return ['(', one.value.length === 1 ? ',)' : ')'];
      if (isMapping(one)) return ['{', '}'];
      return one.type === 'NamespaceValue' ? ['<Namespace {', '}>'] : undefined;
    },
    separators: [', ', ': '],
  });
}

/** Python's `repr` of a value without items. */
function simple({ budget }: Runtime, value: Scalar): string {
  switch (value.type) {
    case 'StringValue':
      budget.codePoints(value.value.length);
      return quoted(value.value);
    case 'IntegerValue':
      return String(value.value);
    case 'FloatValue':
      return floatText(value.value);
    case 'BooleanValue':
      return value.value ? 'True' : 'False';
    case 'NullValue':
      return 'None';
    case 'UndefinedValue':
      return 'Undefined';
    default:
      throw new Fault(`a ${typeName(value)} cannot be printed`);
  }
}

/** The settings of `json.dumps` that transformers' `tojson` takes. */
export interface JsonOptions extends Pick<Style, 'indent' | 'separators' | 'sortKeys'> {
  readonly ensureAscii: boolean;
}

/** Python's `json.dumps`. @throws Fault for a value that JSON does not have. */
export function jsonOf(runtime: Runtime, value: Value, { ensureAscii, ...style }: JsonOptions): string {
  return printed(runtime, value, {
    ...style,
    scalar: (one) => jsonScalar(runtime, one, ensureAscii),
    brackets: (one) => (isList(one) ? ['[', ']'] : isMapping(one) ? ['{', '}'] : undefined),
  });
}

function jsonScalar({ budget }: Runtime, value: Scalar, ensureAscii: boolean): string {
  switch (value.type) {
    case 'StringValue':
      budget.codePoints(value.value.length);
      return ensureAscii ? JSON.stringify(value.value).replace(/[\x7f-\uffff]/g, escaped) : JSON.stringify(value.value);
    case 'IntegerValue':
    case 'BooleanValue':
      return String(value.value);
    case 'FloatValue':
      return Number.isFinite(value.value) ? floatText(value.value) : (JSON_NUMBERS[floatText(value.value)] ?? '');
    case 'NullValue':
      return 'null';
    default:
      throw new Fault(`Object of type ${typeName(value)} is not JSON serializable`);
  }
}

const JSON_NUMBERS: Readonly<Record<string, string>> = { nan: 'NaN', inf: 'Infinity', '-inf': '-Infinity' };

function escaped(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
