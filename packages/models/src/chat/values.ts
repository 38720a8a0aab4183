/** The values of a running template, and how Python sees them: their truth, equality, order, length and items. */
import { Fault, type Budget } from './budget.js';
import { compareTexts, lengthOf } from './text.js';

/** A value. Numbers are integers, arrays are lists, Maps are dictionaries, and null is None. */
export type Value =
  | string
  | number
  | boolean
  | null
  | readonly Value[]
  | ReadonlyMap<string, Value>
  | Callable
  | Float
  | Tuple
  | Html
  | Namespace
  | Missing;

/** A function that a template can call. */
export type Callable = (given: Given) => Value;

/** The arguments of a call. */
export interface Given {
  readonly positional: readonly Value[];
  readonly named: ReadonlyMap<string, Value>;
  /** Writes the body of the `call` block that calls. */
  readonly caller?: Callable | undefined;
}

/** A number that Python holds as a float. */
export class Float {
  constructor(readonly value: number) {}
}

/** A list that Python prints with parentheses. */
export class Tuple {
  constructor(readonly items: readonly Value[]) {}
}

/** A text that the filter `safe` has marked as HTML. */
export class Html {
  constructor(readonly text: string) {}
}

/** An object whose fields a template can assign. */
export class Namespace {
  constructor(readonly fields: Map<string, Value>) {}
}

/** An undefined value. The reason is the message of the error if it is used. */
export class Missing {
  constructor(readonly reason: string) {}
}

/** The name of a value's type in Python. */
export function typeName(value: Value): string {
  if (textIn(value) !== undefined) return 'str';
  if (typeof value === 'number') return 'int';
  if (typeof value === 'boolean') return 'bool';
  if (value === null) return 'NoneType';
  if (value instanceof Float) return 'float';
  if (value instanceof Tuple) return 'tuple';
  if (isArray(value)) return 'list';
  if (isMapping(value)) return 'dict';
  if (value instanceof Namespace) return 'Namespace';
  return value instanceof Missing ? 'Undefined' : 'function';
}

const isArray = (value: Value): value is readonly Value[] => Array.isArray(value);

/** Whether a value is a dictionary. */
export const isMapping = (value: Value): value is ReadonlyMap<string, Value> => value instanceof Map;

/** The items of a list or a tuple; undefined for other values. */
export function listOf(value: Value): readonly Value[] | undefined {
  if (value instanceof Tuple) return value.items;
  return isArray(value) ? value : undefined;
}

/** A list of the same type as another. */
export const likeList = (list: Value, items: readonly Value[]): Value =>
  list instanceof Tuple ? new Tuple(items) : items;

/** The text of a value that is one; undefined for other values. */
export function textIn(value: Value): string | undefined {
  if (value instanceof Html) return value.text;
  return typeof value === 'string' ? value : undefined;
}

/** A value as a number; a truth value is 0 or 1. Undefined for other values. */
export function numberOf(value: Value): number | undefined {
  if (value instanceof Float) return value.value;
  return typeof value === 'number' || typeof value === 'boolean' ? Number(value) : undefined;
}

/** A value as an integer; undefined for other values. */
export function integerOf(value: Value): number | undefined {
  return value instanceof Float ? undefined : numberOf(value);
}

/** Whether a value counts as true in a condition. */
export function isTrue(value: Value): boolean {
  const number = numberOf(value);
  if (number !== undefined) return Boolean(number);
  if (isMapping(value)) return value.size > 0;
  const items = textIn(value) ?? listOf(value);
  return items === undefined ? !(value === null || value instanceof Missing) : items.length > 0;
}

/** The error for an undefined value that is used. */
export function undefinedError({ reason }: Missing): Fault {
  return new Fault(reason);
}

/** The items of a value: characters of a text, keys of a dictionary. @throws Fault for a value without items. */
export function itemsOf(budget: Budget, value: Value): readonly Value[] {
  if (value instanceof Missing) return [];
  const items = listOf(value) ?? textIn(value);
  if (items !== undefined) budget.items(items.length);
  else if (isMapping(value)) budget.items(value.size);
  else throw new Fault(`'${typeName(value)}' object is not iterable`);
  return isMapping(value) ? [...value.keys()] : typeof items === 'string' ? Array.from(items) : (items ?? []);
}

/** Python's `len`. @throws Fault for a value without one. */
export function sizeOf(budget: Budget, value: Value): number {
  if (value instanceof Missing) return 0;
  if (isMapping(value)) return value.size;
  const items = listOf(value) ?? textIn(value);
  if (items === undefined) throw new Fault(`object of type '${typeName(value)}' has no len()`);
  if (typeof items !== 'string') return items.length;
  budget.codePoints(items.length);
  return lengthOf(items);
}

/** Whether two values are equal. Shared parts of nested values count as often as they occur. */
export function isEqual(budget: Budget, a: Value, b: Value): boolean {
  budget.items(1);
  const [x, y] = [numberOf(a), numberOf(b)];
  if (x !== undefined || y !== undefined) return x === y;
  const [text, other] = [textIn(a), textIn(b)];
  if (text !== undefined && other !== undefined) {
    budget.characters(text.length);
    return text === other;
  }
  if (a === b || (a instanceof Missing && b instanceof Missing)) return true;
  if (isMapping(a) && isMapping(b)) {
    const isSame = ([key, value]: [string, Value]): boolean => {
      const own = b.get(key);
      return own !== undefined && isEqual(budget, value, own);
    };
    return a.size === b.size && Array.from(a).every(isSame);
  }
  const lists = bothLists(a, b);
  if (!lists) return false;
  const [items, others] = lists;
  return items.length === others.length && items.every((one, at) => isEqual(budget, one, others[at] as Value));
}

/** Compares two values: negative, 0 or positive, NaN if neither. @throws Fault for values without an order. */
export function compared(budget: Budget, a: Value, b: Value): number {
  budget.items(1);
  const [x, y] = [numberOf(a), numberOf(b)];
  if (x !== undefined && y !== undefined) return x === y ? 0 : x - y;
  const [text, other] = [textIn(a), textIn(b)];
  if (text !== undefined && other !== undefined) {
    budget.codePoints(Math.min(text.length, other.length));
    return compareTexts(text, other);
  }
  const lists = bothLists(a, b);
  if (!lists) {
    for (const one of [a, b]) if (one instanceof Missing) throw undefinedError(one);
    throw new Fault(`'<' not supported between instances of '${typeName(a)}' and '${typeName(b)}'`);
  }
  const [items, others] = lists;
  const at = items.findIndex((one, index) => !(index < others.length && isEqual(budget, one, others[index] as Value)));
  const isDecided = at >= 0 && at < others.length;
  return isDecided ? compared(budget, items[at] as Value, others[at] as Value) : items.length - others.length;
}

/** The items of two lists, or of two tuples. */
function bothLists(a: Value, b: Value): readonly [readonly Value[], readonly Value[]] | undefined {
  const [items, others] = [listOf(a), listOf(b)];
  return items && others && a instanceof Tuple === b instanceof Tuple ? [items, others] : undefined;
}
