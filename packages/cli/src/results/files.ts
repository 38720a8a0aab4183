import { existsSync } from 'node:fs';
import { readdir, readFile, stat, rm } from 'node:fs/promises';
import { basename } from 'node:path';
import * as v from 'valibot';
import { diskStorage, type Storage } from '@peftjs/core';
import { DataError, CheckpointError, positive } from '@peftjs/core/method';
import { commandName } from '../registry/command-name.js';
import { asJson, toJson, reviveNumbers } from './json.js';
import { RESULT_FORMAT, trialResultSchema, type TrialResult, sizingSchema, type TrialSizing } from './schema.js';

const MAX_FILE_BYTES = 16 * 1024 * 1024;

/** The path of a trial's result file. */
export function resultPath(dir: string, id: string): string {
  return `${dir}/results/${id}.json`;
}

/**
 * Writes DIR/results/<id>.json atomically.
 * @returns the result as it will be read.
 * @throws DataError if the result breaks its schema, CheckpointError if the folder cannot be written.
 */
export async function writeResult(dir: string, result: TrialResult): Promise<TrialResult> {
  const written = parsedResult(asJson(result), unwritable);
  const bytes = encoded(written);
  if (bytes.byteLength > MAX_FILE_BYTES) throw unwritable(sizeOf(bytes.byteLength));
  await diskStorage().write(resultPath(dir, written.id), bytes);
  return written;
}

/**
 * Reads every result in DIR/results/*.json, sorted by file name (seed 2 before seed 10), and converts older formats.
 * Empty if there is no such folder.
 * @throws DataError naming the first file that is not a result.
 */
export async function readResults(dir: string): Promise<TrialResult[]> {
  const results: TrialResult[] = [];
  for (const file of await resultFiles(`${dir}/results`)) {
    results.push(await readResult(`${dir}/results/${file}`, '; to run the trial again, move the file elsewhere'));
  }
  return results;
}

async function resultFiles(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).filter((file) => file.endsWith('.json')).sort(byName);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new DataError(`cannot list ${folder}: ${(cause as Error).message}`, folder, cause);
  }
}

const names = new Intl.Collator('en', { numeric: true });

/**
 * Compares names with numbers in them. Names with equal numbers, such as `a-01` and `a-1`, still have a fixed order.
 */
function byName(a: string, b: string): number {
  return names.compare(a, b) || (a < b ? -1 : 1);
}

/** Reads one result. @throws DataError, with `advice` at its end, if the file is not a result. */
export async function readResult(path: string, advice = ''): Promise<TrialResult> {
  const refusal: Refusal = (why, cause) =>
    new DataError(`${path} is not a trial's result: ${why}${advice}`, path, cause);
  const file = await stat(path);
  if (!file.isFile()) throw refusal('it is not a regular file');
  if (file.size > MAX_FILE_BYTES) throw refusal(sizeOf(file.size));
  const input = parsed(await diskStorage().read(path), refusal);
  const format = formatOf(input);
  if (typeof format === 'number' && format > RESULT_FORMAT) {
    throw new DataError(
      `${path} has format ${format}, but this version reads formats up to ${RESULT_FORMAT}; update ${commandName}, or choose another folder`,
      path,
    );
  }
  const result = parsedResult(migrated(input), refusal);
  if (basename(path) !== `${result.id}.json`) throw refusal(`its id is '${result.id}', not the name of the file`);
  return result;
}

/** The error for a file or a result, and why it is refused. */
type Refusal = (why: string, cause?: unknown) => DataError;

function parsed(bytes: Uint8Array, refusal: Refusal): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw refusal(`it is not JSON (${(cause as Error).message.slice(0, 120)})`, cause);
  }
}

function parsedResult(input: unknown, refusal: Refusal): TrialResult {
  const result = v.safeParse(trialResultSchema, input, { abortEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  throw refusal(`'${v.getDotPath(issue) ?? 'the whole'}': ${issue.message.slice(0, 200)}`);
}

function sizeOf(bytes: number): string {
  return `it has ${bytes} bytes; expected at most ${MAX_FILE_BYTES}`;
}

function unwritable(why: string): DataError {
  return new DataError(`its result cannot be written: ${why}`);
}

/** The format of a file; 1 if it states none. */
function formatOf(input: unknown): unknown {
  return isRecord(input) ? (input['format'] ?? 1) : undefined;
}

/**
 * Converts a result file of an older format to the current one; returns anything else unchanged, for the schema to
 * check.
 *
 * Format 1 had no `format` and no `versions.numerics`, and called the mean of stored parameters `trainableMean`. Its
 * first files also lacked `arm`, `judgedOn`, `tuning`, `budget.matchedOn` and `parameters.optimizerBytes`.
 */
function migrated(input: unknown): unknown {
  if (!isRecord(input) || formatOf(input) !== 1) return input;
  const { parameters, ...rest } = input;
  return {
    arm: input['method'],
    judgedOn: 'dev',
    tuning: null,
    ...rest,
    format: RESULT_FORMAT,
    budget: withDefaults({ matchedOn: 'stored' }, input['budget']),
    versions: withDefaults({ numerics: 0 }, input['versions']),
    ...(parameters !== undefined && { parameters: migratedParameters(parameters, input) }),
  };
}

/**
 * Without a requested budget, `trainableMean` was the number trained at the start, so the mean is taken from the
 * training curve.
 */
function migratedParameters(parameters: unknown, { budget, history }: Readonly<Record<string, unknown>>): unknown {
  if (!isRecord(parameters)) return parameters;
  const { trainableMean, ...rest } = parameters;
  const isMean = isRecord(budget) && budget['requested'] !== null;
  const storedMean = isMean ? trainableMean : (meanStored(history) ?? trainableMean);
  const optimizerBytes = 2 * 4 * Number(rest['trainableAtStart']);
  return { optimizerBytes, ...rest, storedMean };
}

function meanStored(history: unknown): number | undefined {
  if (!Array.isArray(history) || history.length === 0) return undefined;
  const stored = history.map((row: unknown) => (isRecord(row) ? Number(row['stored']) : NaN));
  return stored.reduce((sum, value) => sum + value, 0) / stored.length;
}

function withDefaults(defaults: Readonly<Record<string, unknown>>, record: unknown): unknown {
  return isRecord(record) ? { ...defaults, ...record } : record;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Writes plain data as a JSON file, atomically. @throws CheckpointError if it cannot be written. */
export function writeJson(path: string, value: unknown, storage: Storage = diskStorage()): Promise<void> {
  return storage.write(path, encoded(value));
}

function encoded(value: unknown): Uint8Array {
  return new TextEncoder().encode(`${toJson(value, 2)}\n`);
}

const text = v.pipe(v.string(), v.maxLength(1_000));

/** A claim stated before a run: one arm is not worse than another by a margin or more. */
export const claimEntries = {
  /** The arm that the claim is about. */
  arm: text,
  /** Its budget as typed; null if it has none. */
  budget: v.nullish(text, null),
  /** The arm to compare with. */
  noWorseThan: text,
  /** The other arm's budget. */
  itsBudget: v.nullish(text, null),
  /** The margin, in units of the primary metric. Default the study's. */
  margin: v.exactOptional(positive),
};

/** The schema of DIR/run.json: what a report needs to know of the last run into a folder, beyond its results. */
const runFile = v.object({
  /** The arm that differences are taken against. */
  reference: text,
  /** The equivalence margin, in units of the primary metric; null if the study states none. */
  margin: v.nullish(positive, null),
  /** The claims stated before the run. */
  claims: v.optional(v.pipe(v.array(v.object(claimEntries)), v.maxLength(1_000)), []),
});

/** What a run's folder says about the study beyond its results. */
export type RunFile = v.InferOutput<typeof runFile>;

const MAX_RUN_FILE_BYTES = 64 * 1024 * 1024;

/** Writes DIR/run.json atomically. @throws CheckpointError if the folder cannot be written. */
export function writeRunFile(dir: string, run: RunFile): Promise<void> {
  return writeJson(`${dir}/run.json`, run);
}

/**
 * Reads a folder's run.json. Older folders have no such file, but name the reference in their summary; undefined if
 * there is neither.
 * @throws DataError for a broken file.
 */
export async function runFileIn(dir: string): Promise<RunFile | undefined> {
  const [path] = [`${dir}/run.json`, `${dir}/summary.json`].filter((file) => existsSync(file));
  if (path === undefined) return undefined;
  try {
    const file = await stat(path);
    if (!file.isFile() || file.size > MAX_RUN_FILE_BYTES)
      throw new DataError('it is not a regular file, or too long', path);
    const content: unknown = JSON.parse(await readFile(path, 'utf8'));
    if (path.endsWith('/run.json')) return v.parse(runFile, content);
    const { reference } = v.parse(v.object({ reference: text }), content); // the claims of a summary are results, not statements
    return { reference, margin: null, claims: [] };
  } catch (cause) {
    throw new DataError(`${path} cannot be read (${(cause as Error).message}); delete it`, path, cause);
  }
}

/** The results in a folder, read once and kept as they are written. */
export interface StoredResults {
  /** All results, as `readResults` would return them. */
  all(): TrialResult[];
  /** The result of a trial; undefined if there is none. */
  of(id: string): TrialResult | undefined;
  /**
   * Writes a result, dated after all others even if the clock was set back: of equal trials the newest counts, which is
   * the one that ended last.
   * @returns the result as it will be read.
   * @throws DataError if the result breaks its schema, CheckpointError if the folder cannot be written.
   */
  write(result: TrialResult): Promise<TrialResult>;
}

/** Opens the results in a folder. @throws DataError naming the first file that is not a result. */
export async function openResults(dir: string): Promise<StoredResults> {
  const results = new Map((await readResults(dir)).map((result) => [result.id, result] as const));
  return {
    all: () => [...results.values()].sort((a, b) => byName(`${a.id}.json`, `${b.id}.json`)),
    of: (id) => results.get(id),
    async write(result) {
      const newest = Math.max(...[...results.values()].map(({ finishedAt }) => Date.parse(finishedAt)));
      const isNewest = Date.parse(result.finishedAt) > newest;
      const finishedAt = isNewest ? result.finishedAt : new Date(Math.min(newest + 1, LAST)).toISOString();
      const written = await writeResult(dir, { ...result, finishedAt });
      results.set(written.id, written);
      return written;
    },
  };
}

/** The last date with a four-digit year, as the schema of result files requires. */
const LAST = Date.UTC(10_000, 0) - 1;

/** Results that may be pooled, and those that may not. */
export interface PooledResults {
  /** Results of the newest numerics. */
  readonly results: readonly TrialResult[];
  /** Results of older numerics. */
  readonly excluded: readonly TrialResult[];
}

/** Splits results by `versions.numerics`: differences between numerics say nothing about methods. */
export function keepNewestNumerics(results: readonly TrialResult[]): PooledResults {
  const newest = Math.max(...results.map(({ versions }) => versions.numerics));
  return {
    results: results.filter(({ versions }) => versions.numerics === newest),
    excluded: results.filter(({ versions }) => versions.numerics !== newest),
  };
}

/** The file next to an adapter that says how it chose its size. */
const SIZING_FILE = 'sizing.json';

/** Writes how an adapter chose its size next to it. If it did not choose, removes the file of an earlier adapter. */
export async function writeSizing(folder: string, sizing: TrialSizing | undefined): Promise<void> {
  const path = `${folder}/${SIZING_FILE}`;
  if (sizing) await writeJson(path, sizing);
  else await rm(path, { force: true });
}

/**
 * Reads how the adapter in a folder chose its size; undefined if there is no such file.
 * @throws CheckpointError for a broken file.
 */
export async function readSizing(folder: string, storage: Storage): Promise<TrialSizing | undefined> {
  const path = `${folder}/${SIZING_FILE}`;
  if (!(await storage.exists(path))) return undefined;
  const bytes = await storage.read(path);
  try {
    return v.parse(sizingSchema, JSON.parse(new TextDecoder().decode(bytes), reviveNumbers));
  } catch (cause) {
    throw new CheckpointError(`${path} is not a valid record of how an adapter chose its size; remove it`, path, cause);
  }
}
