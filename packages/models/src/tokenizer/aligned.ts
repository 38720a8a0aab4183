/**
 * A text derived from another one, with the origin of each UTF-16 unit, like `NormalizedString` in Hugging Face's
 * tokenizers. Unit i came from `original.slice(starts[i], ends[i])`.
 */
export interface Aligned {
  /** The derived text. */
  readonly text: string;
  /** The start of each unit's origin. */
  readonly starts: readonly number[];
  /** The end of each unit's origin (exclusive). */
  readonly ends: readonly number[];
}

/**
 * A character of the new text, and what it replaces: the next old character (0), nothing, because it is inserted after
 * the last one (1), or the next n + 1 old ones (-n).
 */
export type Change = readonly [character: string, change: number];

/** Returns a text aligned with itself. */
export function unchanged(text: string): Aligned {
  const starts: number[] = [];
  const ends: number[] = [];
  for (const character of text) {
    const start = starts.length;
    for (let unit = 0; unit < character.length; unit++) {
      starts.push(start);
      ends.push(start + character.length);
    }
  }
  return { text, starts, ends };
}

/** Returns a part of a text, by its units. */
export function part({ text, starts, ends }: Aligned, from: number, to: number): Aligned {
  return { text: text.slice(from, to), starts: starts.slice(from, to), ends: ends.slice(from, to) };
}

/** Builds a text from characters. Each is given with a unit of `from`, and has the same origin. */
function rebuilt(from: Aligned, characters: Iterable<readonly [character: string, unit: number]>): Aligned {
  const texts: string[] = [];
  const starts: number[] = [];
  const ends: number[] = [];
  for (const [character, unit] of characters) {
    texts.push(character);
    for (let at = 0; at < character.length; at++) {
      starts.push(from.starts[unit] ?? 0);
      ends.push(from.ends[unit] ?? 0);
    }
  }
  return { text: texts.join(''), starts, ends };
}

/** Replaces the characters of a text by those of `changes`. */
export function transformed(from: Aligned, changes: Iterable<Change>): Aligned {
  const units: number[] = [];
  let unit = 0;
  for (const character of from.text) {
    units.push(unit);
    unit += character.length;
  }
  const placed: [string, number][] = [];
  let at = 0;
  for (const [character, change] of changes) {
    const own = change > 0 ? at - 1 : at;
    placed.push([character, own < 0 ? -1 : (units[Math.min(own, units.length - 1)] as number)]);
    if (change <= 0) at += 1 - change;
  }
  return rebuilt(from, placed);
}

/** Replaces each character by a text. */
export function byCharacter(from: Aligned, change: (character: string) => string): Aligned {
  const placed: [string, number][] = [];
  let unit = 0;
  for (const character of from.text) {
    for (const own of change(character)) placed.push([own, unit]);
    unit += character.length;
  }
  return rebuilt(from, placed);
}

/** Replaces each match of a pattern by `content`, whose origin is the last character of the match. */
export function withReplaced(from: Aligned, pattern: RegExp, content: string): Aligned {
  const placed: [string, number][] = [];
  let at = 0;
  const keep = (to: number): void => {
    for (const character of from.text.slice(at, to)) {
      placed.push([character, at]);
      at += character.length;
    }
  };
  for (const { 0: match, index } of from.text.matchAll(pattern)) {
    keep(index);
    at = index + match.length;
    for (const character of content) placed.push([character, at - 1]);
  }
  keep(from.text.length);
  return rebuilt(from, placed);
}

/** Puts a prefix before a text. Its origin is the text's first character. */
export function withPrefix(from: Aligned, prefix: string): Aligned {
  const before = rebuilt(
    from,
    Array.from(prefix, (character) => [character, 0] as const),
  );
  return {
    text: before.text + from.text,
    starts: [...before.starts, ...from.starts],
    ends: [...before.ends, ...from.ends],
  };
}

/**
 * Converts a text to a Unicode normal form. Marks may be reordered, and a composed character has the origin of its
 * first part.
 */
export function inForm(from: Aligned, form: 'NFC' | 'NFD' | 'NFKC' | 'NFKD'): Aligned {
  const apart = form === 'NFC' ? 'NFD' : form === 'NFKC' ? 'NFKD' : form;
  const pending = new Map<string, number[]>();
  for (const character of from.text) {
    Array.from(character.normalize(apart)).forEach((own, index) => {
      const changes = pending.get(own) ?? [];
      pending.set(own, changes);
      changes.push(Math.min(index, 1));
    });
  }
  const next = new Map<string, number>();
  const nextChange = (character: string): number => {
    const at = next.get(character) ?? 0;
    next.set(character, at + 1);
    return pending.get(character)?.[at] ?? 0;
  };
  const changes = Array.from(from.text.normalize(apart), (character): Change => [character, nextChange(character)]);
  return transformed(from, apart === form ? changes : composed(from.text.normalize(form), changes));
}

/** Returns the changes of composed characters. Each uses up the next of its parts in `apart`. */
function composed(text: string, apart: readonly Change[]): Change[] {
  const isUsed = new Array<boolean>(apart.length).fill(false);
  let first = 0;
  return Array.from(text, (character): Change => {
    let total = 0;
    const parts = Array.from(character.normalize('NFD'));
    for (const own of parts) {
      let at = first;
      while (at < apart.length && (isUsed[at] || apart[at]?.[0] !== own)) at++;
      total += apart[at]?.[1] ?? 0;
      isUsed[at] = true;
      while (isUsed[first]) first++;
    }
    return [character, total - (parts.length - 1)];
  });
}
