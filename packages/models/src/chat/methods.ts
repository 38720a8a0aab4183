/** The methods of Python's texts and dictionaries that chat templates call. */
import { bound, method, type Method } from './arguments.js';
import { Fault, type Budget } from './budget.js';
import { textOf } from './printing.js';
import {
  capitalized,
  inTitleCase,
  lengthOf,
  replaced,
  splitAt,
  splitBlanks,
  splitLines,
  stripEnd,
  stripStart,
  turned,
} from './text.js';
import { isMapping, itemsOf, textIn, Tuple, typeName, type Callable, type Given, type Value } from './values.js';

/** Returns a method of a value; undefined if its type has none of this name. */
export function methodOf(budget: Budget, self: Value, name: string): Callable | undefined {
  const text = textIn(self);
  if (text !== undefined && name === 'format') return (given) => formatted(budget, text, given);
  if (text !== undefined) return callable(TEXT_METHODS, name, budget, text);
  return isMapping(self) ? callable(DICT_METHODS, name, budget, self) : undefined;
}

function callable<T>(
  methods: ReadonlyMap<string, Method<T>>,
  name: string,
  budget: Budget,
  self: T,
): Callable | undefined {
  const method = methods.get(name);
  return method && ((given) => method.run(self, budget, bound(`${name}()`, method.parameters, given)));
}

const [FIRST, SECOND] = ['argument 1', 'argument 2'] as const;

/** A method that maps a text to another at most three times as long. */
function mapping(map: (text: string) => string): Method<string> {
  return method([], (self, budget) => mapped(budget, self, map));
}

/** Maps a text to another at most three times as long. */
export function mapped(budget: Budget, text: string, map: (text: string) => string): string {
  budget.codePoints(text.length);
  budget.characters(3 * text.length);
  return map(text);
}

/** A method that removes blanks or given characters. */
function stripping(strip: (text: string, characters?: string) => string): Method<string> {
  return method([FIRST], (self, budget, given) => {
    const characters = given.text(FIRST);
    budget.codePoints(self.length + (characters?.length ?? 0));
    return strip(self, characters);
  });
}

/** Removes blanks, or the given characters, from both ends of a text. */
export const strip = (text: string, characters?: string): string => stripStart(stripEnd(text, characters), characters);

/** A method that splits a text, from its start or from its end. */
function splitting(turn: (text: string) => string): Method<string> {
  return method(['sep', 'maxsplit'], (self, budget, given) => {
    const separator = given.text('sep');
    if (separator === '') throw new Fault('empty separator');
    budget.search(self.length, separator?.length ?? 1);
    budget.codePoints(self.length);
    const most = given.integer('maxsplit') ?? -1;
    const text = turn(self);
    const parts = separator === undefined ? splitBlanks(text, most) : splitAt(text, turn(separator), most);
    budget.items(parts.length);
    return turn === turned ? parts.map(turned).reverse() : parts;
  });
}

/** A method that asks whether a text begins or ends with one of several. */
function edge(has: 'startsWith' | 'endsWith'): Method<string> {
  return method([FIRST], (self, budget, given) => {
    const other = given.required(FIRST);
    return (other instanceof Tuple ? itemsOf(budget, other) : [other]).some((option) => {
      const text = textIn(option);
      if (text === undefined) throw new Fault(`expected a text or a tuple of texts, got ${typeName(option)}`);
      budget.characters(text.length);
      return self[has](text);
    });
  });
}

/** Replaces parts of a text, by default all. */
export function replacedIn(budget: Budget, text: string, from: string, to: string, most = -1): string {
  budget.search(text.length, from.length);
  const found = from === '' ? text.length + 1 : text.split(from).length - 1;
  if (from === '') budget.items(text.length);
  budget.characters(text.length + (most < 0 ? found : Math.min(found, most)) * to.length);
  return replaced(text, from, to, most);
}

/** Joins the printed forms of values. */
export function joinedTexts(budget: Budget, items: readonly Value[], separator: string): string {
  const texts = items.map((item) => textOf(budget, item));
  budget.characters(texts.reduce((sum, text) => sum + text.length + separator.length, 0));
  return texts.join(separator);
}

/** Python's `str.format`, for fields without a format: `{}`, `{0}` and `{name}`. */
function formatted(budget: Budget, self: string, { positional, named }: Given): string {
  budget.codePoints(self.length);
  let [text, next, from] = ['', 0, 0];
  for (const match of self.matchAll(/\{\{|\}\}|\{(\w*)\}|[{}]/g)) {
    const [found, field] = match;
    if (field === undefined && found.length === 1)
      throw new Fault('format() is supported for fields like {}, {0} and {name}');
    const key = field === '' ? String(next++) : field;
    const value = key === undefined ? found.slice(1) : /^\d+$/.test(key) ? positional[Number(key)] : named.get(key);
    if (value === undefined) throw new Fault(`format() has no argument for the field '${key}'`);
    text += self.slice(from, match.index) + textOf(budget, value);
    budget.length(text.length);
    from = match.index + found.length;
  }
  return text + self.slice(from);
}

const TEXT_METHODS: ReadonlyMap<string, Method<string>> = new Map(
  Object.entries<Method<string>>({
    capitalize: mapping(capitalized),
    lower: mapping((text) => text.toLowerCase()),
    upper: mapping((text) => text.toUpperCase()),
    title: mapping(inTitleCase),
    strip: stripping(strip),
    lstrip: stripping(stripStart),
    rstrip: stripping(stripEnd),
    split: splitting((text) => text),
    rsplit: splitting(turned),
    splitlines: method(['keepends'], (self, budget, given) => {
      budget.codePoints(self.length);
      const lines = splitLines(self, given.truth('keepends'));
      budget.items(lines.length);
      return lines;
    }),
    startswith: edge('startsWith'),
    endswith: edge('endsWith'),
    find: method([FIRST], (self, budget, given) => {
      const other = given.text(FIRST) ?? '';
      budget.search(self.length, other.length);
      const at = self.indexOf(other);
      budget.codePoints(Math.max(at, 0));
      return at < 0 ? -1 : lengthOf(self.slice(0, at));
    }),
    count: method([FIRST], (self, budget, given) => {
      const part = given.text(FIRST) ?? '';
      budget.search(self.length, part.length);
      budget.codePoints(self.length);
      return part === '' ? lengthOf(self) + 1 : self.split(part).length - 1;
    }),
    replace: method([FIRST, SECOND, 'count'], (self, budget, given) =>
      replacedIn(budget, self, given.text(FIRST) ?? '', given.text(SECOND) ?? '', given.integer('count')),
    ),
    join: method([FIRST], (self, budget, given) => {
      const items = itemsOf(budget, given.required(FIRST));
      const odd = items.find((item) => textIn(item) === undefined);
      if (odd !== undefined) throw new Fault(`sequence item: expected str instance, ${typeName(odd)} found`);
      return joinedTexts(budget, items, self);
    }),
  }),
);

const DICT_METHODS: ReadonlyMap<string, Method<ReadonlyMap<string, Value>>> = new Map(
  Object.entries<Method<ReadonlyMap<string, Value>>>({
    get: method([FIRST, SECOND], (self, _, given) => {
      const key = textIn(given.required(FIRST));
      const found = key === undefined ? undefined : self.get(key);
      return found === undefined ? given.value(SECOND, null) : found;
    }),
    keys: method([], (self, budget) => itemsOf(budget, self)),
    values: method([], (self, budget) => {
      budget.items(self.size);
      return [...self.values()];
    }),
    items: method([], (self, budget) => pairsOf(budget, self)),
  }),
);

/** The pairs of a dictionary. */
export function pairsOf(budget: Budget, entries: ReadonlyMap<string, Value>): Tuple[] {
  budget.items(2 * entries.size);
  return Array.from(entries, (pair) => new Tuple(pair));
}
