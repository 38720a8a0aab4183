/**
 * Which characters of a text each of its tokens covers. Tokens do not say, so they are found again in the text:
 * both are taken as bytes, each byte of the normalised text knows the characters that it came from, and the tokens are read off one
 * after the other. Spans are those of Hugging Face's tokenizers, in UTF-16 units.
 */
import { byteOf } from './tokenizer/byte-level.js';
import type { Normalizer } from './tokenizer/normalizers.js';

/** A token of a text. */
export interface TokenSpan {
  /** The token as the vocabulary has it; for an unknown one, the text that it covers. */
  readonly piece: string;
  /** The token covers `text.slice(start, end)`. */
  readonly start: number;
  readonly end: number;
  /**
   * Whether the token goes on with the word of the one before, as transformers decides it: by the vocabulary's own mark (`##`), else by
   * the lack of a blank.
   */
  readonly continuesWord: boolean;
}

/** What is read of a tokenizer. */
export interface SpanTokenizer {
  readonly unknownId: number | undefined;
  readonly normalizer: Normalizer | null;
  readonly added: ReadonlySet<string>;
  idOf(token: string): number | undefined;
}

/** The parts of `tokenizer.json` that are read. */
interface Definition {
  readonly model: Readonly<Record<string, unknown>>;
  readonly [part: string]: unknown;
}

/** A piece of a normalised text, and the characters that it was made from. */
interface Atom {
  readonly text: string;
  readonly start: number;
  readonly end: number;
}

/** A normalised text in bytes, and the atom that each byte is of. */
interface Bytes {
  readonly values: readonly number[];
  readonly atoms: readonly Atom[];
}

/** Bytes that a token covers; an empty range for one that covers none. */
interface Range {
  readonly from: number;
  readonly to: number;
}

interface Span {
  readonly start: number;
  readonly end: number;
}

const BLANK = ' ';
/** What SentencePiece writes in the place of a blank. */
const META = '▁';
/** Bytes within which a token is looked for where the text does not go on with it. */
const WINDOW = 64;

const encoder = new TextEncoder();

/** Makes the function that finds the tokens given by `tokenizer.tokenize(text)` in that text. */
export function spanFinder(
  tokenizer: SpanTokenizer,
  definition: Definition,
): (text: string, tokens: readonly string[]) => TokenSpan[] {
  const { added, unknownId } = tokenizer;
  const { continuing_subword_prefix: mark } = definition.model;
  const prefix = typeof mark === 'string' ? mark : '';
  const isWordPiece = definition.model.type === 'WordPiece';
  const isUnknown = (token: string): boolean =>
    unknownId !== undefined && (tokenizer.idOf(token) ?? unknownId) === unknownId;
  // Some vocabularies give an unknown piece of text itself, others their token for it.
  const standsForUnknown = (token: string): boolean => tokenizer.idOf(token) !== undefined && isUnknown(token);
  const { normalised, before } = partwise(tokenizer.normalizer);
  const bytesOf = surfaces(definition, prefix);
  const trim = trimmer(definition);

  return (text, tokens) => {
    const bytes = inBytes(atomsOf(text, normalised, before), bytesOf.blank);
    let at = 0;
    return tokens.map((token, index) => {
      const next = isWordPiece || added.has(token) ? skipBlanks(bytes, at) : at;
      const literal = added.has(token) ? literalAt(text, token, bytes, next) : undefined;
      const range =
        literal ??
        (standsForUnknown(token) ? unknownAt(bytes, next, isWordPiece) : rangeAt(bytes, next, bytesOf(token)));
      at = range.to;
      const { start, end } = trim(spanOf(bytes, range, text.length), token, index);
      const covered = text.slice(start, end);
      if (isUnknown(token)) return { piece: covered, start, end, continuesWord: false };
      const continuesWord =
        prefix === ''
          ? start > 0 && !text.slice(start - 1, start + 1).includes(BLANK)
          : count(token) !== count(covered);
      return { piece: token, start, end, continuesWord };
    });
  };
}

/** Code points of a text. */
function count(text: string): number {
  return Array.from(text).length;
}

/** The normaliser of a tokenizer for parts of a text, and what it puts before a whole one. */
function partwise(normalizer: Normalizer | null): { normalised: (part: string) => string; before: string } {
  const steps = normalizer?.normalizers ?? (normalizer ? [normalizer] : []);
  const ofParts = steps.filter(({ type }) => type !== 'Strip' && type !== 'Prepend');
  return {
    normalised: (part) => ofParts.reduce((text, step) => step.normalize(text), part),
    before: steps.find(({ prefix }) => prefix !== undefined)?.prefix ?? '',
  };
}

/** The normalised text, in parts as small as can be told apart. What is put before it counts as its first character. */
function atomsOf(text: string, normalised: (part: string) => string, before: string): Atom[] {
  const first = /^./su.exec(text)?.[0] ?? '';
  const atoms: Atom[] = Array.from(before, (put) => ({ text: put, start: 0, end: first.length }));
  for (const { 0: word, index } of text.matchAll(/\s+|\S+/gu)) {
    const whole = normalised(word);
    atoms.push(...(byCharacters(word, whole, normalised) ?? byMarks(word, whole, normalised)).map(movedBy(index)));
  }
  return atoms;
}

function movedBy(offset: number): (atom: Atom) => Atom {
  return ({ text, start, end }) => ({ text, start: start + offset, end: end + offset });
}

/** A word by its characters, where each becomes what it would alone, or at least as much: a final sigma has another form. */
function byCharacters(word: string, whole: string, normalised: (part: string) => string): Atom[] | undefined {
  const atoms = [...word.matchAll(/./gsu)].flatMap(({ 0: character, index }) =>
    Array.from(normalised(character), (text) => ({ text, start: index, end: index + character.length })),
  );
  const texts = Array.from(whole);
  if (texts.length !== atoms.length) return undefined;
  return atoms.map((atom, place) => ({ ...atom, text: texts[place] as string }));
}

/** A word by its characters with the marks on them, else as one. What is composed counts as what its first characters were. */
function byMarks(word: string, whole: string, normalised: (part: string) => string): Atom[] {
  const clusters = [...word.matchAll(/\P{M}\p{M}*|\p{M}+/gu)].map(({ 0: cluster, index }) => ({
    cluster,
    index,
    texts: Array.from(normalised(cluster)),
  }));
  if (clusters.map(({ texts }) => texts.join('')).join('') !== whole) {
    return Array.from(whole, (text) => ({ text, start: 0, end: word.length }));
  }
  return clusters.flatMap(({ cluster, index, texts }) => {
    const characters = [...cluster.matchAll(/./gsu)];
    const composed = Math.max(0, characters.length - texts.length); // with the first one
    return texts.map((text, place) => {
      const from = Math.min(place === 0 ? 0 : place + composed, characters.length - 1);
      const { 0: character, index: at } = characters[from] as RegExpExecArray;
      return { text, start: index + at, end: index + at + character.length };
    });
  });
}

function inBytes(atoms: readonly Atom[], toBlank: (text: string) => string): Bytes {
  const values: number[] = [];
  const ofBytes: Atom[] = [];
  for (const atom of atoms) {
    for (const byte of encoder.encode(toBlank(atom.text))) {
      values.push(byte);
      ofBytes.push(atom);
    }
  }
  return { values, atoms: ofBytes };
}

/** The bytes that a token stands for, and how what it stands for is written: with blanks in the place of SentencePiece's mark. */
interface Surfaces {
  (token: string): readonly number[];
  blank(text: string): string;
}

function surfaces({ model, normalizer, pre_tokenizer: cut }: Definition, prefix: string): Surfaces {
  const settings = JSON.stringify([normalizer, cut]);
  if (settings.includes('"ByteLevel"')) {
    return Object.assign((token: string) => Array.from(token, byteOf), { blank: (text: string) => text });
  }
  const blank = settings.includes(META) ? (text: string) => text.replaceAll(META, BLANK) : (text: string) => text;
  const bytesOf = (token: string): readonly number[] => {
    const [, byte] = (model.byte_fallback === true && /^<0x([0-9A-F]{2})>$/.exec(token)) || [];
    if (byte !== undefined) return [Number.parseInt(byte, 16)];
    return [...encoder.encode(blank(prefix !== '' && token.startsWith(prefix) ? token.slice(prefix.length) : token))];
  };
  return Object.assign(bytesOf, { blank });
}

/** Where a text goes on after blanks. */
function skipBlanks({ atoms }: Bytes, from: number): number {
  let at = from;
  while (at < atoms.length && isBlank(atoms[at] as Atom)) at++;
  return at;
}

function isBlank({ text }: Atom): boolean {
  return text === META || text.trim() === '';
}

/** The bytes that are an added token, which is looked for in the text itself. */
function literalAt(text: string, token: string, { atoms }: Bytes, from: number): Range | undefined {
  const start = atoms[from]?.start ?? -1;
  if (start < 0 || !text.startsWith(token, start)) return undefined;
  let to = from;
  while (to < atoms.length && (atoms[to] as Atom).start < start + token.length) to++;
  return { from, to };
}

/** The bytes of an unknown token: of a whole word in a vocabulary of word pieces, else of a character. */
function unknownAt({ atoms }: Bytes, from: number, isWordPiece: boolean): Range {
  const first = atoms[from];
  if (!first) return { from, to: from };
  let to = from + 1;
  const goesOn = (atom: Atom): boolean =>
    atom === first || (isWordPiece && !isPunctuation(first) && !isPunctuation(atom) && !isBlank(atom));
  while (to < atoms.length && goesOn(atoms[to] as Atom)) to++;
  return { from, to };
}

function isPunctuation({ text }: Atom): boolean {
  return /^[\p{P}!-/:-@[-`{-~]$/u.test(text);
}

/** The bytes of a token: the next ones, or, where the text goes on with something else, those nearest. */
function rangeAt(bytes: Bytes, from: number, token: readonly number[]): Range {
  if (fits(bytes, from, token)) return { from, to: from + token.length };
  const [first, ...rest] = token;
  if (first === BLANK.charCodeAt(0) && fits(bytes, from, rest)) return { from, to: from + rest.length };
  for (let at = from + 1; at < Math.min(bytes.values.length, from + WINDOW); at++) {
    if (fits(bytes, at, token)) return { from: at, to: at + token.length };
  }
  return { from, to: from };
}

function fits({ values }: Bytes, from: number, token: readonly number[]): boolean {
  return token.every((byte, place) => values[from + place] === byte);
}

/** The characters of bytes. A token of none, which a tokenizer put before the text, counts as the character that follows. */
function spanOf({ atoms }: Bytes, { from, to }: Range, length: number): Span {
  const first = atoms[from];
  if (!first) return { start: length, end: length };
  return { start: first.start, end: (atoms[Math.max(from, to - 1)] as Atom).end };
}

/** Takes the blanks at its ends from a span, where the tokenizer says that spans are without. */
function trimmer({ post_processor: step }: Definition): (span: Span, token: string, index: number) => Span {
  const steps = [step, ...((step as { processors?: unknown[] } | null)?.processors ?? [])] as (Record<
    string,
    unknown
  > | null)[];
  const own = steps.find((one) => one !== null && (one.type === 'ByteLevel' || one.type === 'RobertaProcessing'));
  if (!own || own.trim_offsets === false) return (span) => span;
  return ({ start, end }, token, index) => {
    const [leading = '', trailing = ''] = [/^[Ġ\s]*/u, /[Ġ\s]*$/u].map((blanks) => blanks.exec(token)?.[0]);
    const isPutFirst = own.add_prefix_space !== false && (index === 0 || start === 0) && leading !== '';
    const from = Math.min(start + leading.length - Number(isPutFirst), end);
    return { start: from, end: trailing === '' ? end : Math.max(end - trailing.length, from) };
  };
}
