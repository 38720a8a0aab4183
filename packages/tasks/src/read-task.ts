import type { Storage } from '@peftjs/core';
import { DataError, integerFrom } from '@peftjs/core/method';
import { assertArgument, assertKnownOptions } from '@peftjs/core/model';
import { columnEntries, type ColumnOptions } from './columns.js';
import type { TaskKind } from './data-set.js';
import { isPreferenceSet, type LanguageSetOptions, type LanguageTask, readLanguageSet } from './language.js';
import { sampleTable } from './read-sample.js';
import { dataSetOf, fileStem, readBytes, readTable, type TableReader } from './read-table.js';
import { holdOutDev, holdOutLanguage } from './split.js';
import { metricsFor, metricsWithPrimary, type Task, taskOf } from './task.js';

/** The files of a task. */
interface TaskFiles {
  /** The path of the training file. */
  readonly train: string;
  /** The path of the file that results are reported on. Default: a tenth of the training rows, always the same ones. */
  readonly dev?: string | undefined;
  /** Reads the files. */
  readonly storage: Storage;
  /** The name of the task. Default: that of the training file. */
  readonly name?: string | undefined;
}

/** The files of a task, and how to read them. */
export interface ReadTaskOptions<K extends TaskKind = TaskKind> extends TaskFiles, ColumnOptions {
  /** The kind of the rows. Default: decided by the columns and labels of the training file. */
  readonly kind?: K | undefined;
  /** The name of the metric that selects a checkpoint, e.g. 'f1'. Default: that of the kind. */
  readonly metric?: string | undefined;
  /**
   * The number of rows to keep of the training file, drawn by a fixed seed while it is read, with at least one of each
   * class; a tenth of them is held out if there is no `dev`. Memory grows with them, not with the file, if it is TSV,
   * CSV or JSONL and the storage can open it in pieces. Default: all rows.
   */
  readonly rows?: number | undefined;
  /** Readers of table formats that `readTable` does not support. */
  readonly readers?: readonly TableReader[] | undefined;
}

const FILE_OPTIONS = ['train', 'dev', 'storage', 'name'];

/**
 * Reads a task of your own: one or two files in the formats of `readTable`.
 * @throws DataError when a file is missing or malformed, or the files do not fit each other; ConfigError for an unknown
 * option, or a metric that does not fit.
 */
export async function readTask<K extends TaskKind = TaskKind>(options: ReadTaskOptions<K>): Promise<Task<K>> {
  assertKnownOptions('readTask', options, [
    ...Object.keys(columnEntries),
    ...FILE_OPTIONS,
    'kind',
    'metric',
    'rows',
    'readers',
  ]);
  const { train: trainPath, dev: devPath, storage, name, kind, metric, rows, ...reading } = options;
  if (rows !== undefined) assertArgument('rows', rows, integerFrom(1));
  const read = async (path: string, like?: Awaited<ReturnType<typeof readTable<K>>>) =>
    readTable(await readBytes(storage, path), { ...reading, path, kind, like });
  const sampled = async (count: number) => {
    const from = { ...reading, path: trainPath, kind };
    return dataSetOf(await sampleTable(storage, count, from), from);
  };
  const whole = rows === undefined ? await read(trainPath) : await sampled(rows);
  const { train, dev } =
    devPath === undefined ? await holdOutDev(whole) : { train: whole, dev: await read(devPath, whole) };
  const { classes } = train;
  const metrics = metric === undefined ? metricsFor(train.kind, classes) : metricsWithPrimary(metric, train);
  return taskOf(name ?? fileStem(trainPath), train, dev, metrics);
}

/** The files of a language task. */
export interface LanguageTaskFiles extends TaskFiles, Pick<LanguageSetOptions, 'documentEnd'> {}

/**
 * Reads a language task of your own: one or two files in the formats of `readLanguageSet`.
 * @throws DataError when a file is missing or malformed, or has too few rows to hold some out.
 */
export async function readLanguageTask(files: LanguageTaskFiles): Promise<LanguageTask> {
  assertKnownOptions('readLanguageTask', files, [...FILE_OPTIONS, 'documentEnd']);
  const { train: trainPath, dev: devPath, storage, name, documentEnd } = files;
  const read = async (path: string) => readLanguageSet(await readBytes(storage, path), { path, documentEnd });
  const whole = await read(trainPath);
  const sets = devPath === undefined ? await holdOutLanguage(whole) : { train: whole, dev: await read(devPath) };
  const [isTrain, isDev] = [sets.train, sets.dev].map(isPreferenceSet);
  if (isTrain !== isDev) {
    const [odd = '', other = ''] = isTrain ? [devPath, trainPath] : [trainPath, devPath];
    throw new DataError(`${odd}: expected rows with "chosen" and "rejected", as ${other} has`, odd);
  }
  return { name: name ?? fileStem(trainPath), kind: isTrain ? 'preferences' : 'causal-lm', ...sets };
}
