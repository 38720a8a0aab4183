/** How Python prints values: `str`, `repr` and `json.dumps`. Shared parts of nested values count as often as they occur. */
import { Fault } from './budget.js';
import type { List, Mapping, Value } from './jinja.js';
import { compareTexts, floatText, quoted } from './text.js';
import { isList, isMapping, typeName, type Runtime } from './values.js';

/** Writes text in pieces, each charged before it is written. */
function writer({ budget }: Runtime): { write(piece: string): void; text(): string } {
  const pieces: string[] = [];
  let length = 0;
  return {
    write(piece) {
      length += piece.length;
      budget.characters(piece.length);
      budget.length(length);
      pieces.push(piece);
    },
    text: () => pieces.join(''),
  };
}

/** Python's `str`: texts as they are, other values as in a program. */
export function textOf(runtime: Runtime, value: Value): string {
  if (value.type === 'StringValue') {
    runtime.budget.characters(value.value.length);
    return value.value;
  }
  if (value.type === 'UndefinedValue') return '';
  const { write, text } = writer(runtime);
  writeValue(runtime, value, write);
  return text();
}

/** Writes Python's `repr` of a value. */
function writeValue(runtime: Runtime, value: Value, write: (piece: string) => void): void {
  runtime.budget.items(1);
  if (isList(value)) {
    const [open, close] = value.type === 'ArrayValue' ? '[]' : ['(', value.value.length === 1 ? ',)' : ')'];
    write(open as string);
    value.value.forEach((item, index) => {
      if (index > 0) write(', ');
      writeValue(runtime, item, write);
    });
    write(close as string);
  } else if (isMapping(value) || value.type === 'NamespaceValue') {
    write(isMapping(value) ? '{' : '<Namespace {');
    let separator = '';
    for (const [key, item] of value.value) {
      runtime.budget.codePoints(key.length);
      write(`${separator}${quoted(key)}: `);
      writeValue(runtime, item, write);
      separator = ', ';
    }
    write(isMapping(value) ? '}' : '}>');
  } else write(simple(runtime, value));
}

function simple({ budget }: Runtime, value: Exclude<Value, List | Mapping>): string {
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
export interface JsonOptions {
  readonly ensureAscii: boolean;
  /** What each level is indented by; undefined for one line. */
  readonly indent?: string | undefined;
  readonly separators: readonly [item: string, key: string];
  readonly sortKeys: boolean;
}

/** Python's `json.dumps`. @throws Fault for a value that JSON does not have. */
export function jsonOf(runtime: Runtime, value: Value, options: JsonOptions): string {
  const { write, text } = writer(runtime);
  writeJson({ runtime, options, write }, value, 0);
  return text();
}

interface JsonWriter {
  readonly runtime: Runtime;
  readonly options: JsonOptions;
  readonly write: (piece: string) => void;
}

function writeJson(to: JsonWriter, value: Value, depth: number): void {
  const { runtime, options, write } = to;
  runtime.budget.items(1);
  if (isList(value)) {
    writeItems(to, { brackets: '[]', depth, items: value.value }, (item) => {
      writeJson(to, item, depth + 1);
    });
  } else if (isMapping(value)) {
    const items = Array.from(value.value);
    if (options.sortKeys) items.sort(([a], [b]) => (runtime.budget.codePoints(a.length + 32), compareTexts(a, b)));
    writeItems(to, { brackets: '{}', depth, items }, ([key, item]) => {
      write(jsonString(to, key) + options.separators[1]);
      writeJson(to, item, depth + 1);
    });
  } else write(jsonScalar(to, value));
}

function writeItems<T>(
  { runtime, options: { indent, separators }, write }: JsonWriter,
  { brackets, depth, items }: { readonly brackets: string; readonly depth: number; readonly items: readonly T[] },
  writeItem: (item: T) => void,
): void {
  const line = (level: number): void => {
    if (indent === undefined) return;
    runtime.budget.characters(indent.length * level);
    write(`\n${indent.repeat(level)}`);
  };
  write(brackets[0] as string);
  items.forEach((item, index) => {
    if (index > 0) write(separators[0]);
    line(depth + 1);
    writeItem(item);
  });
  if (items.length > 0) line(depth);
  write(brackets[1] as string);
}

function jsonScalar(to: JsonWriter, value: Exclude<Value, List | Mapping>): string {
  switch (value.type) {
    case 'StringValue':
      return jsonString(to, value.value);
    case 'IntegerValue':
      return String(value.value);
    case 'FloatValue':
      return Number.isFinite(value.value) ? floatText(value.value) : (JSON_NUMBERS[floatText(value.value)] ?? '');
    case 'BooleanValue':
      return String(value.value);
    case 'NullValue':
      return 'null';
    default:
      throw new Fault(`Object of type ${typeName(value)} is not JSON serializable`);
  }
}

const JSON_NUMBERS: Readonly<Record<string, string>> = { nan: 'NaN', inf: 'Infinity', '-inf': '-Infinity' };

function jsonString({ runtime, options: { ensureAscii } }: JsonWriter, text: string): string {
  runtime.budget.codePoints(text.length);
  const json = JSON.stringify(text);
  if (!ensureAscii) return json;
  return json.replace(/[\x7f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
