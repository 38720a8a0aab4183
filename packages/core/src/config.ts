import * as v from 'valibot';
import { ConfigError, didYouMean } from './errors.js';

/** Where warnings go; the packages below the command line print nothing themselves. */
export type Warn = (message: string) => void;

let warn: Warn = (message) => {
  globalThis.console.warn(message);
};

/** Sends peftjs's warnings elsewhere than `console.warn`. @returns what sends them where they went before */
export function onWarning(handler: Warn): () => void {
  const before = { warn, warned };
  warn = handler;
  warned = new Set();
  return () => {
    ({ warn, warned } = before);
  };
}

let warned = new Set<string>();

/** Warns once for each text and each handler of `onWarning`. */
export function warnOnce(message: string): void {
  if (warned.has(message)) return;
  warned.add(message);
  warn(message);
}

/** An integer of at least `least`. */
export const integerFrom = (least: number) => v.pipe(v.number(), v.integer(), v.minValue(least));

/** Any number that a file can hold. */
export const finite = v.pipe(v.number(), v.finite());

/** A number above zero. */
export const positive = v.pipe(v.number(), v.finite(), v.gtValue(0));

/** A number of at least zero. */
export const nonNegative = v.pipe(v.number(), v.finite(), v.minValue(0));

/** The share of itself that a running average keeps at a step: 0 is all new, 1 would never move. */
export const keptShare = v.pipe(v.number(), v.minValue(0), v.ltValue(1));

/** A rate of dropout: 0 is none, 1 would leave nothing. */
export const dropoutRate = v.pipe(v.number(), v.minValue(0), v.ltValue(1));

/**
 * Checks that options are an object with known fields only, so that a misspelled one is not taken for its default.
 * @param owner the function or method whose options they are
 * @throws ConfigError whose `path` is the unknown field, with the nearest known one.
 */
export function assertKnownOptions(owner: string, options: unknown, known: readonly string[]): void {
  if (options === null || typeof options !== 'object' || Array.isArray(options)) {
    throw new ConfigError(`${owner}: options must be an object, got ${describe(options)}`);
  }
  const unknown = Object.keys(options).find((name) => !known.includes(name));
  if (unknown === undefined) return;
  throw new ConfigError(
    `${owner}: option '${unknown}' is unknown${didYouMean(unknown, known)}; known are ${known.join(', ')}`,
    unknown,
  );
}

/** Checks a name from a closed list. @throws ConfigError whose `path` is the field, with the nearest name. */
export function assertOneOf(field: string, value: unknown, known: readonly string[]): void {
  if (known.some((name) => name === value)) return;
  throw new ConfigError(
    `${field} is ${describe(value)}${didYouMean(value, known)}; expected ${known.join(', ')}`,
    field,
  );
}

/**
 * Reads options through a schema: defaults filled, and one clear line for the first unknown or impossible one.
 * @throws ConfigError whose `path` is the field.
 */
export function parseOptions<const S extends v.ObjectEntries>(
  owner: string,
  entries: S,
  input: unknown,
): v.InferOutput<v.ObjectSchema<S, undefined>> {
  assertKnownOptions(owner, input, Object.keys(entries));
  const result = v.safeParse(v.object(entries), input);
  if (result.success) return result.output;
  const [issue] = result.issues;
  const path = v.getDotPath(issue) ?? '';
  if (issue.expected === 'never') {
    throw new ConfigError(`${owner}: option '${path}' is unknown${issue.message}`, path);
  }
  const value = `${describe(issue.input)}${didYouMean(issue.input, quotedNames(issue))}`;
  throw new ConfigError(`${owner}: option '${path}' is ${value}; ${expectation(issue)}`, path);
}

/** The names of a closed list, as an issue quotes them. */
function quotedNames({ expected }: v.BaseIssue<unknown>): string[] {
  return [...(expected ?? '').matchAll(/"([^"]*)"/g)].map(([, name]) => name ?? '');
}

function expectation(issue: v.BaseIssue<unknown>): string {
  return issue.expected === null
    ? issue.message
    : `expected ${issue.requirement === undefined ? issue.expected : issue.message.replace(/^Invalid [^:]*: Expected /, '').replace(/ but received .*$/, '')}`;
}

/** Characters of a value that a message shows. */
const SHOWN = 80;

/** A value as an error message shows it. */
export function describe(value: unknown): string {
  if (typeof value === 'string') return value.length > SHOWN ? `'${value.slice(0, SHOWN)}..'` : `'${value}'`;
  if (value === undefined) return 'missing';
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'number' || typeof value === 'boolean' || value === null) return String(value);
  return JSON.stringify(value).slice(0, SHOWN);
}
