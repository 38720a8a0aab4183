import { CheckpointError } from '@peftjs/core/method';

/** Parses a file of JSON in UTF-8. @throws CheckpointError when it is something else. */
export function parseJson(bytes: Uint8Array, file: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new CheckpointError(`${file}: expected a JSON file, got ${reasonOf(cause)}`, file, cause);
  }
}

/**
 * A value as a JSON file.
 * @param floats names of fields whose whole numbers are written with a point, e.g. 2.0: Python tells them from integers
 */
export function encodeJson(value: unknown, floats: ReadonlySet<string> = new Set()): Uint8Array {
  const text = JSON.stringify(value, null, 2).replace(/"(\w+)": (-?\d+)(?=[,\n])/g, (all: string, name: string) =>
    floats.has(name) ? `${all}.0` : all,
  );
  return new TextEncoder().encode(`${text}\n`);
}

/** The names of the fields that a JSON file gives whole numbers with a point. */
export function floatFields(bytes: Uint8Array): ReadonlySet<string> {
  const found = new TextDecoder().decode(bytes).matchAll(/"(\w+)"\s*:\s*-?\d+\.0+(?=[\s,}])/g);
  return new Set(Array.from(found, ([, name]) => name as string));
}

/** What was thrown, on one line and without what a terminal takes for a command: it may quote a file. */
export function reasonOf(cause: unknown): string {
  return String(cause)
    .replace(/[\s\p{C}]+/gu, ' ')
    .slice(0, 300);
}

/** A field of what may be an object; undefined where it is none. */
export function field(owner: unknown, name: string): unknown {
  return typeof owner === 'object' && owner !== null ? (owner as Record<string, unknown>)[name] : undefined;
}

/** A field that must be a list. @throws CheckpointError naming it. */
export function listField(owner: unknown, name: string, file: string): unknown[] {
  const value = field(owner, name);
  if (Array.isArray(value)) return value;
  throw new CheckpointError(`${file}: '${name}' must be a list, got ${shown(value)}`, file);
}

/** A parsed value as a message shows it. */
export function shown(value: unknown): string {
  if (value === undefined) return 'nothing';
  try {
    return JSON.stringify(value).slice(0, 80);
  } catch {
    return 'something nested too deeply';
  }
}
