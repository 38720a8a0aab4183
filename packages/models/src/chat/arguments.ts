/** The arguments of a call, by the names of their parameters. */
import { Fault } from './budget.js';
import type { Value } from './jinja.js';
import { isTrue, typeName } from './values.js';

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
