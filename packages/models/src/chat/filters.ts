/** The filters of Jinja2, and transformers' own `tojson`. */
import { bound, type Arguments } from './arguments.js';
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

type Filter = (runtime: Runtime, value: Value, given: Arguments) => Value;

/** The filters that apply another filter or a test to each item. */
const PER_ITEM = /^(?:map|(?:select|reject)(?:attr)?)$/;

/** Applies a filter. @throws Fault for one that is unknown. */
export function filtered(runtime: Runtime, name: string, value: Value, args: readonly Value[]): Value {
  runtime.budget.items(1);
  if (PER_ITEM.test(name)) {
    const items = isTrue(value) ? itemsOf(runtime, value) : [];
    if (name !== 'map') return selected(runtime, name, items, args);
    return runtime.make.list(items.map((item) => mapped(runtime, item, args)));
  }
  const filter = FILTERS.get(name);
  if (!filter) throw new Fault(`No filter named '${name}'`);
  const [parameters, run] = filter;
  return run(runtime, value, bound(`filter ${name}`, parameters, args));
}

/** A filter that is also a method of texts. */
const byMethod =
  (name: string): Filter =>
  (runtime, value) =>
    called(runtime, value, name);

const tojson: Filter = (runtime, value, given) => {
  const indent = given.value('indent');
  const unit = indent?.type === 'StringValue' ? indent.value : indentOf(runtime, given.integer('indent'));
  const separators = given.value('separators');
  const [item, key] = separators && isList(separators) ? separators.value.map((one) => textOf(runtime, one)) : [];
  const text = jsonOf(runtime, value, {
    ensureAscii: given.truth('ensure_ascii'),
    indent: unit,
    separators: [item ?? (unit === undefined ? ', ' : ','), key ?? ': '],
    sortKeys: given.truth('sort_keys'),
  });
  return runtime.make.text(text);
};

function indentOf({ budget }: Runtime, width: number | undefined): string | undefined {
  if (width === undefined) return undefined;
  budget.characters(Math.max(0, width));
  return ' '.repeat(Math.max(0, width));
}

const indent: Filter = (runtime, value, given) => {
  const { make, budget } = runtime;
  const text = textOf(runtime, value);
  const width = given.value('width');
  const unit = width?.type === 'StringValue' ? width.value : (indentOf(runtime, given.integer('width') ?? 4) ?? '');
  budget.codePoints(text.length);
  const lines = splitLines(`${text}\n`, false);
  budget.items(lines.length);
  budget.characters(text.length + lines.length * unit.length);
  const [isBlankToo, isFirstToo] = [given.truth('blank'), given.truth('first')];
  const isIndented = (line: string, at: number): boolean => (at === 0 ? isFirstToo : isBlankToo || line !== '');
  const written = lines.map((line, at) => (isIndented(line, at) ? unit + line : line));
  return make.text(written.join('\n'));
};

const join: Filter = (runtime, value, given) => {
  const attribute = given.value('attribute');
  const items = itemsOf(runtime, value).map((item) => (attribute ? attributeOf(runtime, item, attribute) : item));
  const separator = given.value('d');
  return joinedTexts(runtime, items, separator ? textOf(runtime, separator) : '');
};

/** An attribute of an item; dots separate steps, and numbers are positions. */
function attributeOf(runtime: Runtime, item: Value, attribute: Value): Value {
  const path = attribute.type === 'IntegerValue' ? String(attribute.value) : textOf(runtime, attribute);
  runtime.budget.codePoints(path.length + 32);
  return path.split('.').reduce<Value>((owner, step) => {
    if (owner.type === 'UndefinedValue') throw new Fault(owner.hint ?? `'${path}' is undefined`);
    const missing = runtime.make.missing(`'${typeName(owner)} object' has no attribute '${step}'`);
    if (isMapping(owner) || owner.type === 'NamespaceValue') return owner.value.get(step) ?? missing;
    return (isList(owner) && /^\d+$/.test(step) && owner.value[Number(step)]) || missing;
  }, item);
}

/** Lower case for texts, unless case counts. */
function caseless(runtime: Runtime, value: Value, isCaseSensitive: boolean): Value {
  if (isCaseSensitive || value.type !== 'StringValue') return value;
  runtime.budget.codePoints(value.value.length);
  return runtime.make.text(value.value.toLowerCase());
}

/** Items with what they are sorted by. */
function keyed(runtime: Runtime, items: readonly Value[], given: Arguments): { item: Value; key: Value }[] {
  const attribute = given.value('attribute');
  return items.map((item) => {
    const part = attribute && attribute.type !== 'NullValue' ? attributeOf(runtime, item, attribute) : item;
    return { item, key: caseless(runtime, part, given.truth('case_sensitive')) };
  });
}

const sort: Filter = (runtime, value, given) => {
  const sign = given.truth('reverse') ? -1 : 1;
  const items = keyed(runtime, itemsOf(runtime, value), given);
  items.sort((a, b) => sign * compared(runtime, a.key, b.key));
  return runtime.make.list(items.map(({ item }) => item));
};

const unique: Filter = (runtime, value, given) => {
  const kept: { item: Value; key: Value }[] = [];
  for (const one of keyed(runtime, itemsOf(runtime, value), given)) {
    if (!kept.some(({ key }) => isEqual(runtime, key, one.key))) kept.push(one);
  }
  return runtime.make.list(kept.map(({ item }) => item));
};

/** The first of the items in an order. */
const extreme =
  (sign: number): Filter =>
  (runtime, value, given) => {
    const items = keyed(runtime, itemsOf(runtime, value), given);
    const first = items.reduce<(typeof items)[number] | undefined>(
      (best, one) => (best && sign * compared(runtime, one.key, best.key) >= 0 ? best : one),
      undefined,
    );
    return first?.item ?? runtime.make.missing('No aggregated item, sequence was empty.');
  };

const dictsort: Filter = (runtime, value, given) => {
  if (!isMapping(value)) throw new Fault(`dictsort: expected a dict, got ${typeName(value)}`);
  const at = given.text('by') === 'value' ? 1 : 0;
  const sign = given.truth('reverse') ? -1 : 1;
  const pairs = itemsOf(runtime, pairsOf(runtime, value)).map((pair) => {
    const part = isList(pair) ? (pair.value[at] as Value) : pair;
    return { pair, key: caseless(runtime, part, given.truth('case_sensitive')) };
  });
  pairs.sort((a, b) => sign * compared(runtime, a.key, b.key));
  return runtime.make.list(pairs.map(({ pair }) => pair));
};

const reverse: Filter = (runtime, value) => {
  const items = [...itemsOf(runtime, value)].reverse();
  return value.type === 'StringValue' ? joinedTexts(runtime, items, '') : runtime.make.list(items);
};

const sum: Filter = (runtime, value, given) => {
  const attribute = given.value('attribute');
  const items = itemsOf(runtime, value).map((item) => (attribute ? attributeOf(runtime, item, attribute) : item));
  const start = given.value('start') ?? runtime.make.integer(0);
  const all = [start, ...items];
  const total = all.reduce((so, item) => so + (numberOf(item) ?? NaN), 0);
  if (Number.isNaN(total)) throw new Fault('sum: expected numbers');
  return all.some(({ type }) => type === 'FloatValue') ? runtime.make.float(total) : runtime.make.integer(total);
};

const int: Filter = (runtime, value, given) => {
  const fallback = given.value('default') ?? runtime.make.integer(0);
  const number = numberOf(value) ?? (value.type === 'StringValue' ? parsed(runtime, value.value) : NaN);
  return Number.isSafeInteger(Math.trunc(number)) ? runtime.make.integer(Math.trunc(number) + 0) : fallback;
};

const float: Filter = (runtime, value, given) => {
  const number = numberOf(value) ?? (value.type === 'StringValue' ? parsed(runtime, value.value) : NaN);
  return Number.isNaN(number) ? (given.value('default') ?? runtime.make.float(0)) : runtime.make.float(number);
};

/** A text as a number, as Python reads it; NaN if it is none. */
function parsed({ budget }: Runtime, text: string): number {
  budget.codePoints(text.length);
  const number = strip(text).replace(/(?<=\d)_(?=\d)/g, '');
  return /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i.test(number) ? Number(number) : NaN;
}

const round: Filter = ({ make }, value, given) => {
  const number = numberOf(value);
  if (number === undefined) throw new Fault(`round: expected a number, got ${typeName(value)}`);
  const scale = 10 ** (given.integer('precision') ?? 0);
  const method = given.text('method') ?? 'common';
  if (method === 'common' && value.type !== 'FloatValue') return make.integer(halfToEven(number * scale) / scale);
  if (method === 'common') return make.float(halfToEven(number * scale) / scale);
  return make.float((method === 'ceil' ? Math.ceil(number * scale) : Math.floor(number * scale)) / scale);
};

function halfToEven(value: number): number {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}

const WORD_START = new RegExp(`([-${BLANKS}({[<]+)`);

const title: Filter = (runtime, value) => {
  const text = textOf(runtime, value);
  runtime.budget.codePoints(text.length);
  runtime.budget.characters(3 * text.length);
  const words = text.split(WORD_START).map((word) => {
    const [first = ''] = word;
    return first.toUpperCase() + word.slice(first.length).toLowerCase();
  });
  return runtime.make.text(words.join(''));
};

/** `select`, `reject`, `selectattr` and `rejectattr`, whose arguments name a test and its argument. */
function selected(runtime: Runtime, name: string, items: readonly Value[], args: readonly Value[]): Value {
  const [attribute, rest] = name.endsWith('attr') ? [args[0], args.slice(1)] : [undefined, args];
  const [test, ...others] = rest;
  const testName = test === undefined ? undefined : textOf(runtime, test);
  const holds = (part: Value): boolean =>
    testName === undefined ? isTrue(part) : tested(runtime, testName, [part, ...others]);
  const isKept = (item: Value): boolean =>
    holds(attribute ? attributeOf(runtime, item, attribute) : item) !== name.startsWith('reject');
  return runtime.make.list(items.filter(isKept));
}

function mapped(runtime: Runtime, item: Value, args: readonly Value[]): Value {
  const [first, ...others] = args;
  if (first?.type === 'StringValue') return filtered(runtime, first.value, item, others);
  const given = bound('filter map', ['attribute', 'default'], args);
  const part = attributeOf(runtime, item, given.required('attribute'));
  return part.type === 'UndefinedValue' ? (given.value('default') ?? part) : part;
}

/** Runs a test. @throws Fault for one that is unknown. */
export function tested(runtime: Runtime, name: string, [value, ...args]: readonly Value[]): boolean {
  const test = TESTS.get(name);
  if (!test) throw new Fault(`No test named '${name}'`);
  runtime.budget.items(1);
  return test(runtime, value as Value, args[0] ?? runtime.make.missing(`the test '${name}' needs an argument`));
}

const EMPTY = 'the sequence was empty';

/** The end of a sequence; only one character of a text is read. */
const end =
  (at: 0 | -1): Filter =>
  (runtime, value) => {
    if (isList(value)) return value.value.at(at) ?? runtime.make.missing(EMPTY);
    const part = value.type === 'StringValue' ? runtime.make.text(value.value.slice(...(at ? [-2] : [0, 2]))) : value;
    return itemsOf(runtime, part).at(at) ?? runtime.make.missing(EMPTY);
  };

const byDefault: Filter = ({ make }, value, given) =>
  value.type === 'UndefinedValue' || (given.truth('boolean') && !isTrue(value))
    ? (given.value('default_value') ?? make.text(''))
    : value;

const escape: Filter = (runtime, value) =>
  runtime.safe.has(value) ? value : markedSafe(runtime, escapedHtml(runtime, value));

const trim: Filter = (runtime, value, given) => {
  const [text, characters] = [textOf(runtime, value), given.text('chars')];
  runtime.budget.codePoints(text.length + (characters?.length ?? 0));
  return runtime.make.text(strip(text, characters));
};

const abs: Filter = ({ make }, value) => {
  const number = numberOf(value);
  if (number === undefined) throw new Fault(`bad operand type for abs(): '${typeName(value)}'`);
  return value.type === 'FloatValue' ? make.float(Math.abs(number)) : make.integer(Math.abs(number));
};

const items: Filter = (runtime, value) => {
  if (value.type === 'UndefinedValue') return runtime.make.list([]);
  if (!isMapping(value)) throw new Fault('Can only get item pairs from a mapping.');
  return pairsOf(runtime, value);
};

const replace: Filter = (runtime, value, given) => {
  const [from, to] = [given.required('old'), given.required('new')].map((one) => textOf(runtime, one));
  return replacedIn(runtime, textOf(runtime, value), { from, to, most: given.integer('count') });
};

const length: Filter = (runtime, value) => runtime.make.integer(sizeOf(runtime, value));

/** The filters with their parameters. */
const FILTERS: ReadonlyMap<string, readonly [parameters: readonly string[], run: Filter]> = new Map(
  Object.entries<readonly [readonly string[], Filter]>({
    abs: [[], abs],
    capitalize: [[], byMethod('capitalize')],
    count: [[], length],
    d: [['default_value', 'boolean'], byDefault],
    default: [['default_value', 'boolean'], byDefault],
    dictsort: [['case_sensitive', 'by', 'reverse'], dictsort],
    e: [[], escape],
    escape: [[], escape],
    first: [[], end(0)],
    float: [['default'], float],
    generation: [[], (_, value) => value],
    indent: [['width', 'first', 'blank'], indent],
    int: [['default'], int],
    items: [[], items],
    join: [['d', 'attribute'], join],
    last: [[], end(-1)],
    length: [[], length],
    list: [[], (runtime, value) => runtime.make.list(itemsOf(runtime, value))],
    lower: [[], byMethod('lower')],
    max: [['case_sensitive', 'attribute'], extreme(-1)],
    min: [['case_sensitive', 'attribute'], extreme(1)],
    replace: [['old', 'new', 'count'], replace],
    reverse: [[], reverse],
    round: [['precision', 'method'], round],
    safe: [[], (runtime, value) => markedSafe(runtime, textOf(runtime, value))],
    sort: [['reverse', 'case_sensitive', 'attribute'], sort],
    string: [[], (runtime, value) => (runtime.safe.has(value) ? value : runtime.make.text(textOf(runtime, value)))],
    sum: [['attribute', 'start'], sum],
    title: [[], title],
    tojson: [['ensure_ascii', 'indent', 'separators', 'sort_keys'], tojson],
    trim: [['chars'], trim],
    unique: [['case_sensitive', 'attribute'], unique],
    upper: [[], byMethod('upper')],
  }),
);
