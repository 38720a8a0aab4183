import * as v from 'valibot';

/** How numbers that JSON does not have are written. */
const NAMES = ['NaN', 'Infinity', '-Infinity'] as const;

/** Any number as plain data hold it: one that JSON does not have by its name. Read as a number. */
export const anyNumber = v.pipe(
  v.union([v.custom<number>((input) => typeof input === 'number', 'expected a number'), v.picklist(NAMES)]),
  v.transform(Number),
);

/** JSON of plain data; the numbers that it does not have become `"NaN"`, `"Infinity"` and `"-Infinity"`, not null. */
export function toJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, byName, indent);
}

/** Plain data as `toJson` writes them, for a writer of JSON that is not ours. */
export function asJson(value: object): unknown {
  return JSON.parse(toJson(value));
}

/** A reviver that turns the names back into numbers, for data in which no text can be one of them. */
export function withNumbers(_key: string, value: unknown): unknown {
  return NAMES.some((name) => name === value) ? Number(value) : value;
}

function byName(_key: string, value: unknown): unknown {
  return typeof value === 'number' && !Number.isFinite(value) ? String(value) : value;
}

/**
 * Where plain data hold something that JSON does not have, such as a function, NaN or a Map: its path; undefined where all of it can be
 * written. A field that is undefined is as good as absent.
 */
export function pathOfNoJson(value: unknown, path = ''): string | undefined {
  if (value === null || ['string', 'boolean'].includes(typeof value) || Number.isFinite(value)) return undefined;
  if (!isPlain(value)) return path;
  for (const [key, inner] of Object.entries(value)) {
    if (inner === undefined && !Array.isArray(value)) continue;
    const found = pathOfNoJson(inner, path === '' ? key : `${path}.${key}`);
    if (found !== undefined) return found;
  }
  return undefined;
}

function isPlain(value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return Array.isArray(value) || prototype === Object.prototype || prototype === null;
}

/** JSON with sorted keys: values of equal content give equal text, in whatever order their fields were written or read. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    inner !== null && typeof inner === 'object' && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}
