/** How Python sees the values of a template: their truth, equality, order, length and items. */
import { Fault, type Budget } from './budget.js';
import type { List, Makers, Mapping, Value } from './jinja.js';
import { compareTexts, lengthOf } from './text.js';

/** What every operation on values needs. */
export interface Runtime {
  readonly make: Makers;
  readonly budget: Budget;
  /** The texts that the filter `safe` has marked as HTML. */
  readonly safe: WeakSet<Value>;
}

const NAMES: Readonly<Record<Value['type'], string>> = {
  StringValue: 'str',
  IntegerValue: 'int',
  FloatValue: 'float',
  BooleanValue: 'bool',
  NullValue: 'NoneType',
  UndefinedValue: 'Undefined',
  ArrayValue: 'list',
  TupleValue: 'tuple',
  ObjectValue: 'dict',
  KeywordArgumentsValue: 'dict',
  NamespaceValue: 'Namespace',
  FunctionValue: 'function',
};

/** The name of a value's type in Python. */
export const typeName = ({ type }: Value): string => NAMES[type];

/** Whether a value is a list or a tuple. */
export const isList = (value: Value): value is List => value.type === 'ArrayValue' || value.type === 'TupleValue';

/** Whether a value is a dictionary. */
export const isMapping = (value: Value): value is Mapping =>
  value.type === 'ObjectValue' || value.type === 'KeywordArgumentsValue';

/** A value as a number; a truth value is 0 or 1. Undefined for other values. */
export function numberOf({ type, value }: Value): number | undefined {
  return type === 'IntegerValue' || type === 'FloatValue' || type === 'BooleanValue' ? Number(value) : undefined;
}

/** Whether a value counts as true in a condition. */
export function isTrue(value: Value): boolean {
  if (isList(value)) return value.value.length > 0;
  if (isMapping(value)) return value.value.size > 0;
  return value.type === 'NamespaceValue' || Boolean(value.value);
}

/** The error for an undefined value that is used. */
export function undefinedError(value: Value): Fault {
  return new Fault((value.type === 'UndefinedValue' ? value.hint : undefined) ?? 'a value is undefined');
}

/** The items of a value: characters of a text, keys of a dictionary. @throws Fault for a value without items. */
export function itemsOf({ make, budget }: Runtime, value: Value): readonly Value[] {
  if (value.type === 'UndefinedValue') return [];
  if (isList(value)) {
    budget.items(value.value.length);
    return value.value;
  }
  if (isMapping(value)) {
    budget.items(value.value.size);
    return Array.from(value.value.keys(), make.text);
  }
  if (value.type === 'StringValue') {
    budget.items(value.value.length);
    return Array.from(value.value, make.text);
  }
  throw new Fault(`'${typeName(value)}' object is not iterable`);
}

/** Python's `len`. @throws Fault for a value without one. */
export function sizeOf({ budget }: Runtime, value: Value): number {
  if (value.type === 'UndefinedValue') return 0;
  if (isList(value)) return value.value.length;
  if (isMapping(value)) return value.value.size;
  if (value.type !== 'StringValue') throw new Fault(`object of type '${typeName(value)}' has no len()`);
  budget.codePoints(value.value.length);
  return lengthOf(value.value);
}

/** Whether two values are equal. Shared parts of nested values count as often as they occur. */
export function isEqual(runtime: Runtime, a: Value, b: Value): boolean {
  runtime.budget.items(1);
  const [x, y] = [numberOf(a), numberOf(b)];
  if (x !== undefined || y !== undefined) return x === y;
  if (a === b) return true;
  if (isMapping(a) && isMapping(b)) {
    if (a.value.size !== b.value.size) return false;
    const isSame = ([key, value]: [string, Value]): boolean => {
      const other = b.value.get(key);
      return other !== undefined && isEqual(runtime, value, other);
    };
    return Array.from(a.value).every(isSame);
  }
  if (a.type !== b.type) return false;
  if (a.type === 'StringValue') {
    runtime.budget.characters(a.value.length);
    return a.value === b.value;
  }
  if (isList(a) && isList(b)) {
    const other = b.value;
    return a.value.length === other.length && a.value.every((one, at) => isEqual(runtime, one, other[at] as Value));
  }
  return a.type === 'NullValue' || a.type === 'UndefinedValue';
}

/** Compares two values: negative, 0 or positive, NaN if neither. @throws Fault for values without an order. */
export function compared(runtime: Runtime, a: Value, b: Value): number {
  runtime.budget.items(1);
  const [x, y] = [numberOf(a), numberOf(b)];
  if (x !== undefined && y !== undefined) return x === y ? 0 : x - y;
  if (a.type === 'StringValue' && b.type === 'StringValue') {
    runtime.budget.codePoints(Math.min(a.value.length, b.value.length));
    return compareTexts(a.value, b.value);
  }
  if (!(isList(a) && isList(b) && a.type === b.type)) {
    for (const one of [a, b]) if (one.type === 'UndefinedValue') throw undefinedError(one);
    throw new Fault(`'<' not supported between instances of '${typeName(a)}' and '${typeName(b)}'`);
  }
  const at = a.value.findIndex((one, index) => !(b.value[index] && isEqual(runtime, one, b.value[index])));
  const [one, other] = [a.value[at], b.value[at]];
  return one && other ? compared(runtime, one, other) : a.value.length - b.value.length;
}
