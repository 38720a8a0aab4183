import { CheckpointError } from '../errors.js';

/*
 * Regular expressions from files. JavaScript's own engine may need time that doubles with every character. Untrusted
 * patterns are therefore compiled to a nondeterministic automaton (Thompson, 1968): all of its states advance together
 * at every character of a path, so that time grows with the length of the pattern times that of the path.
 */

/** Limits: characters of one pattern, and instructions of all patterns of a table. */
const MAX_LENGTH = 1000;
const MAX_INSTRUCTIONS = 50_000;
/** The deepest nesting of groups. */
const MAX_DEPTH = 50;
/** The most instructions run for one table: at most seconds. */
const MAX_STEPS = 20_000_000;

/** The most repetitions of a part of a pattern. */
const MAX_REPETITIONS = 1000;

/** A name whose only special characters are dots (any character) and a leading `^`. */
const PLAIN = /^\^?[\w.-]+$/;

type Instruction =
  | { readonly op: 'character'; accepts(character: string): boolean }
  | { readonly op: 'fork'; readonly to: number[] }
  | { readonly op: 'start' | 'end' };

type Program = readonly Instruction[];

/**
 * Compiles a pattern table of a file, e.g. `alpha_pattern`, with PEFT's rule: a module has the value of the first key
 * that is its path or matches a dotted suffix of it. Matching takes time linear in the length of each pattern.
 * @returns a function from a module's path to its value
 * @throws CheckpointError naming the field and the pattern: at once for a pattern that is too long or broken, looks
 * ahead or behind, or refers back; on look-up when all patterns together take too long.
 */
export function patternTable(
  field: string,
  table: Readonly<Record<string, number>>,
): (path: string) => number | undefined {
  const cost = { instructions: 0, steps: 0 };
  const entries = Object.entries(table).map(([pattern, value]) => {
    const program = PLAIN.test(pattern) ? null : new Compiler(field, pattern).program();
    cost.instructions += program?.length ?? 0;
    if (cost.instructions > MAX_INSTRUCTIONS) throw refused(field, pattern, 'comes after too many others');
    return { pattern, value, program };
  });
  return (path) =>
    entries.find(({ pattern, program }) => {
      if (path === pattern) return true;
      if (!program) return endsLike(path, pattern);
      cost.steps += program.length * path.length;
      if (cost.steps > MAX_STEPS) throw refused(field, pattern, 'takes too long to match, with the others');
      return endsWithMatch(path, program);
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

/** Returns whether a path, or the part after one of its dots, matches the whole program. */
function endsWithMatch(path: string, program: Program): boolean {
  const reached = new Int32Array(program.length + 1).fill(-1); // the character index at which each state was last entered
  let states: number[] = [];
  for (let at = 0; at <= path.length; at++) {
    if (at === 0 || path[at - 1] === '.') enter(states, 0, { program, reached, at, length: path.length });
    if (at === path.length) break;
    const next: number[] = [];
    for (const state of states) {
      const instruction = program[state];
      if (instruction?.op !== 'character' || !instruction.accepts(path[at] as string)) continue;
      enter(next, state + 1, { program, reached, at: at + 1, length: path.length });
    }
    states = next;
  }
  return reached[program.length] === path.length;
}

interface Entering {
  readonly program: Program;
  readonly reached: Int32Array;
  readonly at: number;
  readonly length: number;
}

/** Adds a state and all states reachable from it without a character. The program's length is the state of a match. */
function enter(states: number[], first: number, { program, reached, at, length }: Entering): void {
  const pending = [first];
  for (let state = pending.pop(); state !== undefined; state = pending.pop()) {
    if (reached[state] === at) continue;
    reached[state] = at;
    states.push(state);
    const instruction = program[state];
    if (instruction?.op === 'fork') pending.push(...instruction.to);
    if (instruction?.op === 'start' && at === 0) pending.push(state + 1);
    if (instruction?.op === 'end' && at === length) pending.push(state + 1);
  }
}

function refused(field: string, pattern: string, why: string): CheckpointError {
  const shown = pattern.length > 80 ? `${pattern.slice(0, 80)}..` : pattern;
  return new CheckpointError(
    `${field}: the pattern ${JSON.stringify(shown)} ${why}; files may hold only paths and simple patterns: name the modules by their paths`,
    field,
  );
}

const CLASSES: Readonly<Record<string, RegExp>> = { d: /\d/, D: /\D/, w: /\w/, W: /\W/, s: /\s/, S: /\S/ };

/** Parses a pattern by recursive descent and emits its program. */
class Compiler {
  readonly #field: string;
  readonly #pattern: string;
  readonly #program: Instruction[] = [];
  #at = 0;
  #depth = 0;
  #ignoresCase = false;

  constructor(field: string, pattern: string) {
    this.#field = field;
    this.#pattern = pattern;
    if (pattern.length > MAX_LENGTH)
      throw this.#error(`has ${pattern.length} characters, at most ${MAX_LENGTH} are read`);
  }

  program(): Program {
    this.#alternatives();
    if (this.#at < this.#pattern.length) throw this.#error("has a ')' that closes nothing");
    return this.#program;
  }

  /** a|b */
  #alternatives(): void {
    if (++this.#depth > MAX_DEPTH) throw this.#error(`has more than ${MAX_DEPTH} groups within each other`);
    const ends: number[][] = [];
    for (let start = this.#program.length; ; start = this.#program.length) {
      this.#sequence();
      if (!this.#takes('|')) break;
      this.#program.splice(start, 0, { op: 'fork', to: [] });
      this.#shift(start, 1);
      const exit: number[] = [];
      this.#emit({ op: 'fork', to: exit });
      ends.push(exit);
      (this.#program[start] as { to: number[] }).to.push(start + 1, this.#program.length);
    }
    for (const exit of ends) exit.push(this.#program.length);
    this.#depth--;
  }

  #sequence(): void {
    while (this.#at < this.#pattern.length && !'|)'.includes(this.#peek())) {
      const start = this.#program.length;
      this.#atom();
      this.#repeat(start);
    }
  }

  #atom(): void {
    const character = this.#next();
    if (character === '(') this.#group();
    else if (character === '[') this.#emitCharacter(this.#set());
    else if (character === '.') this.#emitCharacter(() => true);
    else if (character === '^') this.#emit({ op: 'start' });
    else if (character === '$') this.#emit({ op: 'end' });
    else if (character === '\\') this.#emitEscape();
    else if ('*+?{'.includes(character)) throw this.#error(`has a '${character}' that repeats nothing`);
    else this.#emitCharacter((given) => given === character);
  }

  #emitEscape(): void {
    if (this.#takes('A')) this.#emit({ op: 'start' });
    else if (this.#takes('Z')) this.#emit({ op: 'end' });
    else this.#emitCharacter(this.#escape());
  }

  #emitCharacter(accepts: (character: string) => boolean): void {
    this.#emit({
      op: 'character',
      accepts: this.#ignoresCase
        ? (character) => accepts(character.toLowerCase()) || accepts(character.toUpperCase())
        : accepts,
    });
  }

  #group(): void {
    const before = this.#ignoresCase;
    if (this.#takes('?') && !this.#opening()) return;
    this.#alternatives();
    this.#ignoresCase = before;
    if (!this.#takes(')')) throw this.#error("has a '(' that is not closed");
  }

  /**
   * Parses what follows `(?` in Python: `:`, a group name or flags. Returns false for a comment, which is not a group.
   * Flags that change the meaning of `.`, `^` and `$` at line ends do not matter for paths.
   */
  #opening(): boolean {
    const rest = this.#pattern.slice(this.#at);
    if (/^<?[=!]/.test(rest)) throw this.#error('looks ahead or behind, which takes more than linear time');
    if (rest.startsWith('P=')) throw this.#error('refers back to a group, which takes more than linear time');
    const [comment] = /^#[^)]*\)/.exec(rest) ?? [];
    const [found, on = '', off = ''] = /^(?:P<\w+>|([aimsu]*)(?:-([ims]+))?:)/.exec(rest) ?? [];
    if (comment === undefined && found === undefined) throw this.#error('has a group that begins with (?');
    this.#at += (comment ?? found ?? '').length;
    if (on.includes('i')) this.#ignoresCase = true;
    if (off.includes('i')) this.#ignoresCase = false;
    return comment === undefined;
  }

  /**
   * Applies `*`, `+`, `?` or `{m,n}` to the instructions from `start`. Laziness does not matter, because the whole path
   * must match.
   */
  #repeat(start: number): void {
    const counts = /^(?:([*+?])|\{(\d+)(,?)(\d*)\})\??/.exec(this.#pattern.slice(this.#at));
    if (!counts) return;
    const [found, mark, from = '', comma, to = ''] = counts;
    this.#at += found.length;
    const least = mark === undefined ? Number(from) : mark === '+' ? 1 : 0;
    const most = mark === undefined ? (comma === '' ? least : to === '' ? null : Number(to)) : mark === '?' ? 1 : null;
    if (Math.max(least, most ?? 0) > MAX_REPETITIONS) throw this.#error('repeats too much');
    if (most !== null && most < least) throw this.#error(`has a repetition '${found}' with more at least than at most`);
    const body = this.#program.splice(start);
    for (let time = 0; time < least; time++) this.#append(body, start);
    if (most === null) {
      const fork: number[] = [];
      const at = this.#emit({ op: 'fork', to: fork });
      this.#append(body, start);
      this.#emit({ op: 'fork', to: [at] });
      fork.push(at + 1, this.#program.length);
      return;
    }
    const forks: number[][] = [];
    for (let time = least; time < most; time++) {
      const fork = [this.#program.length + 1];
      this.#emit({ op: 'fork', to: fork });
      forks.push(fork);
      this.#append(body, start);
    }
    for (const fork of forks) fork.push(this.#program.length);
  }

  /** Appends a copy of instructions that were compiled at `start`. */
  #append(body: Program, start: number): void {
    const by = this.#program.length - start;
    for (const each of body) {
      this.#emit(each.op === 'fork' ? { op: 'fork', to: each.to.map((target) => target + by) } : each);
    }
  }

  /** Moves the jump targets of all instructions after one inserted at `start`. */
  #shift(start: number, by: number): void {
    for (const each of this.#program.slice(start + 1)) {
      if (each.op === 'fork') each.to.forEach((target, index) => (each.to[index] = target + by));
    }
  }

  /** [a-z_], [^.] */
  #set(): (character: string) => boolean {
    const isNegated = this.#takes('^');
    const accepted: ((character: string) => boolean)[] = [];
    if (this.#takes(']')) accepted.push((character) => character === ']'); // Python's rule for a leading ]
    while (!this.#takes(']')) {
      if (this.#at >= this.#pattern.length) throw this.#error("has a '[' that is not closed");
      const first = this.#next();
      if (first === '\\' && this.#peek() in CLASSES) {
        accepted.push(this.#escape());
        continue;
      }
      const from = first === '\\' ? this.#literal() : first;
      if (this.#peek() !== '-' || [']', ''].includes(this.#pattern.charAt(this.#at + 1))) {
        accepted.push((character) => character === from);
        continue;
      }
      this.#at++;
      const to = this.#takes('\\') ? this.#literal() : this.#next();
      if (to < from) throw this.#error(`has a range '${from}-${to}' that holds nothing`);
      accepted.push((character) => from <= character && character <= to);
    }
    return (character) => accepted.some((accepts) => accepts(character)) !== isNegated;
  }

  #escape(): (character: string) => boolean {
    const known = CLASSES[this.#peek()];
    if (!known) {
      const literal = this.#literal();
      return (character) => character === literal;
    }
    this.#at++;
    return (character) => known.test(character);
  }

  /** Parses an escaped character that stands for itself. */
  #literal(): string {
    const character = this.#next();
    if (/[1-9k]/.test(character)) throw this.#error('refers back to a group, which takes more than linear time');
    if (/\w/.test(character) || character === '') throw this.#error(`has the escape '\\${character}'`);
    return character;
  }

  #emit(instruction: Instruction): number {
    if (this.#program.length >= MAX_INSTRUCTIONS) throw this.#error('repeats too much');
    return this.#program.push(instruction) - 1;
  }

  #peek(): string {
    return this.#pattern.charAt(this.#at);
  }

  #next(): string {
    return this.#pattern.charAt(this.#at++);
  }

  #takes(character: string): boolean {
    if (this.#peek() !== character) return false;
    this.#at++;
    return true;
  }

  #error(why: string): CheckpointError {
    return refused(this.#field, this.#pattern, why);
  }
}
