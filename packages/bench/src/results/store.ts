import { readdir, stat } from 'node:fs/promises';
import * as v from 'valibot';
import { DataError, diskStorage, type Storage } from '@peftjs/core';
import { asJson, toJson } from './json.js';
import { formatOf, migrated, RESULT_FORMAT } from './migrate.js';
import { trialResultSchema, type TrialResult } from './schema.js';

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

async function readResult(path: string, storage: Storage): Promise<TrialResult> {
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
