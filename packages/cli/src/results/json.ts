import { createHash } from 'node:crypto';
import * as v from 'valibot';

/** The names by which non-finite numbers are written. */
const NAMES = ['NaN', 'Infinity', '-Infinity'] as const;

/** The schema of any number in plain data, where non-finite ones are names. Parses to a number. */
export const anyNumber = v.pipe(
  v.union([v.custom<number>((input) => typeof input === 'number', 'expected a number'), v.picklist(NAMES)]),
  v.transform(Number),
);

/** Serializes plain data as JSON. Non-finite numbers become `"NaN"`, `"Infinity"` and `"-Infinity"` instead of null. */
export function toJson(value: unknown, indent?: number): string {
  const named = (_key: string, inner: unknown): unknown =>
    typeof inner === 'number' && !Number.isFinite(inner) ? String(inner) : inner;
  return JSON.stringify(value, named, indent);
}

/** Converts plain data as `toJson` does, for another JSON writer. */
export function asJson(value: object): unknown {
  return JSON.parse(toJson(value));
}

/** A reviver that converts the names back to numbers, for data in which no string equals one of them. */
export function reviveNumbers(_key: string, value: unknown): unknown {
  return NAMES.some((name) => name === value) ? Number(value) : value;
}

/** The most levels of plain data in a result file. */
export const MAX_DEPTH = 8;

/**
 * Finds the path of a value that JSON of at most `depth` levels cannot hold, such as a function, NaN or a Map;
 * undefined if there is none. Fields that are undefined count as absent.
 */
export function findNonJson(value: unknown, depth = MAX_DEPTH, path = ''): string | undefined {
  if (value === null || ['string', 'boolean'].includes(typeof value) || Number.isFinite(value)) return undefined;
  if (depth === 0 || !isPlain(value)) return path;
  for (const [key, inner] of Object.entries(value)) {
    if (inner === undefined && !Array.isArray(value)) continue;
    const found = findNonJson(inner, depth - 1, path === '' ? key : `${path}.${key}`);
    if (found !== undefined) return found;
  }
  return undefined;
}

function isPlain(value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return Array.isArray(value) || prototype === Object.prototype || prototype === null;
}

/** Serializes a value as JSON with sorted keys, so that equal content gives equal text. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    inner !== null && typeof inner === 'object' && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}

/** The SHA-256 of a text, in hexadecimal. */
export function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
