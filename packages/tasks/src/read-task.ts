import { CheckpointError, DataError, type Storage } from '@peftjs/core';
import type { Task, TaskKind } from './data-set.js';
import { metricsFor } from './metric-set.js';
import { fileStem, readTable } from './read-table.js';

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

/** A task of two data sets with the same labels. */
export function taskOf(name: string, train: Task['train'], dev: Task['dev']): Task {
  const { kind, classes } = train;
  return { name, kind, classes, train, dev, primaryMetric: metricsFor(kind).primary };
}

async function readBytes(storage: Storage, path: string): Promise<Uint8Array> {
  try {
    return await storage.read(path);
  } catch (cause) {
    if (cause instanceof CheckpointError) throw new DataError(cause.message, path, cause);
    throw cause;
  }
}
