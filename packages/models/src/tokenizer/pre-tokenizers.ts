/**
 * The pre-tokenizers of a tokenizer.json, which split a normalised text into words, as in Hugging Face's tokenizers
 * 0.23.
 */
import { field, fileError, shown } from '../json.js';
import { byCharacter, partsOf, withPrefix, type Aligned } from './aligned.js';
import { bytesAsCharacters } from './byte-level.js';
import { growthCheck, type GrowthCheck } from './growth.js';
import { compiledPattern, stepsOf, WORD, type Kinds } from './parts.js';

/**
 * Splits a text into words, lazily, so that a caller can stop early. It throws a CheckpointError when the words are much
 * longer than the text.
 * @param isFirst Whether origins from 0 on begin the original text.
 */
export type PreTokenizer = (text: Aligned, isFirst: boolean) => Iterable<Aligned>;

/** Splits a text. `isFirst`: whether it begins the original text. */
type Cut = (text: string, isFirst: boolean) => readonly string[];

/** One split of a text. */
interface Step {
  readonly cut: Cut;
  /** Returns the text with the same characters as the words. Default: the text that was cut. */
  readonly whole?: (text: Aligned, words: readonly string[]) => Aligned;
  /** Whether a word may get a mark because it begins the original text. */
  readonly marksFirst?: boolean;
}

/**
 * Returns the pre-tokenizer. Without one, a text is a single word.
 * @throws CheckpointError when it is unknown or broken.
 */
export function preTokenizerOf(definition: unknown, file: string): PreTokenizer {
  const steps = stepsOf(definition, { part: 'pre_tokenizer', list: 'pretokenizers', kinds: KINDS }, file);
  const [only, ...others] = steps;
  return (text, isFirst) => {
    if (only && others.length === 0) return wordsOf(only, text, isFirst); // a single step cannot grow a text that much
    const check = growthCheck('pre_tokenizer', text.text.length, file);
    return steps.reduce<Iterable<Aligned>>((words, step) => cutAgain(words, step, isFirst, check), [text]);
  };
}

/** Splits words again, one at a time. */
function* cutAgain(words: Iterable<Aligned>, step: Step, isFirst: boolean, check: GrowthCheck): Generator<Aligned> {
  let length = 0;
  for (const word of words) {
    for (const next of wordsOf(step, word, isFirst)) {
      check((length += next.text.length));
      yield next;
    }
  }
}

function wordsOf({ cut, whole, marksFirst = false }: Step, text: Aligned, isFirst: boolean): Aligned[] {
  const words = cut(text.text, isFirst && marksFirst && text.origins().starts[0] === 0);
  return partsOf(() => whole?.(text, words) ?? text, words);
}

/** The text of words, possibly after a mark, with blanks replaced by other characters. */
function marked(piece: Aligned, words: readonly string[]): Aligned {
  const text = words.join('');
  const put = text.length - piece.text.length;
  return { ...(put > 0 ? withPrefix(piece, text.slice(0, put)) : piece), text };
}

/** The text of byte-level words, possibly after a blank. */
function inBytes(piece: Aligned, words: readonly string[]): Aligned {
  const text = words.join('');
  const own = byCharacter(piece, bytesAsCharacters);
  return text.length > own.text.length ? withPrefix(own, text.slice(0, 1)) : own;
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
      whole: inBytes,
    };
  },
  Digits(definition) {
    const one = field(definition, 'individual_digits') === true;
    return { cut: (text) => isolated(text, one ? /\p{N}/gu : /\p{N}+/gu) };
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

/** Returns a step whose words are the matches of a pattern. */
function matches(pattern: RegExp): Step {
  return { cut: (text) => text.match(pattern) ?? [] };
}

/** GPT-2's pattern of words. */
const GPT2 = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

/** Replaces blanks by `▁`, which starts a word, and puts one before the text. */
function metaspace(definition: unknown, file: string): Step {
  const mark = field(definition, 'replacement') ?? '▁';
  if (typeof mark !== 'string' || mark.length !== 1) {
    throw fileError(file, `'replacement' of Metaspace must be one character, got ${shown(mark)}`);
  }
  const scheme =
    field(definition, 'prepend_scheme') ?? (field(definition, 'add_prefix_space') === false ? 'never' : 'always');
  if (scheme !== 'always' && scheme !== 'first' && scheme !== 'never') {
    throw fileError(file, `expected the prepend_scheme always, first or never, got ${shown(scheme)}`);
  }
  const own = split(new RegExp(escaped(mark), 'gu'), 'MergedWithNext', false, file);
  const splits = field(definition, 'split') !== false;
  return {
    cut(text, isFirst) {
      const inMarks = text.replaceAll(' ', () => mark);
      const addsMark = !inMarks.startsWith(mark) && (scheme === 'always' || (scheme === 'first' && isFirst));
      const whole = addsMark ? mark + inMarks : inMarks;
      return splits ? own.cut(whole, isFirst) : [whole];
    },
    whole: marked,
    marksFirst: scheme === 'first',
  };
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&');
}

/** Splits a text into matches of a pattern and the texts between them. */
function isolated(text: string, pattern: RegExp): string[] {
  return around(text, pattern).map(({ text: part }) => part);
}

/** A part of a text: a match of a pattern, or the text between two. */
interface Part {
  readonly text: string;
  readonly isMatch: boolean;
}

function around(text: string, pattern: RegExp, invert = false): Part[] {
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
    throw fileError(file, `expected the behavior of a split ${known}, got ${shown(behavior)}`);
  }
  return { cut: (text) => join(around(text, pattern, invert)) };
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
