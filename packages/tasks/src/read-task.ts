import { CheckpointError, DataError, type Storage } from '@peftjs/core';
import type { TaskKind } from './data-set.js';
import { fileStem, readTable } from './read-table.js';
import { type Task, taskOf } from './task.js';

/** The files of a task. */
export interface ReadTaskOptions {
  /** Path of the training file. */
  readonly train: string;
  /** Path of the file that results are reported on. */
  readonly dev: string;
  readonly storage: Storage;
  /** Default: the name of the training file. */
  readonly name?: string | undefined;
  readonly kind?: TaskKind | undefined;
}

/**
 * Reads the user's own task: two tables in the forms of `readTable`.
 * @throws DataError when a file is missing, malformed, or does not fit the other.
 */
export async function readTask({ train, dev, storage, name, kind }: ReadTaskOptions): Promise<Task> {
  const trainSet = await readTable(await readBytes(storage, train), { path: train, kind });
  const devSet = await readTable(await readBytes(storage, dev), { path: dev, like: trainSet });
  return taskOf(name ?? fileStem(train), trainSet, devSet);
}

async function readBytes(storage: Storage, path: string): Promise<Uint8Array> {
  try {
    return await storage.read(path);
  } catch (cause) {
    if (cause instanceof CheckpointError) throw new DataError(cause.message, path, cause);
    throw cause;
  }
}
