import { CheckpointError } from '../errors.js';

/*
 * Regular expressions from files. JavaScript's own engine may need time that doubles with every character. These are
 * therefore matched by sets: each part of a pattern turns the set of positions where it may begin into the set of those
 * where it may end. No position is tried twice for the same part, and the steps of a table are counted.
 */

/** The most characters of one pattern, and of all patterns of a table. */
const MAX_LENGTH = 1000;
const MAX_CHARACTERS = 50_000;
/** The most positions tried for one table, which takes seconds at most. */
const MAX_STEPS = 5_000_000;

/** A name whose only special characters are dots (any character) and a leading `^`. */
const PLAIN = /^\^?[\w.-]+$/;

/** A path that is matched, and the steps of its table so far. */
interface Subject {
  readonly path: string;
  readonly cost: { steps: number };
}

type Positions = ReadonlySet<number>;

/** Returns the positions where a part of a pattern may end, for those where it may begin. */
type Part = (begins: Positions, subject: Subject) => Positions;

/**
 * Compiles a pattern table of a file, e.g. `alpha_pattern`, with PEFT's rule: a module has the value of the first key
 * that is its path or matches a dotted suffix of it.
 * @returns a function from a module's path to its value
 * @throws CheckpointError naming the field and the pattern: at once for patterns that are too long, or of more than
 * characters, sets, groups, alternatives and repetitions; on look-up when all patterns together take too long.
 */
export function patternTable(
  field: string,
  table: Readonly<Record<string, number>>,
): (path: string) => number | undefined {
  const cost = { steps: 0 };
  let characters = 0;
  const entries = Object.entries(table).map(([pattern, value]) => {
    if (PLAIN.test(pattern)) return { pattern, value };
    characters += pattern.length;
    if (characters > MAX_CHARACTERS) throw refused(field, pattern, 'comes after too many others');
    return { pattern, value, whole: partOf(field, pattern) };
  });
  return (path) =>
    entries.find(({ pattern, whole }) => {
      if (path === pattern) return true;
      if (!whole) return endsLike(path, pattern);
      const begins = new Set([0, ...[...path.matchAll(/\./g)].map(({ index }) => index + 1)]);
      const isMatch = whole(begins, { path, cost }).has(path.length);
      if (cost.steps > MAX_STEPS) throw refused(field, pattern, 'takes too long to match, with the others');
      return isMatch;
    })?.value;
}

/** Returns whether a path, or the part after one of its dots, matches a plain pattern. */
function endsLike(path: string, pattern: string): boolean {
  if (pattern.startsWith('^')) return path.length === pattern.length - 1 && endsLike(path, pattern.slice(1));
  const from = path.length - pattern.length;
  if (from < 0 || (from > 0 && path[from - 1] !== '.')) return false;
  for (let at = 0; at < pattern.length; at++) {
    if (pattern[at] !== '.' && pattern[at] !== path[from + at]) return false;
  }
  return true;
}

function refused(field: string, pattern: string, why: string): CheckpointError {
  const shown = pattern.length > 80 ? `${pattern.slice(0, 80)}..` : pattern;
  return new CheckpointError(
    `${field}: the pattern ${JSON.stringify(shown)} ${why}; files may hold only paths and simple patterns: name the modules by their paths`,
    field,
  );
}

/** The tokens of a pattern. */
const TOKENS = {
  or: /\|/y,
  start: /\^/y,
  end: /\$/y,
  open: /\((?:\?(i?):|\?P<\w+>|(?!\?))/y,
  close: /\)/y,
  /** A character, a class like \d, or a set like [a-z]. */
  one: /\\(?:[dDwWsS]|[^\w])|\[\^?(?:\\(?:[dDwWsS]|[^\w])|[^\]\\])+\]|[^\\()[\]{}|*+?^$]/y,
  /** How often the part before it occurs. Laziness does not matter, because the whole path must match. */
  often: /(?:([*+?])|\{(\d{1,3})(?:(,)(\d{0,3}))?\})\??/y,
} as const;

/** Parses a pattern. @throws CheckpointError when it is too long, broken, or more than this can match. */
function partOf(field: string, pattern: string): Part {
  if (pattern.length > MAX_LENGTH) {
    throw refused(field, pattern, `has ${pattern.length} characters, at most ${MAX_LENGTH} are read`);
  }
  let at = 0;
  let flags = 's';
  const take = (token: keyof typeof TOKENS): RegExpExecArray | null => {
    TOKENS[token].lastIndex = at;
    const found = TOKENS[token].exec(pattern);
    at += found?.[0].length ?? 0;
    return found;
  };
  const alternatives = (): Part => {
    const options = [sequence()];
    while (take('or')) options.push(sequence());
    // An alternative may be empty, so each counts as a step.
    return (begins, subject) =>
      new Set(options.flatMap((option) => (isAffordable(subject, begins) ? [...option(begins, subject)] : [])));
  };
  const sequence = (): Part => {
    const parts: Part[] = [];
    for (let part = atom(); part; part = atom()) parts.push(repeated(part, take('often')));
    return inOrder(parts);
  };
  const atom = (): Part | undefined => {
    if (take('start')) return (begins) => only(begins, (position) => position === 0);
    if (take('end')) return (begins, { path }) => only(begins, (position) => position === path.length);
    const from = at;
    const [one] = take('one') ?? [];
    const part = one === undefined ? group() : character(one, flags);
    if (!part) at = from;
    return part;
  };
  const group = (): Part | undefined => {
    const opened = take('open');
    if (!opened) return undefined;
    const outside = flags;
    if (opened[1] === 'i') flags = 'si';
    const inner = alternatives();
    flags = outside;
    return take('close') ? inner : undefined;
  };
  const whole = alternatives();
  if (at === pattern.length) return whole;
  throw refused(field, pattern, `cannot be read from ${JSON.stringify(pattern.slice(at, at + 10))} on`);
}

function only(begins: Positions, isKept: (position: number) => boolean): Positions {
  return new Set([...begins].filter(isKept));
}

/** A part of one character; undefined for a set like [z-a]. */
function character(one: string, flags: string): Part | undefined {
  let accepts: RegExp;
  try {
    accepts = new RegExp(`^${one}$`, flags);
  } catch {
    return undefined;
  }
  return (begins, { path }) => new Set([...only(begins, (at) => accepts.test(path.charAt(at)))].map((at) => at + 1));
}

function inOrder(parts: readonly Part[]): Part {
  return (begins, subject) => {
    let positions = begins;
    for (const part of parts) {
      if (positions.size === 0 || !isAffordable(subject, positions)) break;
      positions = part(positions, subject);
    }
    return positions;
  };
}

/** Applies `*`, `+`, `?` or `{m,n}`, if there is one, to a part. */
function repeated(part: Part, often: RegExpExecArray | null): Part {
  if (!often) return part;
  const [, mark, from = '', comma, to = ''] = often;
  const least = mark === undefined ? Number(from) : mark === '+' ? 1 : 0;
  const bound = comma === undefined ? least : to === '' ? Infinity : Number(to);
  const most = mark === undefined ? bound : mark === '?' ? 1 : Infinity;
  return (begins, subject) => {
    const ends = new Set(least === 0 ? begins : []);
    let last = begins;
    for (let time = 1; time <= most && last.size > 0 && isAffordable(subject, last); time++) {
      last = part(last, subject);
      if (time < least) continue;
      last = only(last, (position) => !ends.has(position));
      for (const position of last) ends.add(position);
    }
    return ends;
  };
}

/** Counts a step from these positions. */
function isAffordable({ cost }: Subject, begins: Positions): boolean {
  cost.steps += begins.size;
  return cost.steps <= MAX_STEPS;
}
