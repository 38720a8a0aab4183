/** The variables that Jinja2 and transformers give every template, and the conversion of data to values. */
import { bound } from './arguments.js';
import { Fault, Refusal, type Budget } from './budget.js';
import { textOf } from './printing.js';
import { Float, integerOf, isMapping, itemsOf, listOf, Namespace, typeName, type Given, type Value } from './values.js';

const MAX_RANGE = 100_000;

/** Returns the globals of a template. */
export function globalsOf(budget: Budget): Readonly<Record<string, Value>> {
  return {
    true: true,
    false: false,
    none: null,
    True: true,
    False: false,
    None: null,
    range: ({ positional }) => range(budget, positional),
    dict: (given) => entriesOf(budget, given),
    namespace(given) {
      const entries = entriesOf(budget, given);
      Array.from(entries.keys()).forEach(checkName);
      return new Namespace(entries);
    },
    raise_exception(given) {
      throw new Refusal(textOf(budget, bound('raise_exception()', ['message'], given).required('message')));
    },
    strftime_now(given) {
      const format = bound('strftime_now()', ['format'], given).text('format') ?? '';
      budget.characters(32 * format.length);
      return fixedDate(format);
    },
  };
}

/** Python's objects have own attributes that begin with an underscore. @throws Fault for such a name of a namespace. */
export function checkName(name: string): void {
  if (name.startsWith('_')) throw new Fault(`a namespace cannot have the attribute '${name}'`);
}

/** The entries of a dictionary or of pairs, and of the named arguments. */
function entriesOf(budget: Budget, { positional, named }: Given): Map<string, Value> {
  const entries = new Map<string, Value>();
  for (const given of [...positional, named]) {
    budget.items(isMapping(given) ? given.size : 0);
    const pairs: Iterable<readonly Value[]> = isMapping(given)
      ? given
      : itemsOf(budget, given).map((one) => listOf(one) ?? []);
    for (const [name, value] of pairs) {
      if (typeof name !== 'string' || value === undefined) throw new Fault('expected pairs of names and values');
      entries.set(name, value);
    }
  }
  return entries;
}

function range(budget: Budget, args: readonly Value[]): Value {
  const limits = args.map((given) => {
    const limit = integerOf(given);
    if (limit === undefined) throw new Fault(`range() expected integers, got ${typeName(given)}`);
    return limit;
  });
  const [start, stop] = limits.length > 1 ? (limits as [number, number]) : [0, limits[0] ?? 0];
  const step = limits[2] ?? 1;
  if (step === 0) throw new Fault('range() arg 3 must not be zero');
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (!(length <= MAX_RANGE)) throw new Fault(`its range exceeds ${MAX_RANGE}`);
  budget.items(length);
  return Array.from({ length }, (_, index) => start + index * step);
}

/** 26 July 2024, the fallback date of templates, by the letters of `strftime` that occur in templates. */
const DATE: Readonly<Record<string, string>> = {
  d: '26',
  m: '07',
  b: 'Jul',
  B: 'July',
  y: '24',
  Y: '2024',
  a: 'Fri',
  A: 'Friday',
  j: '208',
  H: '00',
  I: '12',
  M: '00',
  S: '00',
  p: 'AM',
  F: '2024-07-26',
  T: '00:00:00',
  '%': '%',
};

/** The same date every day: today's would make runs irreproducible. A minus removes leading zeros. */
function fixedDate(format: string): string {
  return format.replace(/%(-?)([A-Za-z%])/g, (all, minus: string, letter: string) => {
    const part = DATE[letter];
    if (part === undefined) throw new Fault(`strftime_now() does not know '${all}'`);
    return minus === '' ? part : part.replace(/^0(?=\d)/, '');
  });
}

/** Converts JSON data to a value. */
function valueOf(data: unknown): Value {
  if (typeof data === 'number') return Number.isSafeInteger(data) && !Object.is(data, -0) ? data : new Float(data);
  if (typeof data === 'string' || typeof data === 'boolean' || data === null) return data;
  if (typeof data !== 'object') throw new Refusal(`a ${typeof data} is not JSON`);
  return Array.isArray(data) ? data.map(valueOf) : fieldsOf(data);
}

/** Converts the fields of an object to values. Those that are undefined count as absent. */
export function fieldsOf(data: object): Map<string, Value> {
  const fields = Object.entries(data).filter(([, value]) => value !== undefined);
  return new Map(fields.map(([name, value]) => [name, valueOf(value)]));
}
