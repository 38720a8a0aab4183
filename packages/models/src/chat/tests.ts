/** The tests of Jinja2, written `is`. */
import type { Value } from './jinja.js';
import { called } from './methods.js';
import { COMPARISONS, isIn } from './operators.js';
import { isEqual, isList, isMapping, isTrue, numberOf, undefinedError, type Runtime } from './values.js';

type Test = (runtime: Runtime, value: Value, other: Value) => boolean;

/** An undefined value counts as an empty sequence. */
const isSequence: Test = (_, value) =>
  isList(value) || isMapping(value) || value.type === 'StringValue' || value.type === 'UndefinedValue';

/** The remainder of an integer. @throws Fault for a value that is no number. */
function remainder(value: Value, divisor: number): number {
  const number = numberOf(value);
  if (number === undefined) throw undefinedError(value);
  return Math.abs(number % divisor);
}

/** The tests by their names; some compare with an argument, in `selectattr` and its like. */
export const TESTS: ReadonlyMap<string, Test> = new Map<string, Test>([
  ['defined', (_, { type }) => type !== 'UndefinedValue'],
  ['undefined', (_, { type }) => type === 'UndefinedValue'],
  ['none', (_, { type }) => type === 'NullValue'],
  ['boolean', (_, { type }) => type === 'BooleanValue'],
  ['true', (_, value) => value.type === 'BooleanValue' && value.value],
  ['false', (_, value) => value.type === 'BooleanValue' && !value.value],
  ['integer', (_, { type }) => type === 'IntegerValue'],
  ['float', (_, { type }) => type === 'FloatValue'],
  ['number', (_, value) => numberOf(value) !== undefined],
  ['string', (_, { type }) => type === 'StringValue'],
  ['mapping', (_, value) => isMapping(value)],
  ['sequence', isSequence],
  ['iterable', isSequence],
  ['callable', (_, { type }) => type === 'FunctionValue'],
  ['odd', (_, value) => remainder(value, 2) === 1],
  ['even', (_, value) => remainder(value, 2) === 0],
  ['divisibleby', (_, value, other) => remainder(value, numberOf(other) ?? 0) === 0],
  ['lower', (runtime, value) => isTrue(called(runtime, value, 'islower'))],
  ['upper', (runtime, value) => isTrue(called(runtime, value, 'isupper'))],
  ['in', isIn],
  ['equalto', isEqual],
  ...Object.entries({ eq: '==', ne: '!=', lt: '<', gt: '>', le: '<=', ge: '>=', lessthan: '<', greaterthan: '>' }).map(
    ([name, sign]): [string, Test] => [name, COMPARISONS[sign] as Test],
  ),
  ...['==', '!=', '<', '>', '<=', '>='].map((sign): [string, Test] => [sign, COMPARISONS[sign] as Test]),
]);
