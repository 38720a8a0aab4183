import * as v from 'valibot';
import { ConfigError, didYouMean } from './errors.js';

/** Receives warnings, in place of `console.warn`: see `onWarning`. */
export type Warn = (message: string) => void;

let warn: Warn = (message) => {
  globalThis.console.warn(message);
};

/**
 * Sends peftjs's warnings to `handler` instead of `console.warn`. @returns a function that restores the previous
 * handler
 */
export function onWarning(handler: Warn): () => void {
  assertArgument('handler', handler, v.function());
  const before = { warn, warned };
  warn = handler;
  warned = new Set();
  return () => {
    ({ warn, warned } = before);
  };
}

let warned = new Set<string>();

/** Warns once per text and per handler of `onWarning`. */
export function warnOnce(message: string): void {
  if (warned.has(message)) return;
  warned.add(message);
  warn(message);
}

/** A schema for integers of at least `least`. */
export const integerFrom = (least: number) => v.pipe(v.number(), v.integer(), v.minValue(least));

/** A schema for finite numbers. */
export const finite = v.pipe(v.number(), v.finite());

/** A schema for finite numbers above zero. */
export const positive = v.pipe(v.number(), v.finite(), v.gtValue(0));

/** A schema for finite numbers of at least zero. */
export const nonNegative = v.pipe(v.number(), v.finite(), v.minValue(0));

/** A schema for shares of a whole: above 0, at most 1. */
export const positiveShare = v.pipe(v.number(), v.gtValue(0), v.maxValue(1));

/** A schema for the share of itself that a running average keeps per step: 0 keeps nothing, 1 would never change. */
export const keptShare = v.pipe(v.number(), v.minValue(0), v.ltValue(1));

/** A schema for dropout rates: 0 drops nothing, 1 would drop everything. */
export const dropoutRate = v.pipe(v.number(), v.minValue(0), v.ltValue(1));

/**
 * Checks that options are an object with known fields only. Otherwise a misspelled field would silently get its
 * default.
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

/** Checks a name against a closed list. @throws ConfigError whose `path` is the field, with the nearest name. */
export function assertOneOf(field: string, value: unknown, known: readonly string[]): void {
  if (known.some((name) => name === value)) return;
  throw new ConfigError(
    `${field} is ${describe(value)}${didYouMean(value, known)}; expected ${known.join(', ')}`,
    field,
  );
}

/** The options that schema entries describe, none of them required. The documentation of an option is that of its entry. */
export type OptionsOf<Entries extends v.ObjectEntries> = {
  readonly [K in keyof Entries]?: Readonly<Exclude<v.InferOutput<Entries[K]>, undefined>>;
};

/**
 * Parses options with a schema: fills in defaults, and reports the first unknown or impossible field in one line.
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
  const issue = reported(entries, result.issues[0]);
  const path = v.getDotPath(issue) ?? '';
  if (issue.expected === 'never') {
    throw new ConfigError(`${owner}: option '${path}' is unknown${issue.message}`, path);
  }
  const value = `${describe(issue.input)}${didYouMean(issue.input, quotedNames(issue))}`;
  throw new ConfigError(`${owner}: option '${path}' is ${value}; ${expectation(issue)}`, path);
}

/** The schema of an object with only these fields; `parseOptions` completes the message. */
export function closed<const S extends v.ObjectEntries>(
  entries: S,
): v.StrictObjectSchema<S, (issue: v.StrictObjectIssue) => string> {
  const known = Object.keys(entries);
  return v.strictObject(entries, ({ input }) => `${didYouMean(input, known)}; known are ${known.join(', ')}`);
}

/**
 * Returns the issue of a missing field as the field's own schema states it: the object's schema only names the field.
 */
function reported(entries: v.ObjectEntries, issue: v.BaseIssue<unknown>): v.BaseIssue<unknown> {
  const { input, path } = issue;
  const entry = input === undefined ? entries[String(path?.[0].key)] : undefined;
  const [own] = (entry && v.safeParse(entry, undefined).issues) ?? [];
  return own && path ? { ...own, path } : issue;
}

/**
 * Checks an argument with a schema.
 * @param name the argument's name
 * @throws ConfigError whose `path` is the name.
 */
export function assertArgument(name: string, value: unknown, schema: v.GenericSchema | FieldsSchema): void {
  const result = v.safeParse(schema, value);
  if (result.success) return;
  const issue = 'entries' in schema ? reported(schema.entries, result.issues[0]) : result.issues[0];
  const path = [name, ...(issue.path ?? []).map(({ key }) => String(key))].join('.');
  throw new ConfigError(`${path} is ${describe(issue.input)}; ${expectation(issue)}`, path);
}

/** A schema of an object's fields, which ignores other fields. */
type FieldsSchema = v.ObjectSchema<v.ObjectEntries, undefined>;

/** Returns the names of a closed list that an issue quotes. */
function quotedNames({ expected }: v.BaseIssue<unknown>): string[] {
  return [...(expected ?? '').matchAll(/"([^"]*)"/g)].map(([, name]) => name ?? '');
}

function expectation(issue: v.BaseIssue<unknown>): string {
  if (issue.type === 'custom') return `expected ${issue.message}`;
  // Actions such as `integer` leave `expected` null, and a message of our own is complete.
  if (issue.expected === null) return issue.message.startsWith('Invalid ') ? `expected ${issue.type}` : issue.message;
  return `expected ${issue.requirement === undefined ? issue.expected : issue.message.replace(/^Invalid [^:]*: Expected /, '').split(' but received ', 1)[0]}`;
}

/** The number of characters of a value that a message shows. */
const SHOWN = 80;

/** Formats a value for an error message, in one line. Of an object it shows the first members only. */
export function describe(value: unknown): string {
  if (typeof value === 'string') return `'${shortened(value)}'`;
  if (value === undefined) return 'missing';
  if (typeof value === 'function') return value.name === '' ? 'a function' : `the function ${value.name}`;
  if (value === null) return 'null';
  if (typeof value !== 'object') return (value as number | bigint | boolean | symbol).toString();
  if (Array.isArray(value)) return shortened(`[${value.slice(0, SHOWN).map(describeMember).join()}]`);
  const { name } = (value.constructor as { readonly name?: string } | undefined) ?? {};
  if (name !== undefined && name !== 'Object') return `${/^[AEIOU]/.test(name) ? 'an' : 'a'} ${name}`;
  const members = Object.entries(value).slice(0, SHOWN);
  return shortened(`{${members.map(([key, member]) => `"${key}":${describeMember(member)}`).join()}}`);
}

function shortened(text: string): string {
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}..` : text;
}

/** Formats what an object holds. It does not go deeper: a model may hold gigabytes, or itself. */
function describeMember(member: unknown): string {
  if (typeof member === 'string') return JSON.stringify(shortened(member));
  if (Array.isArray(member)) return member.length === 0 ? '[]' : '[..]';
  return typeof member === 'object' && member !== null ? '{..}' : describe(member);
}
