import { grouped } from '@peftjs/core/method';
import { isNumeric } from './rows.js';

/** Labels that classes join. */
export interface JoinedLabels {
  /** What separates them: a value for `labelSeparator`. */
  readonly separator: string;
  /** The number of labels that there are when classes are split at it. */
  readonly labels: number;
}

const SEPARATORS = ['|', ';', ','] as const;

/** The share of the joined classes of which every part occurs elsewhere. */
const KNOWN_SHARE = 0.8;

/**
 * Finds labels that classes join, as in `food|staff`. Classes that merely contain a comma are left alone: nearly all
 * parts must be those of other classes too, and some in another place, or alone. A city of `City, Country` occurs with
 * one country; a size and a colour always stand in the same place.
 */
export function joinedLabels(classes: readonly string[]): JoinedLabels | undefined {
  const found = SEPARATORS.flatMap((separator) => joinedBy(separator, classes) ?? []);
  return found.sort((a, b) => b.joined - a.joined).map(({ separator, labels }) => ({ separator, labels }))[0];
}

function joinedBy(separator: string, classes: readonly string[]): (JoinedLabels & { joined: number }) | undefined {
  const split = classes.map((name) => name.split(separator).map((part) => part.trim()));
  const joined = split.filter(({ length }) => length > 1);
  if (joined.length === 0 || split.some((parts) => parts.includes('') || new Set(parts).size < parts.length)) return;
  const places = grouped(
    split.flatMap((parts) => parts.map((part, at) => ({ part, at: parts.length === 1 ? 'alone' : at }))),
    ({ part }) => part,
  );
  const isNumber = separator === ',' && joined.flat().every(isNumeric); // decimal commas
  const known = joined.filter((parts) => parts.every((part) => (places.get(part)?.length ?? 0) > 1));
  const moves = joined.flat().some((part) => new Set(places.get(part)?.map(({ at }) => at)).size > 1);
  if (isNumber || !moves || known.length < KNOWN_SHARE * joined.length) return;
  return { separator, labels: places.size, joined: joined.length };
}
