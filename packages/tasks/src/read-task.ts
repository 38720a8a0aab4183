import { CheckpointError, DataError, type Storage } from '@peftjs/core';
import type { TaskKind } from './data-set.js';
import { metricsFor, metricsLedBy } from './metric-set.js';
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
  /** Name of the metric that selects a checkpoint, e.g. 'f1'. Default: that of the kind. */
  readonly metric?: string | undefined;
}

/**
 * Reads the user's own task: two tables in the forms of `readTable`.
 * @throws DataError when a file is missing, malformed, or does not fit the other; ConfigError for a metric that does not fit.
 */
export async function readTask({ train, dev, storage, name, kind, metric }: ReadTaskOptions): Promise<Task> {
  const trainSet = await readTable(await readBytes(storage, train), { path: train, kind });
  const devSet = await readTable(await readBytes(storage, dev), { path: dev, like: trainSet });
  const metrics = metric === undefined ? metricsFor(trainSet.kind) : metricsLedBy(metric, trainSet);
  return taskOf(name ?? fileStem(train), trainSet, devSet, metrics);
}

/** A file's bytes. @throws DataError when it is missing. */
export async function readBytes(storage: Storage, path: string): Promise<Uint8Array> {
  try {
    return await storage.read(path);
  } catch (cause) {
    if (cause instanceof CheckpointError) throw new DataError(cause.message, path, cause);
    throw cause;
  }
}
