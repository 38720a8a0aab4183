/**
 * Splits the source of a template into the tokens that the library's parser reads, with the rules of Jinja2 as
 * transformers sets it up: `trim_blocks` and `lstrip_blocks`. The library's own lexer prepares the source with patterns
 * that take quadratic time, and that also change texts and strings.
 */
import { Fault } from './budget.js';
import type { Token } from './syntax.js';
import { BLANKS, stripEnd } from './text.js';

/** The state of a lexer: its source, its position and the tokens so far. */
interface Reader {
  readonly source: string;
  readonly tokens: Token[];
  at: number;
}

const OPENING = /\{([%{#])([-+]?)/g;
const RAW = new RegExp(`\\{%[-+]?[${BLANKS}]*raw[${BLANKS}]*(?:-%\\}[${BLANKS}]*|%\\})`, 'y');
const END_RAW = new RegExp(`\\{%([-+]?)[${BLANKS}]*endraw[${BLANKS}]*(?:\\+%\\}|-%\\}[${BLANKS}]*|%\\}\\n?)`, 'g');
const END_COMMENT = new RegExp(`\\+#\\}|-#\\}[${BLANKS}]*|#\\}\\n?`, 'g');
const END = {
  '%': new RegExp(`\\+%\\}|-%\\}[${BLANKS}]*|%\\}\\n?`, 'y'),
  '{': new RegExp(`-\\}\\}[${BLANKS}]*|\\}\\}`, 'y'),
};

/** Returns the tokens of a template. @throws Fault for a source that is not a template. */
export function tokenized(template: string): Token[] {
  const source = template.replace(/\r\n?/g, '\n').replace(/\n$/, '');
  const reader: Reader = { source, tokens: [], at: 0 };
  while (reader.at < source.length) {
    OPENING.lastIndex = reader.at;
    const opening = OPENING.exec(source);
    const [kind, sign] = [opening?.[1], opening?.[2]];
    addText(reader, opening?.index ?? source.length, { kind, sign });
    if (!opening) break;
    if (kind === '#') skipComment(reader, OPENING.lastIndex);
    else if (!readRaw(reader, opening.index)) readCode(reader, kind as '%' | '{', OPENING.lastIndex);
  }
  return reader.tokens;
}

/** Adds the text up to a tag, without the blanks that the tag strips. */
function addText(
  reader: Reader,
  end: number,
  { kind, sign }: { readonly kind?: string | undefined; readonly sign?: string | undefined },
): void {
  const text = reader.source.slice(reader.at, end);
  const kept =
    sign === '-' ? stripEnd(text) : kind !== '{' && kind && sign !== '+' ? withoutIndent(reader, text) : text;
  if (kept !== '') reader.tokens.push({ type: 'Text', value: kept });
}

/** Removes the blanks before a tag that begins its line. */
function withoutIndent({ source, at }: Reader, text: string): string {
  const line = text.lastIndexOf('\n') + 1;
  const beginsLine = line > 0 || at === 0 || source[at - 1] === '\n';
  return beginsLine && stripEnd(text.slice(line)) === '' ? text.slice(0, line) : text;
}

function skipComment(reader: Reader, from: number): void {
  END_COMMENT.lastIndex = from;
  if (!END_COMMENT.test(reader.source)) throw new Fault('a comment has no end');
  reader.at = END_COMMENT.lastIndex;
}

/** Reads `{% raw %}` up to its end. Returns whether there is one. */
function readRaw(reader: Reader, from: number): boolean {
  RAW.lastIndex = from;
  if (!RAW.test(reader.source)) return false;
  reader.at = RAW.lastIndex;
  END_RAW.lastIndex = reader.at;
  const end = END_RAW.exec(reader.source);
  if (!end) throw new Fault('a raw block has no end');
  addText(reader, end.index, { kind: '%', sign: end[1] });
  reader.at = END_RAW.lastIndex;
  return true;
}

const CODE_BLANKS = new RegExp(`[${BLANKS}]*`, 'y');
const NAME = /[\p{L}\p{Nl}_][\p{L}\p{Nl}\p{M}\p{N}_]*/uy;
const FLOAT = /(?<!\.)(?:\d+_)*\d+(?:(?:\.(?:\d+_)*\d+)?e[+-]?(?:\d+_)*\d+|\.(?:\d+_)*\d+)/iy;
const INTEGER = /0b(?:_?[01])+|0o(?:_?[0-7])+|0x(?:_?[\da-f])+|[1-9](?:_?\d)*|0(?:_?0)*/iy;
const STRING = /'[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*"/sy;
const OPERATOR = /\/\/|\*\*|[=!<>]=|[-+/*%~[\](){}<>=.:|,]/y;

const OPERATORS: Readonly<Record<string, string>> = {
  ...Object.fromEntries(['+', '-', '~'].map((sign) => [sign, 'AdditiveBinaryOperator'])),
  ...Object.fromEntries(['*', '/', '//', '%'].map((sign) => [sign, 'MultiplicativeBinaryOperator'])),
  ...Object.fromEntries(['<', '>', '<=', '>=', '==', '!='].map((sign) => [sign, 'ComparisonBinaryOperator'])),
  '**': 'ExponentiationBinaryOperator',
  '[': 'OpenSquareBracket',
  ']': 'CloseSquareBracket',
  '(': 'OpenParen',
  ')': 'CloseParen',
  '{': 'OpenCurlyBracket',
  '}': 'CloseCurlyBracket',
  '=': 'Equals',
  '.': 'Dot',
  ':': 'Colon',
  '|': 'Pipe',
  ',': 'Comma',
};

/** transformers' own tag, which marks the assistant's words: a filter that changes nothing. */
const GENERATION: Readonly<Record<string, readonly string[]>> = {
  generation: ['filter', 'generation'],
  endgeneration: ['endfilter'],
};

/** Reads the code of a tag, up to its end. */
function readCode(reader: Reader, kind: '%' | '{', from: number): void {
  const { source, tokens } = reader;
  const name = kind === '%' ? 'Statement' : 'Expression';
  tokens.push({ type: `Open${name}`, value: `{${kind}` });
  const first = tokens.length;
  const brackets: number[] = [];
  reader.at = from;
  for (;;) {
    reader.at += match(CODE_BLANKS, source, reader.at)?.length ?? 0;
    const end = brackets.length === 0 ? match(END[kind], source, reader.at) : undefined;
    if (end !== undefined) {
      reader.at += end.length;
      tokens.push({ type: `Close${name}`, value: kind === '%' ? '%}' : '}}' });
      return;
    }
    const read = codeToken(source, reader.at);
    if (!read) throw new Fault(`unexpected ${JSON.stringify(source.slice(reader.at, reader.at + 10))} in a tag`);
    reader.at += read.length;
    const { type, value } = read;
    if (type.startsWith('Close')) brackets.pop();
    const special = kind === '%' && tokens.length === first ? GENERATION[value] : undefined;
    if (special) tokens.push(...special.map((word) => ({ type: 'Identifier', value: word })));
    else tokens.push({ type, value, within: brackets.at(-1) ?? -1 });
    if (type.startsWith('Open')) brackets.push(reader.at);
  }
}

/** What code is made of, in the order in which it is tried. */
const CODE: readonly (readonly [pattern: RegExp, token: (text: string) => Token])[] = [
  [NAME, (value) => ({ type: 'Identifier', value })],
  [FLOAT, (text) => ({ type: 'NumericLiteral', value: withPoint(text.replaceAll('_', '').toLowerCase()) })],
  [INTEGER, (text) => ({ type: 'NumericLiteral', value: text.replaceAll('_', '') })],
  [STRING, (text) => ({ type: 'StringLiteral', value: unescaped(text.slice(1, -1)) })],
  [OPERATOR, (value) => ({ type: OPERATORS[value] as string, value })],
];

/** The parser takes a point as a float. */
const withPoint = (digits: string): string => (digits.includes('.') ? digits : digits.replace('e', '.e'));

function codeToken(source: string, at: number): (Token & { readonly length: number }) | undefined {
  for (const [pattern, token] of CODE) {
    const text = match(pattern, source, at);
    if (text !== undefined) return { ...token(text), length: text.length };
  }
  return undefined;
}

function match(pattern: RegExp, source: string, at: number): string | undefined {
  pattern.lastIndex = at;
  return pattern.exec(source)?.[0];
}

const ESCAPE = /\\(?:([0-7]{1,3})|x([\da-fA-F]{2})|u([\da-fA-F]{4})|U([\da-fA-F]{8})|([\s\S]))/g;
const ESCAPED: Readonly<Record<string, string>> = {
  '\n': '',
  '\\': '\\',
  "'": "'",
  '"': '"',
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
};

/** Replaces Python's escapes in a string literal; unknown ones are kept. */
function unescaped(literal: string): string {
  if (!literal.includes('\\')) return literal;
  return literal.replace(ESCAPE, (all, octal?: string, x?: string, u?: string, long?: string, other?: string) => {
    if (octal !== undefined) return String.fromCodePoint(parseInt(octal, 8));
    const hex = x ?? u ?? long;
    if (hex !== undefined) return codePoint(parseInt(hex, 16), all);
    if (other !== undefined && 'xuUN'.includes(other)) throw new Fault(`the escape ${JSON.stringify(all)} is broken`);
    return ESCAPED[other ?? ''] ?? all;
  });
}

function codePoint(code: number, escape: string): string {
  if (code <= 0x10ffff) return String.fromCodePoint(code);
  throw new Fault(`the escape ${escape} is no character`);
}
