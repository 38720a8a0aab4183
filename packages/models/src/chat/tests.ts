/** The tests of Jinja2, written `is`. */
import { Fault, type Budget } from './budget.js';
import { COMPARISONS, isIn } from './operators.js';
import {
  Float,
  isEqual,
  isMapping,
  listOf,
  Missing,
  numberOf,
  textIn,
  typeName,
  undefinedError,
  type Value,
} from './values.js';

type Test = (budget: Budget, value: Value, other: Value) => boolean;

/** An undefined value counts as an empty sequence. */
const isSequence: Test = (_, value) =>
  (textIn(value) ?? listOf(value)) !== undefined || isMapping(value) || value instanceof Missing;

/** The remainder of a number. @throws Fault for a value that is none. */
function remainder(value: Value, divisor: number): number {
  const number = numberOf(value);
  if (number !== undefined) return Math.abs(number % divisor);
  throw value instanceof Missing ? undefinedError(value) : new Fault(`expected a number, got ${typeName(value)}`);
}

/** The tests by their names; some compare with an argument, in `selectattr` and its like. */
export const TESTS: ReadonlyMap<string, Test> = new Map<string, Test>([
  ['defined', (_, value) => !(value instanceof Missing)],
  ['undefined', (_, value) => value instanceof Missing],
  ['none', (_, value) => value === null],
  ['boolean', (_, value) => typeof value === 'boolean'],
  ['true', (_, value) => value === true],
  ['false', (_, value) => value === false],
  ['integer', (_, value) => typeof value === 'number'],
  ['float', (_, value) => value instanceof Float],
  ['number', (_, value) => numberOf(value) !== undefined],
  ['string', (_, value) => textIn(value) !== undefined],
  ['mapping', (_, value) => isMapping(value)],
  ['sequence', isSequence],
  ['iterable', isSequence],
  ['callable', (_, value) => typeof value === 'function'],
  ['odd', (_, value) => remainder(value, 2) === 1],
  ['even', (_, value) => remainder(value, 2) === 0],
  ['divisibleby', (_, value, other) => remainder(value, numberOf(other) ?? 0) === 0],
  ['in', isIn],
  ['equalto', isEqual],
  ...Object.entries({ eq: '==', ne: '!=', lt: '<', gt: '>', le: '<=', ge: '>=', lessthan: '<', greaterthan: '>' }).map(
    ([name, sign]): [string, Test] => [name, COMPARISONS[sign] as Test],
  ),
  ...['==', '!=', '<', '>', '<=', '>='].map((sign): [string, Test] => [sign, COMPARISONS[sign] as Test]),
]);
