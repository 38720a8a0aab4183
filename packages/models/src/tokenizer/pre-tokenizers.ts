/**
 * The pre-tokenizers of a tokenizer.json, which split a normalised text into words, as in Hugging Face's tokenizers
 * 0.23.
 */
import { CheckpointError } from '@peftjs/core/method';
import { field, shown } from '../json.js';
import { byCharacter, part, withPrefix, type Aligned } from './aligned.js';
import { bytesAsCharacters } from './byte-level.js';
import { growthCheck, totalLength, type GrowthCheck } from './growth.js';
import { compiledPattern, stepsOf, WORD, type Kinds } from './parts.js';

/** Splits a text into words. Both functions throw a CheckpointError when the words are much longer than the text. */
export interface PreTokenizer {
  /** Whether a word may get a mark because it begins the original text, which only `aligned` knows. */
  readonly marksFirst: boolean;
  /** Returns the words of a text, lazily, so that a caller can stop early. */
  words(text: string): Iterable<string>;
  /** Returns the same words with the origin of each unit. Origins from 0 on begin the original text if `isFirst`. */
  aligned(text: Aligned, isFirst: boolean): readonly Aligned[];
}

/** Splits a text. `isFirst`: whether it begins the original text. */
type Cut = (text: string, isFirst: boolean) => readonly string[];

/** One split of a text. */
interface Step {
  readonly cut: Cut;
  /** Finds the origins of the words. */
  readonly align: (text: Aligned, words: readonly string[]) => readonly Aligned[];
  readonly marksFirst?: boolean;
}

/**
 * Returns the pre-tokenizer. Without one, a text is a single word.
 * @throws CheckpointError when it is unknown or broken.
 */
export function preTokenizerOf(definition: unknown, file: string): PreTokenizer {
  const steps = stepsOf(definition, { part: 'pre_tokenizer', list: 'pretokenizers', kinds: KINDS }, file);
  const [only, ...others] = steps;
  const checkOf = (text: string): GrowthCheck => growthCheck('pre_tokenizer', text.length, file);
  return {
    marksFirst: steps.some(({ marksFirst }) => marksFirst),
    words(text) {
      if (only && others.length === 0) return only.cut(text, false); // a single step cannot grow a text that much
      const check = checkOf(text);
      return steps.reduce<Iterable<string>>((words, { cut }) => cutAgain(words, cut, check), [text]);
    },
    aligned(text, isFirst) {
      const check = checkOf(text.text);
      return steps.reduce<readonly Aligned[]>(
        (words, { cut, align }) => {
          const next = words.flatMap((word) => align(word, cut(word.text, isFirst && word.starts[0] === 0)));
          check(totalLength(next.map((word) => word.text)));
          return next;
        },
        [text],
      );
    },
  };
}

/** Splits words again, one at a time. */
function* cutAgain(words: Iterable<string>, cut: Cut, check: GrowthCheck): Generator<string> {
  let length = 0;
  for (const word of words) {
    for (const next of cut(word, false)) {
      check((length += next.length));
      yield next;
    }
  }
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

const KINDS: Kinds<Step> = {
  BertPreTokenizer: () => matches(/[^\p{White_Space}\p{P}!-/:-@[-`{-~]+|[\p{P}!-/:-@[-`{-~]/gu),
  ByteLevel(definition, file) {
    const addsBlank = field(definition, 'add_prefix_space') !== false;
    const cut = field(definition, 'use_regex') === false ? undefined : compiledPattern({ Regex: GPT2 }, file);
    return {
      cut(text) {
        const whole = addsBlank && !text.startsWith(' ') ? ` ${text}` : text;
        return (cut ? isolated(whole, cut) : [whole]).map(bytesAsCharacters);
      },
      align: placedBytes,
    };
  },
  CharDelimiterSplit(definition, file) {
    const delimiter = characterIn(definition, 'delimiter', file);
    return cutBy((text) => text.split(delimiter).filter((word) => word !== ''));
  },
  Digits(definition) {
    const one = field(definition, 'individual_digits') === true;
    return cutBy((text) => isolated(text, one ? /\p{N}/gu : /\p{N}+/gu));
  },
  FixedLength(definition) {
    const length = Number(field(definition, 'length') ?? 5);
    return matches(new RegExp(`.{1,${Math.max(1, length)}}`, 'gsu'));
  },
  Metaspace: metaspace,
  Punctuation: (definition, file) => split(PUNCTUATION, field(definition, 'behavior') ?? 'Isolated', false, file),
  Split(definition, file) {
    const pattern = compiledPattern(field(definition, 'pattern'), file);
    return split(pattern, field(definition, 'behavior'), field(definition, 'invert') === true, file);
  },
  Whitespace: () => matches(new RegExp(`[${WORD}]+|[^${WORD}\\p{White_Space}]+`, 'gu')),
  WhitespaceSplit: () => matches(/\P{White_Space}+/gu),
};

/** Returns a step whose words are parts of the text. */
function cutBy(cut: Cut): Step {
  return { cut, align: placed };
}

/** Returns a step whose words are the matches of a pattern. */
function matches(pattern: RegExp): Step {
  return cutBy((text) => text.match(pattern) ?? []);
}

/** Returns a setting of one character. @throws CheckpointError when it is anything else. */
function characterIn(definition: unknown, name: string, file: string, otherwise?: string): string {
  const value = field(definition, name) ?? otherwise;
  if (typeof value === 'string' && value.length === 1) return value;
  throw new CheckpointError(`${file}: '${name}' of a pre_tokenizer must be one character, got ${shown(value)}`, file);
}

/** GPT-2's pattern of words. */
const GPT2 = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

/** Replaces blanks by `▁`, which starts a word, and puts one before the text. */
function metaspace(definition: unknown, file: string): Step {
  const mark = characterIn(definition, 'replacement', file, '▁');
  const scheme =
    field(definition, 'prepend_scheme') ?? (field(definition, 'add_prefix_space') === false ? 'never' : 'always');
  if (scheme !== 'always' && scheme !== 'first' && scheme !== 'never') {
    throw new CheckpointError(
      `${file}: expected the prepend_scheme always, first or never, got ${shown(scheme)}`,
      file,
    );
  }
  const own = split(new RegExp(escaped(mark), 'gu'), 'MergedWithNext', false, file);
  const splits = field(definition, 'split') !== false;
  return {
    cut(text, isFirst) {
      const marked = text.replaceAll(' ', () => mark);
      const addsMark = !marked.startsWith(mark) && (scheme === 'always' || (scheme === 'first' && isFirst));
      const whole = addsMark ? mark + marked : marked;
      return splits ? own.cut(whole, isFirst) : [whole];
    },
    align: placedAfterPrefix,
    marksFirst: scheme === 'first',
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
function split(pattern: RegExp, behavior: unknown, invert: boolean, file: string): Step {
  const name = String(behavior).toLowerCase();
  const join = Object.hasOwn(BEHAVIOURS, name) ? BEHAVIOURS[name] : undefined;
  if (!join) {
    const known = Object.keys(BEHAVIOURS).join(', ');
    throw new CheckpointError(`${file}: expected the behavior of a split ${known}, got ${shown(behavior)}`, file);
  }
  return cutBy((text) => join(partsOf(text, pattern, invert)));
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
