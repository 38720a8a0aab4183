/** The filters of Jinja2, and transformers' own `tojson`. */
import { bound, method, type Arguments, type Method } from './arguments.js';
import { Fault, type Budget } from './budget.js';
import { joinedTexts, mapped, pairsOf, replacedIn, strip } from './methods.js';
import { markedSafe } from './operators.js';
import { jsonOf, textOf } from './printing.js';
import { TESTS } from './tests.js';
import { BLANKS, capitalized, splitLines } from './text.js';
import {
  compared,
  Float,
  Html,
  isEqual,
  isMapping,
  isTrue,
  itemsOf,
  listOf,
  Missing,
  Namespace,
  numberOf,
  sizeOf,
  textIn,
  typeName,
  undefinedError,
  type Given,
  type Value,
} from './values.js';

type Filter = Method<Value>;

/** Applies a filter. @throws Fault for one that is unknown. */
export function filtered(budget: Budget, name: string, value: Value, given: Given): Value {
  budget.items(1);
  if (PER_ITEM.test(name)) {
    const items = isTrue(value) ? itemsOf(budget, value) : [];
    return name === 'map' ? items.map((item) => part(budget, item, given)) : selected(budget, name, items, given);
  }
  const filter = FILTERS.get(name);
  if (!filter) throw new Fault(`No filter named '${name}'`);
  return filter.run(value, budget, bound(`filter ${name}`, filter.parameters, given));
}

/** The filters that apply another filter or a test to each item. */
const PER_ITEM = /^(?:map|(?:select|reject)(?:attr)?)$/;

/** What `map` makes of an item: an attribute, or the result of another filter. */
function part(budget: Budget, item: Value, given: Given): Value {
  const [filter, ...positional] = given.positional;
  const name = filter === undefined ? undefined : textIn(filter);
  if (name !== undefined) return filtered(budget, name, item, { ...given, positional });
  const own = bound('filter map', ['attribute', 'default'], given);
  const found = partOf(budget, item, own.required('attribute'));
  return found instanceof Missing ? own.value('default', found) : found;
}

/** `select`, `reject`, `selectattr` and `rejectattr`, whose arguments name a test and its argument. */
function selected(budget: Budget, name: string, items: readonly Value[], { positional }: Given): Value[] {
  const [attribute, rest] = name.endsWith('attr') ? [positional[0], positional.slice(1)] : [null, positional];
  const [test, ...others] = rest;
  const testName = test === undefined ? undefined : textOf(budget, test);
  const holds = (value: Value): boolean =>
    testName === undefined ? isTrue(value) : tested(budget, testName, value, others[0]);
  return items.filter((item) => holds(partOf(budget, item, attribute)) !== name.startsWith('reject'));
}

/** Runs a test. @throws Fault for one that is unknown. */
export function tested(
  budget: Budget,
  name: string,
  value: Value,
  other: Value = new Missing(`the test '${name}' needs an argument`),
): boolean {
  const test = TESTS.get(name);
  if (!test) throw new Fault(`No test named '${name}'`);
  budget.items(1);
  return test(budget, value, other);
}

/** An item, or the attribute of it that a filter reads; dots separate steps, and numbers are positions. */
function partOf(budget: Budget, item: Value, attribute: Value = null): Value {
  if (attribute === null) return item;
  const path = textOf(budget, attribute);
  budget.codePoints(path.length + 32);
  return path.split('.').reduce<Value>((owner, step) => {
    if (owner instanceof Missing) throw undefinedError(owner);
    const fields = owner instanceof Namespace ? owner.fields : owner;
    const found = isMapping(fields) ? fields.get(step) : /^\d+$/.test(step) ? listOf(owner)?.[Number(step)] : undefined;
    return found === undefined ? new Missing(`'${typeName(owner)} object' has no attribute '${step}'`) : found;
  }, item);
}

/** Items with what they are compared by: texts in lower case, unless case counts. */
function keyed(
  budget: Budget,
  items: readonly Value[],
  given: Arguments,
  attribute = given.value('attribute', null),
): { item: Value; key: Value }[] {
  return items.map((item) => {
    const key = partOf(budget, item, attribute);
    const text = textIn(key);
    if (given.truth('case_sensitive') || text === undefined) return { item, key };
    budget.codePoints(text.length);
    return { item, key: text.toLowerCase() };
  });
}

/** Items in the order of their keys. */
function sorted(budget: Budget, items: ReturnType<typeof keyed>, given: Arguments): Value[] {
  const sign = given.truth('reverse') ? -1 : 1;
  return items.sort((a, b) => sign * compared(budget, a.key, b.key)).map(({ item }) => item);
}

/** The end of a sequence; only one character of a text is read. */
const end = (at: 0 | -1): Filter =>
  method([], (value, budget) => {
    const short = textIn(value)?.slice(...(at ? [-2] : [0, 2]));
    const item = (listOf(value) ?? itemsOf(budget, short ?? value)).at(at);
    return item === undefined ? new Missing('the sequence was empty') : item;
  });

/** A filter that maps the printed form of a value to another text at most three times as long. */
const mapping = (map: (text: string) => string): Filter =>
  method([], (value, budget) => mapped(budget, textOf(budget, value), map));

const WORD_START = new RegExp(`([-${BLANKS}({[<]+)`);

/** The words of a text in title case. Unlike for Python's `str.title`, an apostrophe does not end a word. */
function titled(text: string): string {
  const words = text.split(WORD_START).map((word) => {
    const [first = ''] = word;
    return first.toUpperCase() + word.slice(first.length).toLowerCase();
  });
  return words.join('');
}

/** The text of an indentation: that of `name`, or as many blanks. */
function indentOf(budget: Budget, given: Arguments, name: string, otherwise?: number): string | undefined {
  const text = textIn(given.value(name, null));
  if (text !== undefined) return text;
  const width = given.integer(name) ?? otherwise;
  if (width === undefined) return undefined;
  budget.characters(Math.max(0, width));
  return ' '.repeat(Math.max(0, width));
}

/** A value as a number, a text as Python reads it; NaN if it is none. */
function parsed(budget: Budget, value: Value): number {
  const text = textIn(value);
  if (text === undefined) return numberOf(value) ?? NaN;
  budget.codePoints(text.length);
  const number = strip(text).replace(/(?<=\d)_(?=\d)/g, '');
  return /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?$/i.test(number) ? Number(number) : NaN;
}

const byDefault: Filter = method(['default_value', 'boolean'], (value, _, given) =>
  value instanceof Missing || (given.truth('boolean') && !isTrue(value)) ? given.value('default_value', '') : value,
);

const length: Filter = method([], (value, budget) => sizeOf(budget, value));

const FILTERS: ReadonlyMap<string, Filter> = new Map(
  Object.entries<Filter>({
    abs: method([], (value) => {
      const number = numberOf(value);
      if (number === undefined) throw new Fault(`bad operand type for abs(): '${typeName(value)}'`);
      return value instanceof Float ? new Float(Math.abs(number)) : Math.abs(number);
    }),
    capitalize: mapping(capitalized),
    count: length,
    d: byDefault,
    default: byDefault,
    dictsort: method(['case_sensitive', 'by', 'reverse'], (value, budget, given) => {
      if (!isMapping(value)) throw new Fault(`dictsort: expected a dict, got ${typeName(value)}`);
      const by = given.text('by') === 'value' ? 1 : 0;
      return sorted(budget, keyed(budget, pairsOf(budget, value), given, by), given);
    }),
    first: end(0),
    float: method(['default'], (value, budget, given) => {
      const number = parsed(budget, value);
      return Number.isNaN(number) ? given.value('default', new Float(0)) : new Float(number);
    }),
    generation: method([], (value) => value),
    indent: method(['width', 'first', 'blank'], (value, budget, given) => {
      const text = textOf(budget, value);
      const unit = indentOf(budget, given, 'width', 4) ?? '';
      budget.codePoints(text.length);
      const lines = splitLines(`${text}\n`, false);
      budget.items(lines.length);
      budget.characters(text.length + lines.length * unit.length);
      const [isBlankToo, isFirstToo] = [given.truth('blank'), given.truth('first')];
      const isIndented = (line: string, at: number): boolean => (at === 0 ? isFirstToo : isBlankToo || line !== '');
      return lines.map((line, at) => (isIndented(line, at) ? unit + line : line)).join('\n');
    }),
    int: method(['default'], (value, budget, given) => {
      const number = Math.trunc(parsed(budget, value));
      return Number.isSafeInteger(number) ? number + 0 : given.value('default', 0);
    }),
    items: method([], (value, budget) => {
      if (value instanceof Missing) return [];
      if (!isMapping(value)) throw new Fault('Can only get item pairs from a mapping.');
      return pairsOf(budget, value);
    }),
    join: method(['d', 'attribute'], (value, budget, given) => {
      const separator = textOf(budget, given.value('d', ''));
      const attribute = given.value('attribute', null);
      const parts = itemsOf(budget, value).map((item) => partOf(budget, item, attribute));
      return joinedTexts(budget, parts, separator);
    }),
    last: end(-1),
    length,
    list: method([], (value, budget) => itemsOf(budget, value)),
    lower: mapping((text) => text.toLowerCase()),
    replace: method(['old', 'new', 'count'], (value, budget, given) => {
      const [from, to] = [textOf(budget, given.required('old')), textOf(budget, given.required('new'))];
      return replacedIn(budget, textOf(budget, value), from, to, given.integer('count'));
    }),
    reverse: method([], (value, budget) => {
      const items = [...itemsOf(budget, value)].reverse();
      return textIn(value) === undefined ? items : joinedTexts(budget, items, '');
    }),
    safe: method([], (value, budget) => markedSafe(budget, textOf(budget, value))),
    sort: method(['reverse', 'case_sensitive', 'attribute'], (value, budget, given) =>
      sorted(budget, keyed(budget, itemsOf(budget, value), given), given),
    ),
    string: method([], (value, budget) => (value instanceof Html ? value : textOf(budget, value))),
    title: mapping(titled),
    tojson: method(['ensure_ascii', 'indent', 'separators', 'sort_keys'], (value, budget, given) => {
      const indent = indentOf(budget, given, 'indent');
      const separators = listOf(given.value('separators', null)) ?? [];
      const [item, key] = separators.map((one) => textOf(budget, one));
      return jsonOf(budget, value, {
        ensureAscii: given.truth('ensure_ascii'),
        indent,
        separators: [item ?? (indent === undefined ? ', ' : ','), key ?? ': '],
        sortKeys: given.truth('sort_keys'),
      });
    }),
    trim: method(['chars'], (value, budget, given) => {
      const [text, characters] = [textOf(budget, value), given.text('chars')];
      budget.codePoints(text.length + (characters?.length ?? 0));
      return strip(text, characters);
    }),
    unique: method(['case_sensitive', 'attribute'], (value, budget, given) => {
      const kept: { item: Value; key: Value }[] = [];
      for (const one of keyed(budget, itemsOf(budget, value), given)) {
        if (!kept.some(({ key }) => isEqual(budget, key, one.key))) kept.push(one);
      }
      return kept.map(({ item }) => item);
    }),
    upper: mapping((text) => text.toUpperCase()),
  }),
);
