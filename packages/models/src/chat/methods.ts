/** The methods of Python's texts, dictionaries and lists. */
import { invoked, method, type Method } from './arguments.js';
import { Fault } from './budget.js';
import type { List, Mapping, Value } from './jinja.js';
import { textOf } from './printing.js';
import {
  BLANKS,
  capitalized,
  inTitleCase,
  lengthOf,
  replaced,
  splitAt,
  splitAtFromEnd,
  splitBlanks,
  splitBlanksFromEnd,
  splitLines,
  stripEnd,
  stripStart,
} from './text.js';
import { isEqual, isList, isMapping, itemsOf, typeName, type Runtime } from './values.js';

/** Returns a method of a value; undefined if its type has none of this name. */
export function methodOf(runtime: Runtime, self: Value, name: string): Value | undefined {
  const callable = <T>(methods: ReadonlyMap<string, Method<T>>, owner: T): Value | undefined => {
    const method = methods.get(name);
    return method && runtime.make.callable((args) => invoked(runtime, `${name}()`, method, [owner, ...args]));
  };
  if (self.type === 'StringValue') {
    if (name === 'format') return runtime.make.callable((args) => formatted(runtime, self.value, args));
    return callable(TEXT_METHODS, self.value);
  }
  if (isMapping(self)) return callable(DICT_METHODS, self);
  return isList(self) ? callable(LIST_METHODS, self) : undefined;
}

/** Calls a method without arguments on the printed form of a value. */
export function called(runtime: Runtime, value: Value, name: string): Value {
  return invoked(runtime, name, TEXT_METHODS.get(name) as Method<string>, [textOf(runtime, value)]);
}

const [FIRST, SECOND] = ['argument 1', 'argument 2'] as const;

/** A method that maps a text to another at most three times as long. */
function mapping(map: (text: string) => string): Method<string> {
  return method([], (self, _, { budget }) => {
    budget.codePoints(self.length);
    budget.characters(3 * self.length);
    return map(self);
  });
}

/** A method that removes blanks or given characters. */
function stripping(strip: (text: string, characters?: string) => string): Method<string> {
  return method([FIRST], (self, given, { budget }) => {
    const characters = given.text(FIRST);
    budget.codePoints(self.length + (characters?.length ?? 0));
    return strip(self, characters);
  });
}

/** Removes blanks, or the given characters, from both ends of a text. */
export const strip = (text: string, characters?: string): string => stripStart(stripEnd(text, characters), characters);

function splitting(
  atBlanks: (text: string, most: number) => string[],
  at: (text: string, separator: string, most: number) => string[],
): Method<string> {
  return method(['sep', 'maxsplit'], (self, given, { budget }) => {
    const separator = given.text('sep');
    if (separator === '') throw new Fault('empty separator');
    budget.search(self.length, separator?.length ?? 1);
    budget.codePoints(self.length);
    const most = given.integer('maxsplit') ?? -1;
    const parts = separator === undefined ? atBlanks(self, most) : at(self, separator, most);
    budget.items(parts.length);
    return parts;
  });
}

/** A method that asks whether a text begins or ends with one of several. */
function edge(has: 'startsWith' | 'endsWith'): Method<string> {
  return method([FIRST], (self, given, runtime) => {
    const other = given.required(FIRST);
    const options = other.type === 'TupleValue' ? itemsOf(runtime, other) : [other];
    return options.some((option) => {
      if (option.type !== 'StringValue')
        throw new Fault(`expected a text or a tuple of texts, got ${typeName(option)}`);
      runtime.budget.characters(option.value.length);
      return self[has](option.value);
    });
  });
}

type Search = 'indexOf' | 'lastIndexOf';

function finding(search: Search, isRequired = false): Method<string> {
  return method([FIRST], (self, given, { budget }) => {
    const other = given.text(FIRST) ?? '';
    budget.search(self.length, other.length);
    const at = self[search](other);
    if (at < 0 && isRequired) throw new Fault('substring not found');
    budget.codePoints(Math.max(at, 0));
    return at < 0 ? -1 : lengthOf(self.slice(0, at));
  });
}

/** A method that asks something of every character of a text that is not empty. */
function asking(pattern: RegExp): Method<string> {
  return method([], (self, _, { budget }) => {
    budget.codePoints(self.length);
    return pattern.test(self);
  });
}

function partitioning(search: Search): Method<string> {
  return method([FIRST], (self, given, { make, budget }) => {
    const separator = given.text(FIRST) ?? '';
    if (separator === '') throw new Fault('empty separator');
    budget.search(self.length, separator.length);
    const at = self[search](separator);
    const missing = search === 'indexOf' ? [self, '', ''] : ['', '', self];
    const parts = at < 0 ? missing : [self.slice(0, at), separator, self.slice(at + separator.length)];
    return make.tuple(parts.map(make.text));
  });
}

function removing(has: 'startsWith' | 'endsWith'): Method<string> {
  return method([FIRST], (self, given, { budget }) => {
    const part = given.text(FIRST) ?? '';
    budget.characters(self.length);
    if (part === '' || !self[has](part)) return self;
    return has === 'startsWith' ? self.slice(part.length) : self.slice(0, -part.length);
  });
}

/** Replaces parts of a text, by default all. */
export function replacedIn({ budget }: Runtime, text: string, from: string, to: string, most = -1): string {
  budget.search(text.length, from.length);
  const found = from === '' ? text.length + 1 : text.split(from).length - 1;
  if (from === '') budget.items(text.length);
  budget.characters(text.length + (most < 0 ? found : Math.min(found, most)) * to.length);
  return replaced(text, from, to, most);
}

/** Joins the printed forms of values. */
export function joinedTexts(runtime: Runtime, items: readonly Value[], separator: string): string {
  const texts = items.map((item) => textOf(runtime, item));
  const length = texts.reduce((sum, text) => sum + text.length + separator.length, 0);
  runtime.budget.characters(length);
  return texts.join(separator);
}

/** Python's `str.format`, for fields without a format: `{}`, `{0}` and `{name}`. */
function formatted(runtime: Runtime, self: string, args: readonly Value[]): Value {
  runtime.budget.codePoints(self.length);
  const last = args.at(-1);
  const named = last?.type === 'KeywordArgumentsValue' ? last.value : undefined;
  let [text, next, from] = ['', 0, 0];
  for (const match of self.matchAll(/\{\{|\}\}|\{(\w*)\}|[{}]/g)) {
    const [found, field] = match;
    if (field === undefined && found.length === 1)
      throw new Fault('format() is supported for fields like {}, {0} and {name}');
    const key = field === '' ? String(next++) : field;
    const value = key === undefined ? undefined : /^\d+$/.test(key) ? args[Number(key)] : named?.get(key);
    if (key !== undefined && !value) throw new Fault(`format() has no argument for the field '${key}'`);
    text += self.slice(from, match.index) + (value ? textOf(runtime, value) : (found[0] ?? ''));
    runtime.budget.length(text.length);
    from = match.index + found.length;
  }
  return runtime.make.text(text + self.slice(from));
}

const TEXT_METHODS: ReadonlyMap<string, Method<string>> = new Map(
  Object.entries<Method<string>>({
    capitalize: mapping(capitalized),
    lower: mapping((text) => text.toLowerCase()),
    upper: mapping((text) => text.toUpperCase()),
    title: mapping(inTitleCase),
    swapcase: mapping((text) =>
      text.replace(/\p{Cased}/gu, (one) => (one === one.toLowerCase() ? one.toUpperCase() : one.toLowerCase())),
    ),
    strip: stripping(strip),
    lstrip: stripping(stripStart),
    rstrip: stripping(stripEnd),
    split: splitting(splitBlanks, splitAt),
    rsplit: splitting(splitBlanksFromEnd, splitAtFromEnd),
    splitlines: method(['keepends'], (self, given, { budget }) => {
      budget.codePoints(self.length);
      const lines = splitLines(self, given.truth('keepends'));
      budget.items(lines.length);
      return lines;
    }),
    startswith: edge('startsWith'),
    endswith: edge('endsWith'),
    find: finding('indexOf'),
    rfind: finding('lastIndexOf'),
    index: finding('indexOf', true),
    rindex: finding('lastIndexOf', true),
    count: method([FIRST], (self, given, { budget }) => {
      const part = given.text(FIRST) ?? '';
      budget.search(self.length, part.length);
      budget.codePoints(self.length);
      return part === '' ? lengthOf(self) + 1 : self.split(part).length - 1;
    }),
    replace: method([FIRST, SECOND, 'count'], (self, given, runtime) =>
      replacedIn(runtime, self, given.text(FIRST) ?? '', given.text(SECOND) ?? '', given.integer('count')),
    ),
    join: method([FIRST], (self, given, runtime) => {
      const items = itemsOf(runtime, given.required(FIRST));
      const odd = items.find(({ type }) => type !== 'StringValue');
      if (odd) throw new Fault(`sequence item: expected str instance, ${typeName(odd)} found`);
      return joinedTexts(runtime, items, self);
    }),
    partition: partitioning('indexOf'),
    rpartition: partitioning('lastIndexOf'),
    removeprefix: removing('startsWith'),
    removesuffix: removing('endsWith'),
    isalpha: asking(/^\p{L}+$/u),
    isalnum: asking(/^[\p{L}\p{N}]+$/u),
    isdigit: asking(/^[\p{Nd}\u00b2\u00b3\u00b9\u2070\u2074-\u2079\u2080-\u2089]+$/u),
    isdecimal: asking(/^\p{Nd}+$/u),
    isascii: asking(/^[\0-\x7f]*$/),
    isupper: asking(/^(?=.*\p{Lu})[^\p{Ll}\p{Lt}]+$/su),
    islower: asking(/^(?=.*\p{Ll})[^\p{Lu}\p{Lt}]+$/su),
    isspace: asking(new RegExp(`^[${BLANKS}]+$`)),
  }),
);

const DICT_METHODS: ReadonlyMap<string, Method<Mapping>> = new Map(
  Object.entries<Method<Mapping>>({
    get: method([FIRST, SECOND], ({ value }, given, { make }) => {
      const key = given.required(FIRST);
      return (key.type === 'StringValue' && value.get(key.value)) || (given.value(SECOND) ?? make.none);
    }),
    keys: method([], (self, _, runtime) => itemsOf(runtime, self)),
    values: method([], ({ value }, _, { budget }) => {
      budget.items(value.size);
      return Array.from(value.values());
    }),
    items: method([], (self, _, runtime) => pairsOf(runtime, self)),
    copy: method([], ({ value }, _, { make }) => make.mapping(value)),
  }),
);

/** The pairs of a dictionary. */
export function pairsOf({ make, budget }: Runtime, { value }: Mapping): Value[] {
  budget.items(2 * value.size);
  return Array.from(value, ([key, item]) => make.tuple([make.text(key), item]));
}

const LIST_METHODS: ReadonlyMap<string, Method<List>> = new Map(
  Object.entries<Method<List>>({
    index: method([FIRST], (self, given, runtime) => {
      const item = given.required(FIRST);
      const at = itemsOf(runtime, self).findIndex((one) => isEqual(runtime, one, item));
      if (at < 0) throw new Fault('the value is not in the list');
      return at;
    }),
    count: method([FIRST], (self, given, runtime) => {
      const item = given.required(FIRST);
      return itemsOf(runtime, self).filter((one) => isEqual(runtime, one, item)).length;
    }),
    copy: method([], ({ value }) => value),
  }),
);
