/** The filters of Jinja2, and transformers' own `tojson`. */
import { bound, invoked, method, type Arguments, type Method } from './arguments.js';
import { Fault } from './budget.js';
import type { Value } from './jinja.js';
import { called, joinedTexts, pairsOf, replacedIn, strip } from './methods.js';
import { escapedHtml, markedSafe } from './operators.js';
import { jsonOf, textOf } from './printing.js';
import { TESTS } from './tests.js';
import { BLANKS, splitLines } from './text.js';
import {
  compared,
  isEqual,
  isList,
  isMapping,
  isTrue,
  itemsOf,
  numberOf,
  sizeOf,
  typeName,
  type Runtime,
} from './values.js';

type Filter = Method<Value>;

/** The filters that apply another filter or a test to each item. */
const PER_ITEM = /^(?:map|(?:select|reject)(?:attr)?)$/;

/** Applies a filter. @throws Fault for one that is unknown. */
export function filtered(runtime: Runtime, name: string, value: Value, args: readonly Value[]): Value {
  runtime.budget.items(1);
  if (PER_ITEM.test(name)) {
    const items = isTrue(value) ? itemsOf(runtime, value) : [];
    const apply = name === 'map' ? items.map((item) => mapped(runtime, item, args)) : undefined;
    return runtime.make.list(apply ?? selected(runtime, name, items, args));
  }
  const filter = FILTERS.get(name);
  if (!filter) throw new Fault(`No filter named '${name}'`);
  return invoked(runtime, `filter ${name}`, filter, [value, ...args]);
}

/** A filter that is also a method of texts. */
const byMethod = (name: string): Filter => method([], (value, _, runtime) => called(runtime, value, name));

/** The text of an indentation: that of `name`, or as many blanks. */
function indentOf({ budget }: Runtime, given: Arguments, name: string, otherwise?: number): string | undefined {
  const value = given.value(name);
  if (value?.type === 'StringValue') return value.value;
  const width = given.integer(name) ?? otherwise;
  if (width === undefined) return undefined;
  budget.characters(Math.max(0, width));
  return ' '.repeat(Math.max(0, width));
}

const tojson: Filter = method(['ensure_ascii', 'indent', 'separators', 'sort_keys'], (value, given, runtime) => {
  const indent = indentOf(runtime, given, 'indent');
  const separators = given.value('separators');
  const [item, key] = separators && isList(separators) ? separators.value.map((one) => textOf(runtime, one)) : [];
  return jsonOf(runtime, value, {
    ensureAscii: given.truth('ensure_ascii'),
    indent,
    separators: [item ?? (indent === undefined ? ', ' : ','), key ?? ': '],
    sortKeys: given.truth('sort_keys'),
  });
});

const indent: Filter = method(['width', 'first', 'blank'], (value, given, runtime) => {
  const { budget } = runtime;
  const text = textOf(runtime, value);
  const unit = indentOf(runtime, given, 'width', 4) ?? '';
  budget.codePoints(text.length);
  const lines = splitLines(`${text}\n`, false);
  budget.items(lines.length);
  budget.characters(text.length + lines.length * unit.length);
  const [isBlankToo, isFirstToo] = [given.truth('blank'), given.truth('first')];
  const isIndented = (line: string, at: number): boolean => (at === 0 ? isFirstToo : isBlankToo || line !== '');
  return lines.map((line, at) => (isIndented(line, at) ? unit + line : line)).join('\n');
});

/** An item, or the attribute of it that a filter reads; dots separate steps, and numbers are positions. */
function partOf(runtime: Runtime, item: Value, attribute: Value | undefined): Value {
  if (!attribute || attribute.type === 'NullValue') return item;
  const path = attribute.type === 'IntegerValue' ? String(attribute.value) : textOf(runtime, attribute);
  runtime.budget.codePoints(path.length + 32);
  return path.split('.').reduce<Value>((owner, step) => {
    if (owner.type === 'UndefinedValue') throw new Fault(owner.hint ?? `'${path}' is undefined`);
    const missing = runtime.make.missing(`'${typeName(owner)} object' has no attribute '${step}'`);
    if (isMapping(owner) || owner.type === 'NamespaceValue') return owner.value.get(step) ?? missing;
    return (isList(owner) && /^\d+$/.test(step) && owner.value[Number(step)]) || missing;
  }, item);
}

/** The parts of items that a filter reads. */
function partsOf(runtime: Runtime, value: Value, given: Arguments): Value[] {
  const attribute = given.value('attribute');
  return itemsOf(runtime, value).map((item) => partOf(runtime, item, attribute));
}

/** Items with what they are compared by: texts in lower case, unless case counts. */
function keyed(
  runtime: Runtime,
  items: readonly Value[],
  given: Arguments,
  attribute = given.value('attribute'),
): { item: Value; key: Value }[] {
  return items.map((item) => {
    const key = partOf(runtime, item, attribute);
    if (given.truth('case_sensitive') || key.type !== 'StringValue') return { item, key };
    runtime.budget.codePoints(key.value.length);
    return { item, key: runtime.make.text(key.value.toLowerCase()) };
  });
}

/** Items in the order of their keys. */
function sorted(runtime: Runtime, items: ReturnType<typeof keyed>, given: Arguments): Value[] {
  const sign = given.truth('reverse') ? -1 : 1;
  return items.sort((a, b) => sign * compared(runtime, a.key, b.key)).map(({ item }) => item);
}

const sort: Filter = method(['reverse', 'case_sensitive', 'attribute'], (value, given, runtime) =>
  sorted(runtime, keyed(runtime, itemsOf(runtime, value), given), given),
);

const dictsort: Filter = method(['case_sensitive', 'by', 'reverse'], (value, given, runtime) => {
  if (!isMapping(value)) throw new Fault(`dictsort: expected a dict, got ${typeName(value)}`);
  const by = runtime.make.integer(given.text('by') === 'value' ? 1 : 0);
  return sorted(runtime, keyed(runtime, pairsOf(runtime, value), given, by), given);
});

const unique: Filter = method(['case_sensitive', 'attribute'], (value, given, runtime) => {
  const kept: { item: Value; key: Value }[] = [];
  for (const one of keyed(runtime, itemsOf(runtime, value), given)) {
    if (!kept.some(({ key }) => isEqual(runtime, key, one.key))) kept.push(one);
  }
  return kept.map(({ item }) => item);
});

/** The first of the items in an order. */
const extreme = (sign: number): Filter =>
  method(['case_sensitive', 'attribute'], (value, given, runtime) => {
    const items = keyed(runtime, itemsOf(runtime, value), given);
    const first = items.reduce<(typeof items)[number] | undefined>(
      (best, one) => (best && sign * compared(runtime, one.key, best.key) >= 0 ? best : one),
      undefined,
    );
    return first?.item ?? runtime.make.missing('No aggregated item, sequence was empty.');
  });

const reverse: Filter = method([], (value, _, runtime) => {
  const items = [...itemsOf(runtime, value)].reverse();
  return value.type === 'StringValue' ? joinedTexts(runtime, items, '') : items;
});

const sum: Filter = method(['attribute', 'start'], (value, given, runtime) => {
  const all = [given.value('start') ?? runtime.make.integer(0), ...partsOf(runtime, value, given)];
  const total = all.reduce((so, item) => so + (numberOf(item) ?? NaN), 0);
  if (Number.isNaN(total)) throw new Fault('sum: expected numbers');
  return all.some(({ type }) => type === 'FloatValue') ? runtime.make.float(total) : total;
});

/** A value as a number, a text as Python reads it; NaN if it is none. */
function parsed({ budget }: Runtime, value: Value): number {
  if (value.type !== 'StringValue') return numberOf(value) ?? NaN;
  budget.codePoints(value.value.length);
  const number = strip(value.value).replace(/(?<=\d)_(?=\d)/g, '');
  return /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i.test(number) ? Number(number) : NaN;
}

const int: Filter = method(['default'], (value, given, runtime) => {
  const number = Math.trunc(parsed(runtime, value));
  return Number.isSafeInteger(number) ? number + 0 : (given.value('default') ?? 0);
});

const float: Filter = method(['default'], (value, given, runtime) => {
  const number = parsed(runtime, value);
  if (!Number.isNaN(number)) return runtime.make.float(number);
  return given.value('default') ?? runtime.make.float(0);
});

const abs: Filter = method([], (value, _, { make }) => {
  const number = numberOf(value);
  if (number === undefined) throw new Fault(`bad operand type for abs(): '${typeName(value)}'`);
  return value.type === 'FloatValue' ? make.float(Math.abs(number)) : Math.abs(number);
});

const round: Filter = method(['precision', 'method'], (value, given, { make }) => {
  const number = numberOf(value);
  if (number === undefined) throw new Fault(`round: expected a number, got ${typeName(value)}`);
  const scale = 10 ** (given.integer('precision') ?? 0);
  const by = given.text('method') ?? 'common';
  const to = by === 'common' ? halfToEven : by === 'ceil' ? Math.ceil : Math.floor;
  const rounded = to(number * scale) / scale;
  return by === 'common' && value.type !== 'FloatValue' ? rounded : make.float(rounded);
});

function halfToEven(value: number): number {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}

const WORD_START = new RegExp(`([-${BLANKS}({[<]+)`);

const title: Filter = method([], (value, _, runtime) => {
  const text = textOf(runtime, value);
  runtime.budget.codePoints(text.length);
  runtime.budget.characters(3 * text.length);
  const words = text.split(WORD_START).map((word) => {
    const [first = ''] = word;
    return first.toUpperCase() + word.slice(first.length).toLowerCase();
  });
  return words.join('');
});

/** `select`, `reject`, `selectattr` and `rejectattr`, whose arguments name a test and its argument. */
function selected(runtime: Runtime, name: string, items: readonly Value[], args: readonly Value[]): Value[] {
  const [attribute, rest] = name.endsWith('attr') ? [args[0], args.slice(1)] : [undefined, args];
  const [test, ...others] = rest;
  const testName = test === undefined ? undefined : textOf(runtime, test);
  const holds = (part: Value): boolean =>
    testName === undefined ? isTrue(part) : tested(runtime, testName, [part, ...others]);
  return items.filter((item) => holds(partOf(runtime, item, attribute)) !== name.startsWith('reject'));
}

function mapped(runtime: Runtime, item: Value, args: readonly Value[]): Value {
  const [first, ...others] = args;
  if (first?.type === 'StringValue') return filtered(runtime, first.value, item, others);
  const given = bound('filter map', ['attribute', 'default'], args);
  const part = partOf(runtime, item, given.required('attribute'));
  return part.type === 'UndefinedValue' ? (given.value('default') ?? part) : part;
}

/** Runs a test. @throws Fault for one that is unknown. */
export function tested(runtime: Runtime, name: string, [value, ...args]: readonly Value[]): boolean {
  const test = TESTS.get(name);
  if (!test) throw new Fault(`No test named '${name}'`);
  runtime.budget.items(1);
  return test(runtime, value as Value, args[0] ?? runtime.make.missing(`the test '${name}' needs an argument`));
}

/** The end of a sequence; only one character of a text is read. */
const end = (at: 0 | -1): Filter =>
  method([], (value, _, runtime) => {
    const part = value.type === 'StringValue' ? runtime.make.text(value.value.slice(...(at ? [-2] : [0, 2]))) : value;
    const items = isList(value) ? value.value : itemsOf(runtime, part);
    return items.at(at) ?? runtime.make.missing('the sequence was empty');
  });

const byDefault: Filter = method(['default_value', 'boolean'], (value, given) =>
  value.type === 'UndefinedValue' || (given.truth('boolean') && !isTrue(value))
    ? (given.value('default_value') ?? '')
    : value,
);

const escape: Filter = method([], (value, _, runtime) =>
  runtime.safe.has(value) ? value : markedSafe(runtime, escapedHtml(runtime, value)),
);

const trim: Filter = method(['chars'], (value, given, runtime) => {
  const [text, characters] = [textOf(runtime, value), given.text('chars')];
  runtime.budget.codePoints(text.length + (characters?.length ?? 0));
  return strip(text, characters);
});

const items: Filter = method([], (value, _, runtime) => {
  if (value.type === 'UndefinedValue') return [];
  if (!isMapping(value)) throw new Fault('Can only get item pairs from a mapping.');
  return pairsOf(runtime, value);
});

const replace: Filter = method(['old', 'new', 'count'], (value, given, runtime) => {
  const [from, to] = [given.required('old'), given.required('new')].map((one) => textOf(runtime, one));
  return replacedIn(runtime, textOf(runtime, value), from ?? '', to ?? '', given.integer('count'));
});

const length: Filter = method([], (value, _, runtime) => sizeOf(runtime, value));

const FILTERS: ReadonlyMap<string, Filter> = new Map(
  Object.entries<Filter>({
    abs,
    capitalize: byMethod('capitalize'),
    count: length,
    d: byDefault,
    default: byDefault,
    dictsort,
    e: escape,
    escape,
    first: end(0),
    float,
    generation: method([], (value) => value),
    indent,
    int,
    items,
    join: method(['d', 'attribute'], (value, given, runtime) => {
      const separator = given.value('d');
      return joinedTexts(runtime, partsOf(runtime, value, given), separator ? textOf(runtime, separator) : '');
    }),
    last: end(-1),
    length,
    list: method([], (value, _, runtime) => itemsOf(runtime, value)),
    lower: byMethod('lower'),
    max: extreme(-1),
    min: extreme(1),
    replace,
    reverse,
    round,
    safe: method([], (value, _, runtime) => markedSafe(runtime, textOf(runtime, value))),
    sort,
    string: method([], (value, _, runtime) => (runtime.safe.has(value) ? value : textOf(runtime, value))),
    sum,
    title,
    tojson,
    trim,
    unique,
    upper: byMethod('upper'),
  }),
);
