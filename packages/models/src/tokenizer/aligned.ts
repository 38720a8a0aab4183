/**
 * A text that was made from another one, and what each part of it came from, as Hugging Face's tokenizers keep it in their
 * `NormalizedString`. Units are those of UTF-16.
 */
export interface Aligned {
  readonly text: string;
  /** The characters that each unit came from: `original.slice(starts[i], ends[i])`. */
  readonly starts: readonly number[];
  readonly ends: readonly number[];
}

/** A character of the new text: in the place of the next one (0), put after the one before it (1), or of several more (-1, ..). */
export type Change = readonly [character: string, change: number];

/** A text as it is. */
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

/** A part of a text, by its units. */
export function part({ text, starts, ends }: Aligned, from: number, to: number): Aligned {
  return { text: text.slice(from, to), starts: starts.slice(from, to), ends: ends.slice(from, to) };
}

/** Builds a text from characters, each with the unit of `from` whose origin it shares. */
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

/** The text with other characters in the place of its own, as `changes` say. */
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

/** The text with another one in the place of each character. */
export function byCharacter(from: Aligned, change: (character: string) => string): Aligned {
  const placed: [string, number][] = [];
  let unit = 0;
  for (const character of from.text) {
    for (const own of change(character)) placed.push([own, unit]);
    unit += character.length;
  }
  return rebuilt(from, placed);
}

/** The text with `content` in the place of what a pattern matches; it counts as the last character that it replaces. */
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

/** The text with another one before it, which counts as its first character. */
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

/** Unicode's normal forms. Marks change places, and characters are composed: that counts as the first of them. */
export function inForm(from: Aligned, form: 'NFC' | 'NFD' | 'NFKC' | 'NFKD'): Aligned {
  const apart = form === 'NFC' ? 'NFD' : form === 'NFKC' ? 'NFKD' : form;
  const waiting = new Map<string, number[]>();
  for (const character of from.text) {
    Array.from(character.normalize(apart)).forEach((own, place) => {
      const changes = waiting.get(own) ?? [];
      waiting.set(own, changes);
      changes.push(Math.min(place, 1));
    });
  }
  const next = new Map<string, number>();
  const taken = (character: string): number => {
    const at = next.get(character) ?? 0;
    next.set(character, at + 1);
    return waiting.get(character)?.[at] ?? 0;
  };
  const changes = Array.from(from.text.normalize(apart), (character): Change => [character, taken(character)]);
  return transformed(from, apart === form ? changes : composed(from.text.normalize(form), changes));
}

/** The changes of composed characters: each takes the next of the characters that it is made of. */
function composed(text: string, apart: readonly Change[]): Change[] {
  const isTaken = new Array<boolean>(apart.length).fill(false);
  let first = 0;
  return Array.from(text, (character): Change => {
    let total = 0;
    const parts = Array.from(character.normalize('NFD'));
    for (const own of parts) {
      let at = first;
      while (at < apart.length && (isTaken[at] || apart[at]?.[0] !== own)) at++;
      total += apart[at]?.[1] ?? 0;
      isTaken[at] = true;
      while (isTaken[first]) first++;
    }
    return [character, total - (parts.length - 1)];
  });
}
