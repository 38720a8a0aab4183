/** The variables that Jinja2 and transformers give every template, and the conversion of data to values. */
import { bound } from './arguments.js';
import { Fault, Refusal } from './budget.js';
import type { Callable, Value } from './jinja.js';
import { textOf } from './printing.js';
import { isList, isMapping, itemsOf, typeName, type Runtime } from './values.js';

const MAX_RANGE = 100_000;

/** Returns the globals of a template. */
export function globalsOf(runtime: Runtime): Record<string, Value> {
  const { make } = runtime;
  const truth = { true: make.truth(true), false: make.truth(false), none: make.none };
  return {
    ...truth,
    True: truth.true,
    False: truth.false,
    None: truth.none,
    range: make.callable((args) => range(runtime, args)),
    dict: make.callable((args) => make.mapping(entriesOf(runtime, args))),
    raise_exception: make.callable((args) => {
      throw new Refusal(textOf(runtime, bound('raise_exception()', ['message'], args).required('message')));
    }),
    strftime_now: make.callable((args) => {
      const format = bound('strftime_now()', ['format'], args).text('format') ?? '';
      runtime.budget.characters(32 * format.length);
      return make.text(fixedDate(format));
    }),
  };
}

/** The function `namespace`, whose names may not begin with an underscore. */
export function namespaceOf(runtime: Runtime): Value {
  const create: Callable = (args) => {
    const entries = entriesOf(runtime, args);
    Array.from(entries.keys()).forEach(checkName);
    return runtime.make.namespace(entries);
  };
  return runtime.make.callable(create);
}

/** @throws Fault for a name that a namespace may not have. */
export function checkName(name: string): void {
  if (name.startsWith('_')) throw new Fault(`a namespace cannot have the attribute '${name}'`);
}

/** The entries of a dictionary or of pairs, and of the named arguments. */
function entriesOf(runtime: Runtime, args: readonly Value[]): Map<string, Value> {
  const entries = new Map<string, Value>();
  for (const given of args) {
    if (isMapping(given)) {
      runtime.budget.items(given.value.size);
      given.value.forEach((value, name) => entries.set(name, value));
    } else {
      for (const pair of itemsOf(runtime, given)) {
        const [name, value] = isList(pair) ? pair.value : [];
        if (name?.type !== 'StringValue' || !value) throw new Fault('expected pairs of names and values');
        entries.set(name.value, value);
      }
    }
  }
  return entries;
}

function range({ make, budget }: Runtime, args: readonly Value[]): Value {
  const limits = args.map((limit) => {
    if (limit.type === 'IntegerValue' || limit.type === 'BooleanValue') return Number(limit.value);
    throw new Fault(`range() expected integers, got ${typeName(limit)}`);
  });
  const [start, stop] = limits.length > 1 ? (limits as [number, number]) : [0, limits[0] ?? 0];
  const step = limits[2] ?? 1;
  if (step === 0) throw new Fault('range() arg 3 must not be zero');
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (!(length <= MAX_RANGE)) throw new Fault(`its range exceeds ${MAX_RANGE}`);
  budget.items(length);
  return make.list(Array.from({ length }, (_, index) => make.integer(start + index * step)));
}

/** 26 July 2024, the fallback date of templates. Today's date would make runs irreproducible. */
const DATE: Readonly<Record<string, string>> = {
  d: '26',
  m: '07',
  b: 'Jul',
  h: 'Jul',
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
  e: '26',
  w: '5',
  u: '5',
  f: '000000',
  z: '',
  Z: '',
  D: '07/26/24',
  F: '2024-07-26',
  T: '00:00:00',
  R: '00:00',
  c: 'Fri Jul 26 00:00:00 2024',
  x: '07/26/24',
  X: '00:00:00',
  '%': '%',
};

/** The date in a format of `strftime`; a minus removes leading zeros. */
function fixedDate(format: string): string {
  return format.replace(/%(-?)([A-Za-z%])/g, (all, minus: string, letter: string) => {
    const part = DATE[letter] ?? all;
    return minus === '' ? part : part.replace(/^0(?=\d)/, '');
  });
}

/** Converts JSON data to values. Fields that are undefined count as absent. */
export function valueOf(runtime: Runtime, data: unknown): Value {
  const { make } = runtime;
  switch (typeof data) {
    case 'string':
      return make.text(data);
    case 'number':
      return Number.isSafeInteger(data) && !Object.is(data, -0) ? make.integer(data) : make.float(data);
    case 'boolean':
      return make.truth(data);
    case 'object': {
      if (data === null) return make.none;
      if (Array.isArray(data)) return make.list(data.map((item) => valueOf(runtime, item)));
      const fields = Object.entries(data).filter(([, value]) => value !== undefined);
      return make.mapping(new Map(fields.map(([name, value]) => [name, valueOf(runtime, value)])));
    }
    default:
      throw new Refusal(`a ${typeof data} is not JSON`);
  }
}
