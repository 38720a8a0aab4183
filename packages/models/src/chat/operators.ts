/** Python's operators. */
import { Fault } from './budget.js';
import type { Value } from './jinja.js';
import { textOf } from './printing.js';
import {
  compared,
  isEqual,
  isList,
  isMapping,
  itemsOf,
  numberOf,
  typeName,
  undefinedError,
  type Runtime,
} from './values.js';

type Operator = (runtime: Runtime, left: Value, right: Value) => Value;

/** The operators by their signs, except `and` and `or`, whose right side may not be evaluated. */
export const OPERATORS: Readonly<Record<string, Operator>> = {
  '+': add,
  '-': arithmetic('-', (a, b) => a - b),
  '*': multiply,
  '/': (runtime, left, right) => {
    const [a, b] = numbers('/', left, right);
    return runtime.make.float(a / divisor(b));
  },
  '//': arithmetic('//', (a, b) => Math.round((a - modulo(a, b)) / b)),
  '%': arithmetic('%', modulo),
  '**': power,
  '~': concatenate,
};

/** The comparisons by their signs. */
export const COMPARISONS: Readonly<Record<string, (runtime: Runtime, left: Value, right: Value) => boolean>> = {
  '==': isEqual,
  '!=': (runtime, left, right) => !isEqual(runtime, left, right),
  '<': (runtime, left, right) => compared(runtime, left, right) < 0,
  '>': (runtime, left, right) => compared(runtime, left, right) > 0,
  '<=': (runtime, left, right) => compared(runtime, left, right) <= 0,
  '>=': (runtime, left, right) => compared(runtime, left, right) >= 0,
  in: isIn,
  'not in': (runtime, left, right) => !isIn(runtime, left, right),
};

/** Whether a value is an item of another, a key of a dictionary or a part of a text. */
export function isIn(runtime: Runtime, item: Value, owner: Value): boolean {
  const { budget } = runtime;
  if (owner.type === 'StringValue') {
    if (item.type !== 'StringValue') {
      throw new Fault(`'in <string>' requires string as left operand, not ${typeName(item)}`);
    }
    budget.search(owner.value.length, item.value.length);
    return owner.value.includes(item.value);
  }
  if (isMapping(owner)) return item.type === 'StringValue' && owner.value.has(item.value);
  return itemsOf(runtime, owner).some((one) => isEqual(runtime, item, one));
}

/** Python's sign of a number. @throws Fault for a value that is no number. */
export function signed({ make }: Runtime, sign: string, value: Value): Value {
  const number = numberOf(value);
  if (number === undefined) throw unsupported(`unary ${sign}`, value);
  const result = sign === '-' ? -number : number;
  return value.type === 'FloatValue' ? make.float(result) : make.integer(result + 0);
}

function add(runtime: Runtime, left: Value, right: Value): Value {
  const { make, budget } = runtime;
  if (left.type === 'StringValue' && right.type === 'StringValue') {
    return runtime.safe.has(left) || runtime.safe.has(right)
      ? addHtml(runtime, left, right)
      : concatenate(runtime, left, right);
  }
  if (isList(left) && isList(right) && left.type === right.type) {
    budget.items(left.value.length + right.value.length);
    const items = left.value.concat(right.value);
    return left.type === 'ArrayValue' ? make.list(items) : make.tuple(items);
  }
  return sum(runtime, left, right);
}

const sum = arithmetic('+', (a, b) => a + b);

/** The operator `~`, which joins printed forms. */
function concatenate(runtime: Runtime, left: Value, right: Value): Value {
  const [start, end] = [textOf(runtime, left), textOf(runtime, right)];
  runtime.budget.length(start.length + end.length);
  return runtime.make.text(start + end);
}

/** Adds to a text that the filter `safe` marks as HTML: the other text is escaped. */
function addHtml(runtime: Runtime, left: Value, right: Value): Value {
  const [start, end] = [left, right].map((one) =>
    runtime.safe.has(one) ? textOf(runtime, one) : escapedHtml(runtime, one),
  );
  return markedSafe(runtime, `${start ?? ''}${end ?? ''}`);
}

/** A text that is marked as HTML. */
export function markedSafe({ make, budget, safe }: Runtime, text: string): Value {
  budget.characters(text.length);
  const value = make.text(text);
  safe.add(value);
  return value;
}

const ENTITIES: Readonly<Record<string, string>> = { '&': 'amp', '<': 'lt', '>': 'gt', "'": '#39', '"': '#34' };

/** A printed form with the characters of HTML as entities. */
export function escapedHtml(runtime: Runtime, value: Value): string {
  const text = textOf(runtime, value);
  runtime.budget.characters(6 * text.length);
  return text.replace(/[&<>'"]/g, (character) => `&${ENTITIES[character] ?? ''};`);
}

function multiply(runtime: Runtime, left: Value, right: Value): Value {
  const [repeated, times] = right.type === 'StringValue' || isList(right) ? [right, left] : [left, right];
  if (times.type !== 'IntegerValue' && times.type !== 'BooleanValue') return product(runtime, left, right);
  const count = Math.max(0, Number(times.value));
  const { make, budget } = runtime;
  if (repeated.type === 'StringValue') {
    budget.characters(repeated.value.length * count);
    return make.text(repeated.value.repeat(repeated.value === '' ? 0 : count));
  }
  if (!isList(repeated)) return product(runtime, left, right);
  budget.items(repeated.value.length * count);
  const items = Array.from({ length: repeated.value.length ? count : 0 }, () => repeated.value).flat();
  return repeated.type === 'ArrayValue' ? make.list(items) : make.tuple(items);
}

const product = arithmetic('*', (a, b) => a * b);

function power({ make }: Runtime, left: Value, right: Value): Value {
  const [a, b] = numbers('**', left, right);
  const isFloat = left.type === 'FloatValue' || right.type === 'FloatValue' || b < 0;
  return isFloat ? make.float(a ** b) : make.integer(exact(a ** b));
}

function arithmetic(sign: string, of: (a: number, b: number) => number): Operator {
  return ({ make }, left, right) => {
    const result = of(...numbers(sign, left, right));
    const isFloat = left.type === 'FloatValue' || right.type === 'FloatValue';
    return isFloat ? make.float(result) : make.integer(exact(result));
  };
}

function numbers(sign: string, left: Value, right: Value): [number, number] {
  const [a, b] = [numberOf(left), numberOf(right)];
  if (a === undefined || b === undefined) throw unsupported(sign, left, right);
  return [a, b];
}

function divisor(value: number): number {
  if (value === 0) throw new Fault('division by zero');
  return value;
}

/** Python's remainder, which has the sign of the divisor. */
function modulo(a: number, b: number): number {
  const rest = a % divisor(b);
  return rest !== 0 && rest < 0 !== b < 0 ? rest + b : rest;
}

/** Python's integers have no limit. */
function exact(value: number): number {
  if (Number.isSafeInteger(value)) return value + 0;
  throw new Fault(`expected integers of at most ${Number.MAX_SAFE_INTEGER}, got ${value}`);
}

function unsupported(sign: string, ...operands: readonly Value[]): Fault {
  const missing = operands.find(({ type }) => type === 'UndefinedValue');
  if (missing) return undefinedError(missing);
  const types = operands.map((operand) => `'${typeName(operand)}'`).join(' and ');
  return new Fault(`unsupported operand type(s) for ${sign}: ${types}`);
}
