/** The methods of Python's texts, dictionaries and lists. */
import { bound, type Arguments } from './arguments.js';
import { Fault } from './budget.js';
import type { List, Mapping, Value } from './jinja.js';
import { textOf } from './printing.js';
import {
  capitalized,
  inTitleCase,
  isBlank,
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

interface Method<T> {
  readonly parameters: readonly string[];
  readonly run: (runtime: Runtime, self: T, given: Arguments) => Value;
}

/** Returns a method of a value; undefined if its type has none of this name. */
export function methodOf(runtime: Runtime, self: Value, name: string): Value | undefined {
  if (self.type === 'StringValue') {
    if (name === 'format') return runtime.make.callable((args) => formatted(runtime, self.value, args));
    return callable(runtime, self.value, name, TEXT_METHODS);
  }
  if (isMapping(self)) return callable(runtime, self, name, DICT_METHODS);
  return isList(self) ? callable(runtime, self, name, LIST_METHODS) : undefined;
}

/** Calls a method without arguments on the printed form of a value. */
export function called(runtime: Runtime, value: Value, name: string): Value {
  const method = TEXT_METHODS.get(name) as Method<string>;
  return method.run(runtime, textOf(runtime, value), bound(name, [], []));
}

function callable<T>(
  runtime: Runtime,
  self: T,
  name: string,
  methods: ReadonlyMap<string, Method<T>>,
): Value | undefined {
  const method = methods.get(name);
  if (!method) return undefined;
  return runtime.make.callable((args) => method.run(runtime, self, bound(`${name}()`, method.parameters, args)));
}

const NAMELESS = (count: number): string[] => Array.from({ length: count }, (_, index) => `argument ${index + 1}`);
const [FIRST, SECOND] = NAMELESS(2) as [string, string];

/** A method that maps a text to another at most `growth` times as long. */
function mapping(map: (text: string) => string, growth = 1): Method<string> {
  return {
    parameters: [],
    run({ make, budget }, self) {
      budget.codePoints(self.length);
      budget.characters(self.length * growth);
      return make.text(map(self));
    },
  };
}

/** A method that removes blanks or given characters. */
function stripping(strip: (text: string, characters?: string) => string): Method<string> {
  return {
    parameters: NAMELESS(1),
    run({ make, budget }, self, given) {
      const characters = given.text(FIRST);
      budget.codePoints(self.length + (characters?.length ?? 0));
      return make.text(strip(self, characters));
    },
  };
}

/** Removes blanks, or the given characters, from both ends of a text. */
export const strip = (text: string, characters?: string): string => stripStart(stripEnd(text, characters), characters);

function splitting(
  atBlanks: (text: string, most: number) => string[],
  at: (text: string, separator: string, most: number) => string[],
): Method<string> {
  return {
    parameters: ['sep', 'maxsplit'],
    run({ make, budget }, self, given) {
      const separator = given.text('sep');
      if (separator === '') throw new Fault('empty separator');
      budget.search(self.length, separator?.length ?? 1);
      budget.codePoints(self.length);
      const most = given.integer('maxsplit') ?? -1;
      const parts = separator === undefined ? atBlanks(self, most) : at(self, separator, most);
      budget.items(parts.length);
      return make.list(parts.map(make.text));
    },
  };
}

/** A method that asks whether a text begins or ends with one of several. */
function edge(has: (text: string, other: string) => boolean): Method<string> {
  return {
    parameters: NAMELESS(1),
    run(runtime, self, given) {
      const other = given.required(FIRST);
      const options = isList(other) && other.type === 'TupleValue' ? itemsOf(runtime, other) : [other];
      const matches = options.some((option) => {
        if (option.type !== 'StringValue')
          throw new Fault(`expected a text or a tuple of texts, got ${typeName(option)}`);
        runtime.budget.characters(option.value.length);
        return has(self, option.value);
      });
      return runtime.make.truth(matches);
    },
  };
}

function finding(find: (text: string, other: string) => number, isRequired = false): Method<string> {
  return {
    parameters: NAMELESS(1),
    run({ make, budget }, self, given) {
      const other = given.text(FIRST) ?? '';
      budget.search(self.length, other.length);
      const at = find(self, other);
      if (at < 0 && isRequired) throw new Fault('substring not found');
      budget.codePoints(Math.max(at, 0));
      return make.integer(at < 0 ? -1 : lengthOf(self.slice(0, at)));
    },
  };
}

/** A method that asks something of every character of a text that is not empty. */
function asking(pattern: RegExp): Method<string> {
  return {
    parameters: [],
    run({ make, budget }, self) {
      budget.codePoints(self.length);
      return make.truth(pattern.test(self));
    },
  };
}

function partitioning(find: (text: string, separator: string) => number, isFromEnd: boolean): Method<string> {
  return {
    parameters: NAMELESS(1),
    run({ make, budget }, self, given) {
      const separator = given.text(FIRST) ?? '';
      if (separator === '') throw new Fault('empty separator');
      budget.search(self.length, separator.length);
      const at = find(self, separator);
      const missing = isFromEnd ? ['', '', self] : [self, '', ''];
      const parts = at < 0 ? missing : [self.slice(0, at), separator, self.slice(at + separator.length)];
      return make.tuple(parts.map(make.text));
    },
  };
}

function removing(
  has: (text: string, part: string) => boolean,
  rest: (text: string, length: number) => string,
): Method<string> {
  return {
    parameters: NAMELESS(1),
    run({ make, budget }, self, given) {
      const part = given.text(FIRST) ?? '';
      budget.characters(self.length);
      return make.text(part !== '' && has(self, part) ? rest(self, part.length) : self);
    },
  };
}

const replace: Method<string> = {
  parameters: [FIRST, SECOND, 'count'],
  run: (runtime, self, given) =>
    replacedIn(runtime, self, { from: given.text(FIRST), to: given.text(SECOND), most: given.integer('count') }),
};

/** Replaces parts of a text, by default all. */
export function replacedIn(
  { make, budget }: Runtime,
  text: string,
  {
    from = '',
    to = '',
    most = -1,
  }: Partial<Readonly<Record<'from' | 'to', string | undefined>>> & { readonly most?: number | undefined },
): Value {
  budget.search(text.length, from.length);
  const found = from === '' ? text.length + 1 : text.split(from).length - 1;
  if (from === '') budget.items(text.length);
  budget.characters(text.length + (most < 0 ? found : Math.min(found, most)) * to.length);
  return make.text(replaced(text, from, to, most));
}

const join: Method<string> = {
  parameters: NAMELESS(1),
  run: (runtime, self, given) => {
    const items = itemsOf(runtime, given.required(FIRST));
    const odd = items.find(({ type }) => type !== 'StringValue');
    if (odd) throw new Fault(`sequence item: expected str instance, ${typeName(odd)} found`);
    return joinedTexts(runtime, items, self);
  },
};

/** Joins the printed forms of values. */
export function joinedTexts(runtime: Runtime, items: readonly Value[], separator: string): Value {
  const texts = items.map((item) => textOf(runtime, item));
  const length = texts.reduce((sum, text) => sum + text.length + separator.length, 0);
  runtime.budget.characters(length);
  return runtime.make.text(texts.join(separator));
}

/** Python's `str.format`, for fields without a format: `{}`, `{0}` and `{name}`. */
function formatted(runtime: Runtime, self: string, args: readonly Value[]): Value {
  runtime.budget.codePoints(self.length);
  let [text, next, from] = ['', 0, 0];
  for (const match of self.matchAll(/\{\{|\}\}|\{(\w*)\}|[{}]/g)) {
    const [found, field] = match;
    if (field === undefined && found.length === 1)
      throw new Fault('format() is supported for fields like {}, {0} and {name}');
    const key = field === '' ? String(next++) : field;
    const last = args.at(-1);
    const named = last?.type === 'KeywordArgumentsValue' ? last.value : undefined;
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
    capitalize: mapping(capitalized, 3),
    lower: mapping((text) => text.toLowerCase(), 3),
    upper: mapping((text) => text.toUpperCase(), 3),
    title: mapping(inTitleCase, 3),
    swapcase: mapping(
      (text) =>
        text.replace(/\p{Cased}/gu, (one) => (one === one.toLowerCase() ? one.toUpperCase() : one.toLowerCase())),
      3,
    ),
    strip: stripping(strip),
    lstrip: stripping(stripStart),
    rstrip: stripping(stripEnd),
    split: splitting(splitBlanks, splitAt),
    rsplit: splitting(splitBlanksFromEnd, splitAtFromEnd),
    splitlines: {
      parameters: ['keepends'],
      run({ make, budget }, self, given) {
        budget.codePoints(self.length);
        const lines = splitLines(self, given.truth('keepends'));
        budget.items(lines.length);
        return make.list(lines.map(make.text));
      },
    },
    startswith: edge((text, other) => text.startsWith(other)),
    endswith: edge((text, other) => text.endsWith(other)),
    find: finding((text, other) => text.indexOf(other)),
    rfind: finding((text, other) => text.lastIndexOf(other)),
    index: finding((text, other) => text.indexOf(other), true),
    rindex: finding((text, other) => text.lastIndexOf(other), true),
    count: {
      parameters: NAMELESS(1),
      run({ make, budget }, self, given) {
        const part = given.text(FIRST) ?? '';
        budget.search(self.length, part.length);
        budget.codePoints(self.length);
        return make.integer(part === '' ? lengthOf(self) + 1 : self.split(part).length - 1);
      },
    },
    replace,
    join,
    partition: partitioning((text, other) => text.indexOf(other), false),
    rpartition: partitioning((text, other) => text.lastIndexOf(other), true),
    removeprefix: removing(
      (text, part) => text.startsWith(part),
      (text, length) => text.slice(length),
    ),
    removesuffix: removing(
      (text, part) => text.endsWith(part),
      (text, length) => text.slice(0, -length),
    ),
    isalpha: asking(/^\p{L}+$/u),
    isalnum: asking(/^[\p{L}\p{N}]+$/u),
    isdigit: asking(/^[\p{Nd}\u00b2\u00b3\u00b9\u2070\u2074-\u2079\u2080-\u2089]+$/u),
    isdecimal: asking(/^\p{Nd}+$/u),
    isascii: asking(/^[\0-\x7f]*$/),
    isupper: asking(/^(?=.*\p{Lu})[^\p{Ll}\p{Lt}]+$/su),
    islower: asking(/^(?=.*\p{Ll})[^\p{Lu}\p{Lt}]+$/su),
    isspace: {
      parameters: [],
      run({ make, budget }, self) {
        budget.codePoints(self.length);
        return make.truth(self !== '' && Array.from(self).every(isBlank));
      },
    },
  }),
);

const DICT_METHODS: ReadonlyMap<string, Method<Mapping>> = new Map(
  Object.entries<Method<Mapping>>({
    get: {
      parameters: [FIRST, SECOND],
      run({ make }, { value }, given) {
        const key = given.required(FIRST);
        return (key.type === 'StringValue' && value.get(key.value)) || (given.value(SECOND) ?? make.none);
      },
    },
    keys: { parameters: [], run: (runtime, self) => runtime.make.list(itemsOf(runtime, self)) },
    values: {
      parameters: [],
      run({ make, budget }, { value }) {
        budget.items(value.size);
        return make.list(Array.from(value.values()));
      },
    },
    items: { parameters: [], run: pairsOf },
    copy: {
      parameters: [],
      run: ({ make }, { value }) => make.mapping(value),
    },
  }),
);

/** The pairs of a dictionary. */
export function pairsOf({ make, budget }: Runtime, { value }: Mapping): Value {
  budget.items(2 * value.size);
  return make.list(Array.from(value, ([key, item]) => make.tuple([make.text(key), item])));
}

const LIST_METHODS: ReadonlyMap<string, Method<List>> = new Map(
  Object.entries<Method<List>>({
    index: {
      parameters: NAMELESS(1),
      run(runtime, self, given) {
        const item = given.required(FIRST);
        const at = itemsOf(runtime, self).findIndex((one) => isEqual(runtime, one, item));
        if (at < 0) throw new Fault('the value is not in the list');
        return runtime.make.integer(at);
      },
    },
    count: {
      parameters: NAMELESS(1),
      run(runtime, self, given) {
        const item = given.required(FIRST);
        return runtime.make.integer(itemsOf(runtime, self).filter((one) => isEqual(runtime, one, item)).length);
      },
    },
    copy: { parameters: [], run: ({ make }, { value }) => make.list(value) },
  }),
);
