import { fileError } from './json.js';
import { compiledPattern } from './tokenizer/parts.js';

/*
 * The parts of a tokenizer.json other than its vocabulary are short and shallow, so every step and every text in them is
 * checked. Regular expressions run on every text in JavaScript's backtracking engine, where `(a+)+b` takes twice as long
 * for each additional character. Patterns accepted here are well known, or simple enough for at most quadratic time.
 */

const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const WORDS = String.raw`[^\r\n\p{L}\p{N}]?\p{L}+`;
const REST = String.raw` ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;
const UPPER = String.raw`[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`;
const LOWER = String.raw`[\p{Ll}\p{Lm}\p{Lo}\p{M}]`;
const OPENING = String.raw`[^\r\n\p{L}\p{N}]?`;
const MARKS = String.raw` ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`;

/** The patterns of well-known models, which take at most quadratic time for any text. Tekken is Mistral's. */
export const KNOWN_PATTERNS = {
  llama3: `${CONTRACTIONS}|${WORDS}|\\p{N}{1,3}|${REST}`,
  qwen2: `${CONTRACTIONS}|${WORDS}|\\p{N}|${REST}`,
  gpt4o: `${OPENING}${UPPER}*${LOWER}+${CONTRACTIONS}?|${OPENING}${UPPER}+${LOWER}*${CONTRACTIONS}?|\\p{N}{1,3}|${MARKS}`,
  tekken: `${OPENING}${UPPER}*${LOWER}+|${OPENING}${UPPER}+${LOWER}*|\\p{N}|${MARKS}`,
} as const;

const KNOWN: ReadonlySet<string> = new Set(Object.values(KNOWN_PATTERNS));

const PARTS = ['normalizer', 'pre_tokenizer', 'post_processor', 'decoder', 'model'] as const;

/** The fields whose sizes depend on the vocabulary, and which the functions that read them check. */
const VOCABULARY = ['vocab', 'merges'];

/** The maximum number of values in a part: a hundred steps, while published tokenizers have about ten. */
const MAX_VALUES = 1000;
const MAX_LENGTH = 2000;
/** SentencePiece's largest table has 0.3 million characters. */
const MAX_CHARSMAP = 2 ** 22;
const MAX_DEPTH = 20;
/** The maximum number of ways in which all patterns together may match at one place. */
const MAX_WAYS = 1000;
/** The same for alternatives with an unbounded repetition, which may take quadratic time; GPT-2's pattern has 8. */
const MAX_ENDLESS_WAYS = 32;
/** A repetition of more than this many times counts as unbounded. */
const ENDLESS = 100;

/**
 * Rejects parts that are larger than those of any known tokenizer, and regular expressions that may take exponential
 * time on some texts.
 * @throws CheckpointError naming the part or the pattern.
 */
export function checkParts(definition: Readonly<Record<string, unknown>>, file: string): void {
  const total = { ways: 0, endless: 0 };
  for (const part of PARTS) {
    for (const pattern of patternsIn(definition[part], part, file)) {
      if (KNOWN.has(pattern)) continue;
      const fault = new Scan(compiledPattern({ Regex: pattern }, file).source).fault(total);
      if (fault === undefined) continue;
      throw fileError(
        file,
        `the ${part}'s regular expression ${JSON.stringify(pattern.slice(0, 120))} ${fault}: it may never finish on some texts; use a tokenizer with a common pattern`,
      );
    }
  }
}

/** Returns the values of all fields named `Regex`. @throws CheckpointError when the part is too large. */
function patternsIn(value: unknown, part: string, file: string): string[] {
  const patterns: string[] = [];
  let values = 0;
  const refuse = (why: string): never => {
    throw fileError(file, `the ${part} ${why}, more than any known tokenizer`);
  };
  const visit = (item: unknown, name: string, depth: number): void => {
    if (depth > MAX_DEPTH) refuse(`is nested more than ${MAX_DEPTH} deep`);
    if (++values > MAX_VALUES) refuse(`has more than ${MAX_VALUES} values`);
    if (typeof item === 'string') {
      const most = name === 'precompiled_charsmap' ? MAX_CHARSMAP : MAX_LENGTH;
      if (item.length > most) refuse(`has a text '${name}' of more than ${most} characters`);
      if (name === 'Regex') patterns.push(item);
    } else if (typeof item === 'object' && item !== null) {
      for (const [key, own] of Object.entries(item)) {
        if (depth > 0 || part !== 'model' || !VOCABULARY.includes(key)) visit(own, key, depth + 1);
      }
    }
  };
  visit(value, part, 0);
  return patterns;
}

/** The number of ways in which a backtracking engine may match a part of a pattern at one place. */
interface Ways {
  /** The number of unbounded repetitions in sequence: each multiplies the time by the length of the text. */
  readonly endless: number;
  /** The product of all other choices. */
  readonly choices: number;
  /** The same with the choices in look-arounds, which end with the first that matches. */
  readonly tries: number;
}

const ONE_WAY: Ways = { endless: 0, choices: 1, tries: 1 };

/**
 * Reads a pattern once and counts the ways in which it can match. It reads what runs, JavaScript's syntax with the flag
 * `u`: the file's is Oniguruma's, in which `a{2}+` repeats a repetition.
 */
class Scan {
  readonly #pattern: string;
  #at = 0;
  #depth = 0;
  #fault: string | undefined;

  constructor(pattern: string) {
    this.#pattern = pattern;
  }

  /** Returns why the pattern is rejected; undefined if it is not. Adds its ways to those of the patterns before. */
  fault(total: { ways: number; endless: number }): string | undefined {
    for (const { endless, tries } of this.#alternatives()) {
      if (endless > 1) this.#fault ??= 'has two unbounded repetitions in a row';
      total.ways += tries;
      if (endless > 0) total.endless += tries;
    }
    if (total.ways > MAX_WAYS) this.#fault ??= 'has, with those before it, too many optional parts';
    if (total.endless > MAX_ENDLESS_WAYS) this.#fault ??= 'has, with those before it, too many unbounded repetitions';
    return this.#fault;
  }

  #alternatives(): Ways[] {
    if (++this.#depth > MAX_DEPTH) this.#fault ??= 'has groups nested too deep';
    const all = [ONE_WAY];
    while (this.#at < this.#pattern.length && this.#peek() !== ')' && this.#fault === undefined) {
      if (this.#peek() === '|') {
        this.#at++;
        all.push(ONE_WAY);
      } else all.push(inARow(all.pop() ?? ONE_WAY, this.#repeated(this.#atom())));
    }
    this.#depth--;
    return all;
  }

  #atom(): Ways {
    const character = this.#next();
    if (character === '\\') {
      if (/[1-9k]/.test(this.#peek())) this.#fault ??= 'refers back to a group';
      this.#at++;
      const property = /^\{[^}]*\}/.exec(this.#pattern.slice(this.#at));
      if (property && /[pPxu]/.test(this.#pattern.charAt(this.#at - 1))) this.#at += property[0].length;
    } else if (character === '[') this.#set();
    else if (character === '(') return this.#group();
    return ONE_WAY;
  }

  #group(): Ways {
    const [opening = ''] = /^\?(?:<?[=!]|:|<\w+>)/.exec(this.#pattern.slice(this.#at)) ?? [];
    this.#at += opening.length;
    const all = this.#alternatives();
    this.#at++;
    return {
      endless: Math.max(...all.map(({ endless }) => endless)),
      choices: /[=!]$/.test(opening) ? 1 : all.reduce((sum, { choices }) => sum + choices, 0),
      tries: all.reduce((sum, { tries }) => sum + tries, 0),
    };
  }

  /** Skips a character set. */
  #set(): void {
    for (let character = this.#next(); character !== ']'; character = this.#next()) {
      if (character === '\\') this.#at++;
    }
  }

  #repeated(part: Ways): Ways {
    const counts = /^(?:([*+?])|\{(\d+)(?:(,)(\d*))?\})\??/.exec(this.#pattern.slice(this.#at));
    if (!counts) return part;
    const [found, mark, from = '', comma, to = ''] = counts;
    this.#at += found.length;
    const least = mark === undefined ? Number(from) : mark === '+' ? 1 : 0;
    const most = mark === '?' ? 1 : mark !== undefined || (comma && to === '') ? Infinity : Number(comma ? to : from);
    if (most <= 1) return { ...part, choices: part.choices + 1, tries: part.tries + 1 };
    if (part.endless > 0 || part.choices > 1) this.#fault ??= 'repeats a repetition or alternatives';
    if (most > ENDLESS) return { ...part, endless: 1 };
    const choices = most - least + 1;
    return { endless: 0, choices, tries: choices * part.tries };
  }

  #peek(): string {
    return this.#pattern.charAt(this.#at);
  }

  #next(): string {
    return this.#pattern.charAt(this.#at++);
  }
}

function inARow(first: Ways, second: Ways): Ways {
  return {
    endless: first.endless + second.endless,
    choices: first.choices * second.choices,
    tries: first.tries * second.tries,
  };
}
