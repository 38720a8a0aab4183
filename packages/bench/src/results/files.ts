import { existsSync } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import * as v from 'valibot';
import { diskStorage, type Storage } from '@peftjs/core';
import { DataError } from '@peftjs/core/method';
import { NUMERICS } from '@peftjs/core/runtime';
import { openSafetensors } from '@peftjs/safetensors';
import { checkpointFolder, checkpointOwner, tuningFolder } from './folder.js';
import { asJson, toJson } from './json.js';
import { formatOf, migrated, RESULT_FORMAT, trialResultSchema, type TrialResult } from './schema.js';

const MAX_FILE_BYTES = 16 * 1024 * 1024;

/** Where the result of a trial lies. */
export function resultPath(dir: string, id: string): string {
  return `${dir}/results/${id}.json`;
}

/**
 * Writes DIR/results/<id>.json, complete or not at all.
 * @returns the result as it will be read.
 * @throws DataError when the result breaks its own contract, CheckpointError when the folder cannot be written.
 */
export async function writeResult(
  dir: string,
  result: TrialResult,
  storage: Storage = diskStorage(),
): Promise<TrialResult> {
  const written = parsedResult(asJson(result), unwritable);
  const bytes = encoded(written);
  if (bytes.byteLength > MAX_FILE_BYTES) throw unwritable(sizeOf(bytes.byteLength));
  await storage.write(resultPath(dir, written.id), bytes);
  return written;
}

/**
 * Every result of DIR/results/*.json, by file name (seed 2 before seed 10); those of older layouts as today's. None where there is no
 * such folder.
 * @throws DataError naming the first file that is not a result.
 */
export async function readResults(dir: string, storage: Storage = diskStorage()): Promise<TrialResult[]> {
  const results: TrialResult[] = [];
  for (const file of await resultFiles(`${dir}/results`)) {
    results.push(await readResult(`${dir}/results/${file}`, storage));
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

/** Names that are equal as numbers, such as `a-01` and `a-1`, still have an order. */
function byName(a: string, b: string): number {
  return names.compare(a, b) || (a < b ? -1 : 1);
}

/** One result. @throws DataError when it is none. */
export async function readResult(path: string, storage: Storage = diskStorage()): Promise<TrialResult> {
  const file = await stat(path);
  if (!file.isFile()) throw notAResult(path, 'it is no regular file');
  const { size } = file;
  if (size > MAX_FILE_BYTES) throw notAResult(path, sizeOf(size));
  const input = parsed(path, await storage.read(path));
  assertNotNewer(path, formatOf(input));
  const result = parsedResult(migrated(input), (why) => notAResult(path, why));
  if (!path.endsWith(`/${result.id}.json`))
    throw notAResult(path, `its id is '${result.id}', not the name of the file`);
  return result;
}

/** @throws DataError for a layout that only a newer version knows: it is no broken file, and not to be deleted. */
function assertNotNewer(path: string, format: unknown): void {
  if (typeof format !== 'number' || !(format > RESULT_FORMAT)) return;
  throw new DataError(
    `${path} has the format ${format}, and this version reads formats up to ${RESULT_FORMAT}: update peft-bench, or choose another folder`,
    path,
  );
}

function parsed(path: string, bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw notAResult(path, `it is not JSON (${(cause as Error).message.slice(0, 120)})`, cause);
  }
}

function parsedResult(input: unknown, refusal: (why: string) => DataError): TrialResult {
  const result = v.safeParse(trialResultSchema, input, { abortEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  throw refusal(`'${v.getDotPath(issue) ?? 'the whole'}': ${issue.message.slice(0, 200)}`);
}

function sizeOf(bytes: number): string {
  return `it has ${bytes} bytes, at most ${MAX_FILE_BYTES} are expected`;
}

function unwritable(why: string): DataError {
  return new DataError(`its result cannot be written: ${why}`);
}

function notAResult(path: string, why: string, cause?: unknown): DataError {
  return new DataError(`${path} is not the result of a trial: ${why}; delete it to run the trial again`, path, cause);
}

/** Writes plain data as a file of JSON, complete or not at all. @throws CheckpointError when it cannot be written. */
export function writeJson(path: string, value: unknown, storage: Storage = diskStorage()): Promise<void> {
  return storage.write(path, encoded(value));
}

function encoded(value: unknown): Uint8Array {
  return new TextEncoder().encode(`${toJson(value, 2)}\n`);
}

const text = v.pipe(v.string(), v.maxLength(1_000));
const margin = v.pipe(v.number(), v.finite(), v.gtValue(0));

/** What DIR/run.json holds of the last run into a folder: what its results do not say and a report needs. */
const runFile = v.object({
  /** The arm that differences are taken to. */
  reference: text,
  /** Within which difference in the primary metric two arms count as equivalent; null where the study says nothing of it. */
  margin: v.nullish(margin, null),
  /** What the study stated before it was run: `arm` is not worse than `noWorseThan`, each at its budget as typed. */
  claims: v.optional(
    v.pipe(
      v.array(
        v.object({
          arm: text,
          budget: v.nullable(text),
          noWorseThan: text,
          itsBudget: v.nullable(text),
          /** Left out, that of the run. */
          margin: v.exactOptional(margin),
        }),
      ),
      v.maxLength(1_000),
    ),
    [],
  ),
});

/** What a run's folder says of the study beyond its results. */
export type RunFile = v.InferOutput<typeof runFile>;

const MAX_RUN_FILE_BYTES = 64 * 1024 * 1024;

/** Writes DIR/run.json, complete or not at all. @throws CheckpointError when the folder cannot be written. */
export async function writeRunFile(dir: string, run: RunFile, storage: Storage = diskStorage()): Promise<void> {
  await storage.write(`${dir}/run.json`, new TextEncoder().encode(`${JSON.stringify(run, null, 2)}\n`));
}

/**
 * What the run that filled a folder asked for. Folders from before there was a run.json have the reference in their summary; undefined
 * where there is neither.
 * @throws DataError for such a file that is broken.
 */
export async function runFileIn(dir: string): Promise<RunFile | undefined> {
  const [run, summary] = [`${dir}/run.json`, `${dir}/summary.json`];
  if (existsSync(run)) return readRunFile(run, runFile);
  return existsSync(summary) ? readRunFile(summary, referenceOnly) : undefined;
}

/** A summary's own `claims` are answers. */
const referenceOnly = v.pipe(
  v.object({ reference: text }),
  v.transform((summary): RunFile => ({ ...summary, margin: null, claims: [] })),
);

async function readRunFile(path: string, schema: v.GenericSchema<unknown, RunFile>): Promise<RunFile> {
  try {
    const file = await stat(path);
    if (!file.isFile() || file.size > MAX_RUN_FILE_BYTES)
      throw new DataError('it is no regular file, or too long', path);
    return v.parse(schema, JSON.parse(await readFile(path, 'utf8')));
  } catch (cause) {
    throw new DataError(`${path} cannot be read (${(cause as Error).message}); delete it`, path, cause);
  }
}

/**
 * A result dated after all others of its folder, also where the clock was set back in between: of equal trials the newest counts,
 * and that is the one that ended last.
 */
export function datedAfter(others: Iterable<TrialResult>, result: TrialResult): TrialResult {
  const newest = Math.max(...[...others].map(({ finishedAt }) => Date.parse(finishedAt)));
  if (Date.parse(result.finishedAt) > newest) return result;
  return { ...result, finishedAt: new Date(Math.min(newest + 1, LAST)).toISOString() };
}

/** The last date that has four digits for its year, which a result file wants. */
const LAST = Date.UTC(10_000, 0) - 1;

/** Results that may be pooled, and those beside them that may not. */
export interface Poolable {
  /** Those of the newest numerics. */
  readonly results: readonly TrialResult[];
  readonly leftOut: readonly TrialResult[];
}

/** Parts results by `versions.numerics`: numbers that were computed in different ways say nothing about methods. */
export function ofNewestNumerics(results: readonly TrialResult[]): Poolable {
  const newest = Math.max(...results.map(numericsOf));
  return {
    results: results.filter((result) => numericsOf(result) === newest),
    leftOut: results.filter((result) => numericsOf(result) !== newest),
  };
}

/** What a report says of results that it leaves out, in one sentence; nothing where there are none. */
export function leftOutNotes({ results, leftOut }: Poolable): string[] {
  if (leftOut.length === 0) return [];
  const are = leftOut.length === 1 ? 'is' : 'are';
  return [
    `${counted(leftOut.length, 'result')} of ${named(leftOut.map(numericsOf))} ${are} left out: another version computed ` +
      `${leftOut.length === 1 ? 'it' : 'them'}, and only numbers of one version can be pooled, here ${named(results.map(numericsOf))}.`,
  ];
}

/** Says in one line which results and checkpoints in a run's folder are of other numerics than this version's; nothing where none is. */
export async function foreignNumerics(folder: string): Promise<string | undefined> {
  const results = [...(await readResults(folder)), ...(await readResults(tuningFolder(folder)))].map(numericsOf);
  const [foreign, checkpoints] = [results, await numericsOfCheckpoints(folder)].map((all) =>
    all.filter((numerics) => numerics !== NUMERICS),
  ) as [number[], number[]];
  const parts = [
    ...(foreign.length > 0 ? [counted(foreign.length, 'result')] : []),
    ...(checkpoints.length > 0 ? [counted(checkpoints.length, 'checkpoint')] : []),
  ];
  if (parts.length === 0) return undefined;
  return (
    `${folder} has ${parts.join(' and ')} of ${named([...foreign, ...checkpoints])}, but this version computes numerics ${NUMERICS}: ` +
    'they are kept, but neither resumed nor pooled'
  );
}

/** The numerics that a result was computed by. */
export function numericsOf({ versions }: TrialResult): number {
  return versions.numerics;
}

async function numericsOfCheckpoints(folder: string): Promise<number[]> {
  const checkpoints = checkpointFolder(folder);
  const files = await readdir(checkpoints).catch(() => []);
  const found = files
    .filter((file) => checkpointOwner(file) !== undefined)
    .map((file) =>
      openSafetensors(`${checkpoints}/${file}`).then(
        ({ metadata: { numerics = '0' } }) => [Number(numerics)],
        () => [], // damaged: its trial says so
      ),
    );
  return (await Promise.all(found)).flat();
}

/** `numerics 0`, `numerics 0, 1`. */
function named(numerics: readonly number[]): string {
  return `numerics ${[...new Set(numerics)].sort((a, b) => a - b).join(', ')}`;
}

function counted(amount: number, noun: string): string {
  return `${amount} ${noun}${amount === 1 ? '' : 's'}`;
}
