/**
 * The pre-tokenizers of a tokenizer.json, which split a normalised text into words, as in Hugging Face's tokenizers
 * 0.23.
 */
import { CheckpointError } from '@peftjs/core/method';
import { field, listField, shown } from '../json.js';
import { byCharacter, part, withPrefix, type Aligned } from './aligned.js';
import { bytesAsCharacters } from './byte-level.js';
import { compiledPattern, unknownPart, WORD } from './parts.js';

/** A piece of a text, and whether it is the first. */
interface Piece {
  readonly text: string;
  readonly isFirst: boolean;
}

/** Splits a text into words. */
export interface PreTokenizer {
  /** Returns the words of a piece. */
  words(piece: Piece): Iterable<string>;
  /** Returns the same words with the origin of each unit. */
  aligned(piece: Aligned & Pick<Piece, 'isFirst'>): readonly Aligned[];
}

type Cut = (piece: Piece) => readonly string[];

/**
 * Returns the pre-tokenizer. Without one, a text is a single word.
 * @throws CheckpointError when it is unknown or broken.
 */
export function preTokenizerOf(definition: unknown, file: string): PreTokenizer {
  if (definition === null || definition === undefined) return inARow([]);
  const type = String(field(definition, 'type'));
  if (type === 'Sequence') {
    return inARow(listField(definition, 'pretokenizers', file).map((one) => preTokenizerOf(one, file)));
  }
  const make = Object.hasOwn(KINDS, type) ? KINDS[type] : undefined;
  if (!make) throw unknownPart('pre_tokenizer', type, Object.keys(KINDS), file);
  const cut = make(definition, file);
  const align = type === 'ByteLevel' ? placedBytes : type === 'Metaspace' ? placedAfterPrefix : placed;
  return { words: cut, aligned: (piece) => align(piece, cut(piece)) };
}

/** Chains pre-tokenizers lazily, word by word, so that a caller can stop early. */
function inARow([step, ...others]: readonly PreTokenizer[]): PreTokenizer {
  if (!step) return { words: ({ text }) => [text], aligned: (piece) => [piece] };
  if (others.length === 0) return step;
  const rest = inARow(others);
  return {
    *words(piece) {
      let isFirst = piece.isFirst;
      for (const text of step.words(piece)) {
        yield* rest.words({ text, isFirst });
        isFirst = false;
      }
    },
    aligned: (piece) =>
      step.aligned(piece).flatMap((word, at) => rest.aligned({ ...word, isFirst: piece.isFirst && at === 0 })),
  };
}

/** Aligns words with the text that contains them in that order. */
function placed(piece: Aligned, words: readonly string[]): Aligned[] {
  let at = 0;
  return words.map((word) => {
    const from = piece.text.indexOf(word, at);
    at = from + word.length;
    return part(piece, from, at);
  });
}

/** Aligns words that make up a whole text, possibly after a mark, with blanks replaced by other characters. */
function placedAfterPrefix(piece: Aligned, words: readonly string[]): Aligned[] {
  const text = words.join('');
  const put = text.length - piece.text.length;
  const { starts, ends } = put > 0 ? withPrefix(piece, text.slice(0, put)) : piece;
  return placed({ text, starts, ends }, words);
}

/** Aligns byte-level words that make up a whole text, possibly after a blank. */
function placedBytes(piece: Aligned, words: readonly string[]): Aligned[] {
  const text = words.join('');
  const own = byCharacter(piece, bytesAsCharacters);
  return placed(text.length > own.text.length ? withPrefix(own, text.slice(0, 1)) : own, words);
}

const PUNCTUATION = /[\p{P}!-/:-@[-`{-~]/gu;

const KINDS: Readonly<Record<string, (definition: unknown, file: string) => Cut>> = {
  BertPreTokenizer() {
    const words = /[^\p{White_Space}\p{P}!-/:-@[-`{-~]+|[\p{P}!-/:-@[-`{-~]/gu;
    return ({ text }) => text.match(words) ?? [];
  },
  ByteLevel(definition, file) {
    const addsBlank = field(definition, 'add_prefix_space') !== false;
    const cut = field(definition, 'use_regex') === false ? undefined : compiledPattern({ Regex: GPT2 }, file);
    return ({ text }) => {
      const whole = addsBlank && !text.startsWith(' ') ? ` ${text}` : text;
      return (cut ? isolated(whole, cut) : [whole]).map(bytesAsCharacters);
    };
  },
  CharDelimiterSplit(definition) {
    const delimiter = String(field(definition, 'delimiter'));
    return ({ text }) => text.split(delimiter).filter((word) => word !== '');
  },
  Digits(definition) {
    const one = field(definition, 'individual_digits') === true;
    return ({ text }) => isolated(text, one ? /\p{N}/gu : /\p{N}+/gu);
  },
  FixedLength(definition) {
    const length = Number(field(definition, 'length') ?? 5);
    const words = new RegExp(`.{1,${Math.max(1, length)}}`, 'gsu');
    return ({ text }) => text.match(words) ?? [];
  },
  Metaspace: metaspace,
  Punctuation: (definition, file) => split(PUNCTUATION, field(definition, 'behavior') ?? 'Isolated', false, file),
  Split(definition, file) {
    const pattern = compiledPattern(field(definition, 'pattern'), file);
    return split(pattern, field(definition, 'behavior'), field(definition, 'invert') === true, file);
  },
  Whitespace() {
    const words = new RegExp(`[${WORD}]+|[^${WORD}\\p{White_Space}]+`, 'gu');
    return ({ text }) => text.match(words) ?? [];
  },
  WhitespaceSplit: () => (piece) => piece.text.match(/\P{White_Space}+/gu) ?? [],
};

/** GPT-2's pattern of words. */
const GPT2 = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

/** Replaces blanks by `▁`, which starts a word, and puts one before the text. */
function metaspace(definition: unknown, file: string): Cut {
  const own = field(definition, 'replacement');
  const mark = typeof own === 'string' ? own : '▁';
  const scheme =
    field(definition, 'prepend_scheme') ?? (field(definition, 'add_prefix_space') === false ? 'never' : 'always');
  if (scheme !== 'always' && scheme !== 'first' && scheme !== 'never') {
    throw new CheckpointError(
      `${file}: expected the prepend_scheme always, first or never, got ${shown(scheme)}`,
      file,
    );
  }
  const cut =
    field(definition, 'split') === false
      ? undefined
      : split(new RegExp(escaped(mark), 'gu'), 'MergedWithNext', false, file);
  return ({ text, isFirst }) => {
    const marked = text.replaceAll(' ', () => mark);
    const addsMark = !marked.startsWith(mark) && (scheme === 'always' || (scheme === 'first' && isFirst));
    const whole = addsMark ? mark + marked : marked;
    return cut ? cut({ text: whole, isFirst }) : [whole];
  };
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&');
}

/** Splits a text into matches of a pattern and the texts between them. */
function isolated(text: string, pattern: RegExp): string[] {
  return partsOf(text, pattern).map(({ text: part }) => part);
}

/** A part of a text: a match of a pattern, or the text between two. */
interface Part {
  readonly text: string;
  readonly isMatch: boolean;
}

function partsOf(text: string, pattern: RegExp, invert = false): Part[] {
  const parts: Part[] = [];
  const add = (part: string, isMatch: boolean): void => {
    if (part !== '') parts.push({ text: part, isMatch: isMatch !== invert });
  };
  let at = 0;
  for (const { 0: match, index } of text.matchAll(pattern)) {
    add(text.slice(at, index), false);
    add(match, true);
    at = index + match.length;
  }
  add(text.slice(at), false);
  return parts;
}

/**
 * Splits at a pattern. `behavior` decides whether a match is removed, is a word, or joins its neighbours.
 * @throws CheckpointError for an unknown behaviour.
 */
function split(pattern: RegExp, behavior: unknown, invert: boolean, file: string): Cut {
  const name = String(behavior).toLowerCase();
  const join = Object.hasOwn(BEHAVIOURS, name) ? BEHAVIOURS[name] : undefined;
  if (!join) {
    const known = Object.keys(BEHAVIOURS).join(', ');
    throw new CheckpointError(`${file}: expected the behavior of a split ${known}, got ${shown(behavior)}`, file);
  }
  return ({ text }) => join(partsOf(text, pattern, invert));
}

const BEHAVIOURS: Readonly<Record<string, (parts: readonly Part[]) => string[]>> = {
  isolated: (parts) => parts.map(({ text }) => text),
  removed: (parts) => parts.filter(({ isMatch }) => !isMatch).map(({ text }) => text),
  contiguous: (parts) => joined(parts, (part, before) => part.isMatch === before.isMatch),
  mergedwithprevious: (parts) => joined(parts, (part, before) => part.isMatch && !before.isMatch),
  mergedwithnext: (parts) => joined(parts, (part, before) => before.isMatch && !part.isMatch),
};

/** Merges each part with the previous one if `together` says so. */
function joined(parts: readonly Part[], together: (part: Part, before: Part) => boolean): string[] {
  const words: string[] = [];
  parts.forEach((part, index) => {
    const before = parts[index - 1];
    if (before && together(part, before)) words.push((words.pop() ?? '') + part.text);
    else words.push(part.text);
  });
  return words;
}
