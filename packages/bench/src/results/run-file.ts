import { existsSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import * as v from 'valibot';
import { DataError, diskStorage, type Storage } from '@peftjs/core';

/** What DIR/run.json holds of the last run into a folder: what its results do not say and a report needs. */
export interface RunFile {
  /** The arm that differences are taken to. */
  readonly reference: string;
}

const MAX_FILE_BYTES = 64 * 1024 * 1024;

const runFile = v.object({ reference: v.pipe(v.string(), v.maxLength(1_000)) });

/** Writes DIR/run.json, complete or not at all. @throws CheckpointError when the folder cannot be written. */
export async function writeRunFile(dir: string, run: RunFile, storage: Storage = diskStorage()): Promise<void> {
  await storage.write(`${dir}/run.json`, new TextEncoder().encode(`${JSON.stringify(run, null, 2)}\n`));
}

/**
 * The reference of the run that filled a folder. Folders from before there was a run.json have it in their summary; undefined where
 * there is neither.
 * @throws DataError for such a file that is broken.
 */
export async function referenceIn(dir: string): Promise<string | undefined> {
  for (const path of [`${dir}/run.json`, `${dir}/summary.json`]) {
    if (existsSync(path)) return (await readRunFile(path)).reference;
  }
  return undefined;
}

async function readRunFile(path: string): Promise<RunFile> {
  try {
    const file = await stat(path);
    if (!file.isFile() || file.size > MAX_FILE_BYTES) throw new DataError('it is no regular file, or too long', path);
    return v.parse(runFile, JSON.parse(await readFile(path, 'utf8')));
  } catch (cause) {
    throw new DataError(`${path} names no reference (${(cause as Error).message}); delete it`, path, cause);
  }
}
