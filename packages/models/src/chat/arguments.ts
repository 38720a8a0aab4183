/** Calls of methods and filters, with their arguments by the names of parameters. */
import { Fault } from './budget.js';
import type { Value } from './jinja.js';
import { isTrue, typeName, type Runtime } from './values.js';

/** A method of values like T. */
export interface Method<T> {
  /** Its parameters in their order. */
  readonly parameters: readonly string[];
  /** Charges the work, and does it. */
  readonly run: (self: T, given: Arguments, runtime: Runtime) => Result;
}

/** What a method returns: a value, or a text, an integer, a truth value or a list. */
type Result = Value | string | number | boolean | readonly (Value | string)[];

/** Returns a method. */
export function method<T>(parameters: readonly string[], run: Method<T>['run']): Method<T> {
  return { parameters, run };
}

/** Calls a method. @throws Fault for arguments that it does not take. */
export function invoked<T>(
  runtime: Runtime,
  call: string,
  { parameters, run }: Method<T>,
  [self, ...args]: readonly [T, ...Value[]],
): Value {
  const { make } = runtime;
  const item = (one: Value | string): Value => (typeof one === 'string' ? make.text(one) : one);
  const result = run(self, bound(call, parameters, args), runtime);
  if (typeof result === 'number') return make.integer(result);
  if (typeof result === 'boolean') return make.truth(result);
  return isItems(result) ? make.list(result.map(item)) : item(result);
}

function isItems(result: Result): result is readonly (Value | string)[] {
  return Array.isArray(result);
}

/** The arguments of one call. Each method throws a Fault for a value of another type. */
export interface Arguments {
  /** The value of a parameter; undefined if it was left out. */
  value(name: string): Value | undefined;
  /** The value of a parameter that is required. */
  required(name: string): Value;
  text(name: string): string | undefined;
  integer(name: string): number | undefined;
  truth(name: string): boolean;
}

/**
 * Returns the arguments of a call.
 * @param call what is called, for errors
 * @param names the parameters, in their order
 * @throws Fault for too many arguments, or one that is not a parameter.
 */
export function bound(call: string, names: readonly string[], args: readonly Value[]): Arguments {
  const last = args.at(-1);
  const named = last?.type === 'KeywordArgumentsValue' ? last.value : undefined;
  const positional = named ? args.slice(0, -1) : args;
  const unknown = Array.from(named?.keys() ?? []).find((name) => !names.includes(name));
  if (unknown !== undefined) throw new Fault(`${call} has no argument '${unknown}'`);
  if (positional.length > names.length) throw new Fault(`${call} takes at most ${names.length} arguments`);
  const value = (name: string): Value | undefined => positional[names.indexOf(name)] ?? named?.get(name);
  const wrong = (name: string, type: string, given: Value): Fault =>
    new Fault(`${call}: expected ${type} as '${name}', got ${typeName(given)}`);
  return {
    value,
    required(name) {
      const given = value(name);
      if (!given) throw new Fault(`${call} needs the argument '${name}'`);
      return given;
    },
    text(name) {
      const given = value(name);
      if (!given || given.type === 'NullValue') return undefined;
      if (given.type !== 'StringValue') throw wrong(name, 'a text', given);
      return given.value;
    },
    integer(name) {
      const given = value(name);
      if (!given || given.type === 'NullValue') return undefined;
      if (given.type !== 'IntegerValue' && given.type !== 'BooleanValue') throw wrong(name, 'an integer', given);
      return Number(given.value);
    },
    truth(name) {
      const given = value(name);
      return given !== undefined && isTrue(given);
    },
  };
}
