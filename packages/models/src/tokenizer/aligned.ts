/** Where each UTF-16 unit of a text came from: unit i from `original.slice(starts[i], ends[i])`. */
interface Origins {
  readonly starts: readonly number[];
  readonly ends: readonly number[];
}

/** A text derived from another one, with the origin of each unit: `NormalizedString` in Hugging Face's tokenizers. */
export interface Aligned {
  /** The derived text. */
  readonly text: string;
  /** Returns the origins. They are computed only if a caller wants to know where tokens are. */
  readonly origins: () => Origins;
}

/** Returns a derived text. */
function derived(text: string, origins: () => Origins): Aligned {
  let known: Origins | undefined;
  return { text, origins: () => (known ??= origins()) };
}

/**
 * A character of the new text, and what it replaces: the next old character (0), nothing, because it is inserted after
 * the last one (1), or the next n + 1 old ones (-n).
 */
export type Change = readonly [character: string, change: number];

/** Returns a text aligned with itself. */
export function unchanged(text: string): Aligned {
  return derived(text, () => {
    const starts: number[] = [];
    const ends: number[] = [];
    for (const character of text) {
      const start = starts.length;
      for (let unit = 0; unit < character.length; unit++) {
        starts.push(start);
        ends.push(start + character.length);
      }
    }
    return { starts, ends };
  });
}

/** Returns a part of a text, by its units. */
export function part(from: Aligned, start: number, end: number): Aligned {
  return derived(from.text.slice(start, end), () => {
    const { starts, ends } = from.origins();
    return { starts: starts.slice(start, end), ends: ends.slice(start, end) };
  });
}

/** Returns the words of a text, which contains them in that order. */
export function partsOf(from: () => Aligned, words: readonly string[]): Aligned[] {
  let placed: Aligned[] | undefined;
  const inOrder = (whole: Aligned): Aligned[] => {
    let end = 0;
    return words.map((word) => {
      const start = whole.text.indexOf(word, end);
      return part(whole, start, (end = start + word.length));
    });
  };
  return words.map((text, index) => ({
    text,
    origins: () => ((placed ??= inOrder(from()))[index] as Aligned).origins(),
  }));
}

/** Returns the origins of characters, each given with the unit of `from` whose origin it has. */
function originsOf(from: Aligned, characters: Iterable<readonly [character: string, unit: number]>): Origins {
  const old = from.origins();
  const starts: number[] = [];
  const ends: number[] = [];
  for (const [character, unit] of characters) {
    for (let at = 0; at < character.length; at++) {
      starts.push(old.starts[unit] ?? 0);
      ends.push(old.ends[unit] ?? 0);
    }
  }
  return { starts, ends };
}

/** Replaces the characters of a text by those of `changes`. */
export function transformed(from: Aligned, text: string, changes: () => Iterable<Change>): Aligned {
  return derived(text, () => {
    const units: number[] = [];
    let unit = 0;
    for (const character of from.text) {
      units.push(unit);
      unit += character.length;
    }
    const placed: [string, number][] = [];
    let at = 0;
    for (const [character, change] of changes()) {
      const own = change > 0 ? at - 1 : at;
      placed.push([character, own < 0 ? -1 : (units[Math.min(own, units.length - 1)] as number)]);
      if (change <= 0) at += 1 - change;
    }
    return originsOf(from, placed);
  });
}

/** Applies a change that treats each character independently. */
export function byCharacter(from: Aligned, change: (text: string) => string): Aligned {
  return derived(change(from.text), () => {
    const placed: [string, number][] = [];
    let unit = 0;
    for (const character of from.text) {
      placed.push([change(character), unit]);
      unit += character.length;
    }
    return originsOf(from, placed);
  });
}

/**
 * Replaces each match of a pattern by `content`, whose origin is the last character of the match.
 * @param text the new text
 */
export function withReplaced(from: Aligned, text: string, pattern: RegExp, content: string): Aligned {
  return derived(text, () => {
    const placed: [string, number][] = [];
    let at = 0;
    const keep = (to: number): void => {
      for (; at < to; at++) placed.push([from.text.charAt(at), at]);
    };
    for (const { 0: match, index } of from.text.matchAll(pattern)) {
      keep(index);
      at = index + match.length;
      placed.push([content, at - 1]);
    }
    keep(from.text.length);
    return originsOf(from, placed);
  });
}

/** Puts a prefix before a text. Its origin is the text's first character. */
export function withPrefix(from: Aligned, prefix: string): Aligned {
  return derived(prefix + from.text, () => {
    const [before, { starts, ends }] = [originsOf(from, [[prefix, 0]]), from.origins()];
    return { starts: [...before.starts, ...starts], ends: [...before.ends, ...ends] };
  });
}

/**
 * Converts a text to a Unicode normal form. Marks may be reordered, and a composed character has the origin of its
 * first part.
 */
export function inForm(from: Aligned, form: 'NFC' | 'NFD' | 'NFKC' | 'NFKD'): Aligned {
  const text = from.text.normalize(form);
  return transformed(from, text, () => {
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
    return apart === form ? changes : composed(text, changes);
  });
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
