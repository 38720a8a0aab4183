import * as v from 'valibot';
import { ConfigError } from './errors.js';

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

/** A number above zero. */
export const positive = v.pipe(v.number(), v.finite(), v.gtValue(0));

/** A number of at least zero. */
export const nonNegative = v.pipe(v.number(), v.finite(), v.minValue(0));

/** A rate of dropout: 0 is none, 1 would leave nothing. */
export const dropoutRate = v.pipe(v.number(), v.minValue(0), v.ltValue(1));

/**
 * Reads options through a schema: defaults filled, unknown fields warned of once, and one clear line for the first bad one.
 * @throws ConfigError whose `path` is the field.
 */
export function parseOptions<const S extends v.ObjectEntries>(
  owner: string,
  entries: S,
  input: unknown,
): v.InferOutput<v.ObjectSchema<S, undefined>> {
  if (input === null || typeof input !== 'object' || Array.isArray(input)) {
    throw new ConfigError(`${owner}: options must be an object, got ${describe(input)}`);
  }
  for (const key of Object.keys(input)) {
    if (!(key in entries)) {
      warnOnce(`${owner}: unknown option '${key}' is ignored; known options are ${Object.keys(entries).join(', ')}`);
    }
  }
  const result = v.safeParse(v.object(entries), input);
  if (result.success) return result.output;
  const [issue] = result.issues;
  const path = v.getDotPath(issue) ?? '';
  if (issue.expected === 'never')
    throw new ConfigError(`${owner}: option '${path}' is unknown; ${issue.message}`, path);
  throw new ConfigError(`${owner}: option '${path}' is ${describe(issue.input)}; ${expectation(issue)}`, path);
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
  if (typeof value === 'number' || typeof value === 'boolean' || value === null) return String(value);
  return JSON.stringify(value).slice(0, SHOWN);
}
