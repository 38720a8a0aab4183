/** Python's functions of texts, where JavaScript's differ. Positions and lengths are in code points. */

/** The characters that Python takes as blanks, for a class of a regular expression. JavaScript's are others. */
export const BLANKS = '\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';

const BLANK = new RegExp(`[${BLANKS}]`);
const NOT_BLANK = new RegExp(`[^${BLANKS}]+`, 'g');

/** Whether a UTF-16 unit is a blank. */
const isBlank = (unit: string): boolean => BLANK.test(unit);

/** Removes blanks, or the given characters, from the start of a text. */
export function stripStart(text: string, characters?: string): string {
  const isStripped = strippedBy(characters);
  let start = 0;
  for (const character of text) {
    if (!isStripped(character)) break;
    start += character.length;
  }
  return text.slice(start);
}

/** Removes blanks, or the given characters, from the end of a text. */
export function stripEnd(text: string, characters?: string): string {
  const isStripped = strippedBy(characters);
  let end = text.length;
  while (end > 0) {
    const character = String.fromCodePoint(text.codePointAt(isPairAt(text, end - 2) ? end - 2 : end - 1) as number);
    if (!isStripped(character)) break;
    end -= character.length;
  }
  return text.slice(0, end);
}

function strippedBy(characters: string | undefined): (character: string) => boolean {
  if (characters === undefined) return isBlank;
  const set = new Set(characters);
  return (character) => set.has(character);
}

/** Whether two units at this position are one code point. */
function isPairAt(text: string, at: number): boolean {
  return at >= 0 && (text.codePointAt(at) as number) > 0xffff;
}

/** Splits a text at blanks, at most `most` times; -1 for no limit. */
export function splitBlanks(text: string, most: number): string[] {
  const words = Array.from(text.matchAll(NOT_BLANK));
  const first = words.slice(0, most < 0 ? words.length : most).map(([word]) => word);
  const next = words[first.length];
  return next ? [...first, text.slice(next.index)] : first;
}

/** Splits a text at a separator, at most `most` times; -1 for no limit. */
export function splitAt(text: string, separator: string, most: number): string[] {
  const parts = text.split(separator);
  if (most < 0 || parts.length <= most + 1) return parts;
  return [...parts.slice(0, most), parts.slice(most).join(separator)];
}

/** A text with its units in reverse. */
export function turned(text: string): string {
  return text.split('').reverse().join('');
}

/** Splits a text into lines, with or without their ends. */
export function splitLines(text: string, keepEnds: boolean): string[] {
  const parts = text.split(LINE_END); // lines and ends in turn
  const lines = parts.flatMap((line, index) => (index % 2 ? [] : [keepEnds ? line + (parts[index + 1] ?? '') : line]));
  return parts.at(-1) === '' ? lines.slice(0, -1) : lines;
}

const LINE_ENDS = '\\n-\\r\\x1c-\\x1e\\x85\\u2028\\u2029';
const LINE_END = new RegExp(`(\\r\\n|[${LINE_ENDS}])`);

/** Replaces the first `most` occurrences of a text; -1 for all. */
export function replaced(text: string, from: string, to: string, most: number): string {
  if (most < 0 && from !== '') return text.replaceAll(from, () => to);
  if (from !== '') return splitAt(text, from, most).join(to);
  const characters = Array.from(text);
  const count = most < 0 ? characters.length + 1 : Math.min(most, characters.length + 1);
  const pieces = characters.map((character, index) => (index < count ? to + character : character));
  return pieces.join('') + (count > characters.length ? to : '');
}

/** The number of code points of a text. */
export function lengthOf(text: string): number {
  let pairs = 0;
  for (let at = 0; at < text.length - 1; at++) {
    if (isPairAt(text, at)) {
      pairs++;
      at++;
    }
  }
  return text.length - pairs;
}

/** The first character in title case, and the others in lower case. */
export function capitalized(text: string): string {
  const [first = ''] = text;
  return titled(first) + lowerAfter(first, text.slice(first.length));
}

/** Python's `str.title`: each run of letters begins in title case. */
export function inTitleCase(text: string): string {
  return text.replace(
    /(\p{Cased})(\p{Cased}*)/gu,
    (_, first: string, rest: string) => titled(first) + lowerAfter(first, rest),
  );
}

/** Lower case of a text after a character, which decides the form of a final sigma. */
function lowerAfter(first: string, rest: string): string {
  return (first + rest).toLowerCase().slice(first.toLowerCase().length);
}

/** A character in title case, which for digraphs like U+01C6 is not upper case. */
function titled(character: string): string {
  const digraph = DIGRAPHS.get(character);
  if (digraph !== undefined) return digraph;
  const [first = '', ...rest] = character.toUpperCase();
  return first + rest.join('').toLowerCase();
}

/** The title cases that differ from upper cases, by upper and lower case: U+01C5 to U+01F2, and Greek with iota. */
const DIGRAPHS = new Map(
  Array.from({ length: 0x2000 - 0x1c4 }, (_, index) => 0x1c4 + index)
    .filter((code) => /\p{Lt}/u.test(String.fromCodePoint(code)))
    .flatMap((code) => {
      const title = String.fromCodePoint(code);
      const upper = code < 0x200 ? String.fromCodePoint(code - 1) : title;
      return [upper, title, title.toLowerCase()].map((one) => [one, title] as const);
    }),
);

/** Compares by code points, as Python does; JavaScript compares UTF-16 units. */
export function compareTexts(a: string, b: string): number {
  let at = 0;
  while (at < a.length && a[at] === b[at]) at++;
  if (at > 0 && (isPairAt(a, at - 1) || isPairAt(b, at - 1))) at--;
  return (a.codePointAt(at) ?? -1) - (b.codePointAt(at) ?? -1);
}

/** Python's `repr` of a text. */
export function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const inner = text.replace(/[\\\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}|['"]/gu, (character) => {
    if (character === '"' || character === "'") return character === quote ? `\\${character}` : character;
    return NAMED[character] ?? escaped(character.codePointAt(0) as number);
  });
  return quote + inner + quote;
}

const NAMED: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };

function escaped(code: number): string {
  const hex = code.toString(16);
  if (code <= 0xff) return `\\x${hex.padStart(2, '0')}`;
  return code <= 0xffff ? `\\u${hex.padStart(4, '0')}` : `\\U${hex.padStart(8, '0')}`;
}

/** Python's `repr` of a float. */
export function floatText(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf';
  if (Object.is(value, -0)) return '-0.0';
  const [digits = '', power = '0'] = value.toExponential().split('e');
  const exponent = Number(power);
  if (exponent < -4 || exponent >= 16) {
    return `${digits}e${exponent < 0 ? '-' : '+'}${String(Math.abs(exponent)).padStart(2, '0')}`;
  }
  return Number.isInteger(value) ? `${value}.0` : String(value);
}
