/** Python's operators. */
import { Fault, type Budget } from './budget.js';
import { textOf } from './printing.js';
import {
  compared,
  Float,
  Html,
  integerOf,
  isEqual,
  isMapping,
  itemsOf,
  likeList,
  listOf,
  Missing,
  numberOf,
  textIn,
  Tuple,
  typeName,
  undefinedError,
  type Value,
} from './values.js';

type Operator = (budget: Budget, left: Value, right: Value) => Value;

/** The operators by their signs, except `and` and `or`, whose right side may not be evaluated. */
export const OPERATORS: Readonly<Record<string, Operator>> = {
  '+': add,
  '-': arithmetic('-', (a, b) => a - b),
  '*': multiply,
  '/': (_, left, right) => {
    const [a, b] = numbers('/', left, right);
    return new Float(a / divisor(b));
  },
  '//': arithmetic('//', (a, b) => Math.round((a - modulo(a, b)) / b)),
  '%': arithmetic('%', modulo),
  '**': (_, left, right) => {
    const [a, b] = numbers('**', left, right);
    return integerOf(left) === undefined || integerOf(right) === undefined || b < 0 ? new Float(a ** b) : exact(a ** b);
  },
  '~': concatenate,
};

type Comparison = (budget: Budget, left: Value, right: Value) => boolean;

/** The comparisons by their signs. */
export const COMPARISONS: Readonly<Record<string, Comparison>> = {
  '==': isEqual,
  '!=': (...pair) => !isEqual(...pair),
  '<': (...pair) => compared(...pair) < 0,
  '>': (...pair) => compared(...pair) > 0,
  '<=': (...pair) => compared(...pair) <= 0,
  '>=': (...pair) => compared(...pair) >= 0,
  in: isIn,
  'not in': (...pair) => !isIn(...pair),
};

/** Whether a value is an item of another, a key of a dictionary or a part of a text. */
export function isIn(budget: Budget, item: Value, owner: Value): boolean {
  const [part, whole] = [textIn(item), textIn(owner)];
  if (whole !== undefined) {
    if (part === undefined) throw new Fault(`'in <string>' requires string as left operand, not ${typeName(item)}`);
    budget.search(whole.length, part.length);
    return whole.includes(part);
  }
  if (isMapping(owner)) return part !== undefined && owner.has(part);
  return itemsOf(budget, owner).some((one) => isEqual(budget, item, one));
}

/** Python's sign of a number. @throws Fault for a value that is no number. */
export function signed(sign: string, value: Value): Value {
  const number = numberOf(value);
  if (number === undefined) throw unsupported(`unary ${sign}`, value);
  const result = sign === '-' ? -number : number;
  return value instanceof Float ? new Float(result) : result + 0;
}

function add(budget: Budget, left: Value, right: Value): Value {
  if (textIn(left) !== undefined && textIn(right) !== undefined) {
    return left instanceof Html || right instanceof Html
      ? markedSafe(budget, asHtml(budget, left) + asHtml(budget, right))
      : concatenate(budget, left, right);
  }
  const [items, others] = [listOf(left), listOf(right)];
  if (!items || !others || left instanceof Tuple !== right instanceof Tuple) return sum(budget, left, right);
  budget.items(items.length + others.length);
  return likeList(left, items.concat(others));
}

const sum = arithmetic('+', (a, b) => a + b);

/** The operator `~`, which joins printed forms. */
function concatenate(budget: Budget, left: Value, right: Value): Value {
  const [start, end] = [textOf(budget, left), textOf(budget, right)];
  budget.length(start.length + end.length);
  return start + end;
}

/** A text that is marked as HTML. */
export function markedSafe(budget: Budget, text: string): Html {
  budget.characters(text.length);
  return new Html(text);
}

const ENTITIES: Readonly<Record<string, string>> = { '&': 'amp', '<': 'lt', '>': 'gt', "'": '#39', '"': '#34' };

/** A printed form with the characters of HTML as entities, unless it is marked as HTML. */
function asHtml(budget: Budget, value: Value): string {
  const text = textOf(budget, value);
  if (value instanceof Html) return text;
  budget.characters(6 * text.length);
  return text.replace(/[&<>'"]/g, (character) => `&${ENTITIES[character] ?? ''};`);
}

function multiply(budget: Budget, left: Value, right: Value): Value {
  const isTurned = textIn(right) !== undefined || listOf(right) !== undefined;
  const [repeated, times] = isTurned ? [right, left] : [left, right];
  const [text, items] = [textIn(repeated), listOf(repeated)];
  const count = Math.max(0, integerOf(times) ?? NaN);
  if (Number.isNaN(count)) return product(budget, left, right);
  if (text !== undefined) {
    budget.characters(text.length * count);
    return text.repeat(text === '' ? 0 : count);
  }
  if (!items) return product(budget, left, right);
  budget.items(items.length * count);
  return likeList(repeated, Array.from({ length: items.length ? count : 0 }, () => items).flat());
}

const product = arithmetic('*', (a, b) => a * b);

function arithmetic(sign: string, of: (a: number, b: number) => number): Operator {
  return (_, left, right) => {
    const result = of(...numbers(sign, left, right));
    return left instanceof Float || right instanceof Float ? new Float(result) : exact(result);
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
  const missing = operands.find((operand) => operand instanceof Missing);
  if (missing) return undefinedError(missing);
  const types = operands.map((operand) => `'${typeName(operand)}'`).join(' and ');
  return new Fault(`unsupported operand type(s) for ${sign}: ${types}`);
}
