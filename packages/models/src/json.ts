import { CheckpointError } from '@peftjs/core/method';
import { jsonParts } from '@peftjs/core/model';

/** Parses a JSON file in UTF-8. @throws CheckpointError when it is not valid, or holds very many values. */
export function parseJson(bytes: Uint8Array, file: string): unknown {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    if (jsonParts(text) <= MOST_PARTS) return JSON.parse(text);
  } catch (cause) {
    const isPointer = new TextDecoder().decode(bytes.subarray(0, 100)).startsWith('version https://git-lfs');
    const got = isPointer ? 'a pointer of Git LFS: run git lfs pull' : reasonOf(cause);
    throw fileError(file, `expected a JSON file, got ${got}`, cause);
  }
  throw fileError(file, `expected at most ${MOST_PARTS} objects, lists and keys`);
}

/**
 * The most objects, lists and keys of a file: each takes dozens of bytes of memory, and as few as three in the file. A
 * tokenizer has one for each token and each merge.
 */
const MOST_PARTS = 1_500_000;

/**
 * Encodes a value as a JSON file.
 * @param floats Names of fields whose whole numbers are written as e.g. 2.0, because Python distinguishes them from
 * integers.
 */
export function encodeJson(value: unknown, floats: ReadonlySet<string> = new Set()): Uint8Array {
  const text = JSON.stringify(value, null, 2).replace(/"(\w+)": (-?\d+)(?=[,\n])/g, (all: string, name: string) =>
    floats.has(name) ? `${all}.0` : all,
  );
  return new TextEncoder().encode(`${text}\n`);
}

/** Returns the names of the fields that a JSON file writes as whole floats, e.g. 2.0. */
export function floatFields(bytes: Uint8Array): ReadonlySet<string> {
  const found = new TextDecoder().decode(bytes).matchAll(/"(\w+)"\s*:\s*-?\d+\.0+(?=[\s,}])/g);
  return new Set(Array.from(found, ([, name]) => name as string));
}

/** Returns the error for a file that is broken or not supported. */
export function fileError(file: string, what: string, cause?: unknown): CheckpointError {
  return new CheckpointError(`${file}: ${what}`, file, cause);
}

/** Formats a thrown value on one line, without control characters: it may quote an untrusted file. */
export function reasonOf(cause: unknown): string {
  return String(cause)
    .replace(/[\s\p{C}]+/gu, ' ')
    .slice(0, 300);
}

/** Returns a field of a value; undefined if the value is not an object. */
export function field(owner: unknown, name: string): unknown {
  return typeof owner === 'object' && owner !== null ? (owner as Record<string, unknown>)[name] : undefined;
}

/** Returns a field that must be a list. @throws CheckpointError naming it. */
export function listField(owner: unknown, name: string, file: string): unknown[] {
  const value = field(owner, name);
  if (Array.isArray(value)) return value;
  throw fileError(file, `'${name}' must be a list, got ${shown(value)}`);
}

/** Formats a parsed value for messages. */
export function shown(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'function') return 'a function';
  try {
    return JSON.stringify(value).slice(0, 80);
  } catch {
    return 'something nested too deeply';
  }
}
