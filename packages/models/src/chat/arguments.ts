/** Calls of methods and filters, with their arguments by the names of parameters. */
import { Fault, type Budget } from './budget.js';
import { integerOf, isTrue, textIn, typeName, type Given, type Value } from './values.js';

/** A method of values like T. */
export interface Method<T> {
  /** Its parameters in their order. */
  readonly parameters: readonly string[];
  /** Charges the work, and does it. */
  readonly run: (self: T, budget: Budget, given: Arguments) => Value;
}

/** Returns a method. */
export function method<T>(parameters: readonly string[], run: Method<T>['run']): Method<T> {
  return { parameters, run };
}

/** The arguments of one call. Each method throws a Fault for a value of another type. */
export interface Arguments {
  /** The value of a parameter; `otherwise` if it was left out. */
  value<T>(name: string, otherwise: T): Value | T;
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
export function bound(call: string, names: readonly string[], { positional, named }: Given): Arguments {
  const unknown = Array.from(named.keys()).find((name) => !names.includes(name));
  if (unknown !== undefined) throw new Fault(`${call} has no argument '${unknown}'`);
  if (positional.length > names.length) throw new Fault(`${call} takes at most ${names.length} arguments`);
  const find = (name: string): Value | undefined => {
    const value = positional[names.indexOf(name)];
    return value === undefined ? named.get(name) : value;
  };
  /** Reads a value that may be None. */
  const read = <T>(name: string, type: string, as: (given: Value) => T | undefined): T | undefined => {
    const given = find(name) ?? null;
    if (given === null) return undefined;
    const value = as(given);
    if (value === undefined) throw new Fault(`${call}: expected ${type} as '${name}', got ${typeName(given)}`);
    return value;
  };
  return {
    value(name, otherwise) {
      const given = find(name);
      return given === undefined ? otherwise : given;
    },
    required(name) {
      const given = find(name);
      if (given === undefined) throw new Fault(`${call} needs the argument '${name}'`);
      return given;
    },
    text: (name) => read(name, 'a text', textIn),
    integer: (name) => read(name, 'an integer', integerOf),
    truth: (name) => isTrue(find(name) ?? null),
  };
}
