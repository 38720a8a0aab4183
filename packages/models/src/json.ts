import { CheckpointError } from '@peftjs/core/method';

/** Parses a file of JSON in UTF-8. @throws CheckpointError when it is something else. */
export function parseJson(bytes: Uint8Array, file: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new CheckpointError(`${file}: expected a JSON file, got ${reasonOf(cause)}`, file, cause);
  }
}

/** A value as a JSON file. */
export function encodeJson(value: unknown): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`);
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
