import { existsSync } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { basename, extname, join } from 'node:path';
import { diskStorage, type Storage } from '@peftjs/core';
import { ConfigError, DataError, didYouMean } from '@peftjs/core/method';
import {
  embeddedTasks,
  glueName,
  glueTask,
  glueTasks,
  isLanguageFile,
  readLanguageTask,
  readTask,
  trecTask,
  type DocumentEnd,
  type LanguageTask,
  type PublishedSplit,
  type Task,
} from '@peftjs/tasks';
import { readPackageFile } from './packages.js';

/** Where the data of a run come from; `documentEnd` cuts text files. */
export type DataSource =
  | { readonly kind: 'embedded' }
  | (TaskFiles & { readonly kind: 'files'; readonly documentEnd?: DocumentEnd })
  | { readonly kind: 'folder'; readonly folder: string; readonly documentEnd?: DocumentEnd };

/** What a report says of where a task is from. */
interface Origin {
  readonly source: string;
  readonly licence: string;
}

/** A task of texts with labels. */
export type LabelledTask = Task & Origin;

/** A task of texts for a language model. */
export type LoadedLanguageTask = LanguageTask & Origin;

/** A task with what a report says of its origin. */
export type LoadedTask = LabelledTask | LoadedLanguageTask;

/**
 * Loads a task by name from where the data come from. In a folder, the names of the GLUE suite and `trec` are these tasks in
 * their published files; any other name is a folder with files of the user's own: tables with labels, or texts for a language
 * model.
 * @throws ConfigError for an unknown name, DataError for a missing or malformed file.
 */
export async function loadTask(
  name: string,
  data: DataSource,
  split: PublishedSplit = 'official',
  storage = diskStorage(),
): Promise<LoadedTask> {
  const published = data.kind === 'folder' ? await fromPublished(name, data.folder, split, storage) : undefined;
  if (published) return withLabels(published, data);
  if (split !== 'official') {
    throw new ConfigError(
      `the split '${split}' is of GLUE tasks and trec in a folder (--data), not of '${name}'`,
      'split',
    );
  }
  if (data.kind === 'embedded') return embedded(name);
  const files = data.kind === 'files' ? data : await filesIn(folderOf(name, data.folder));
  const origin = {
    source: `${basename(files.train)} and ${basename(files.dev)}, given by the user`,
    licence: "the user's own",
  };
  if (await areLanguageFiles(files))
    return { ...(await readLanguageFiles(name, files, data.documentEnd, storage)), ...origin };
  const { train, dev } = files;
  return withLabels({ ...(await readTask({ train, dev, name, storage })), ...origin }, data);
}

/** Whether tasks are for a language model. Files that are not there count as none: `loadTask` says so. @throws ConfigError for both kinds. */
export async function areLanguageTasks(names: readonly string[], data: DataSource): Promise<boolean> {
  const kinds = new Map<string, boolean>();
  for (const name of names) kinds.set(name, await isLanguageTask(name, data));
  const [language, other] = [true, false].map((kind) => names.find((name) => kinds.get(name) === kind));
  if (language === undefined || other === undefined) return language !== undefined;
  throw new ConfigError(`'${language}' is for a language model and '${other}' has labels; run them apart`, 'task');
}

async function isLanguageTask(name: string, data: DataSource): Promise<boolean> {
  if (data.kind === 'embedded' || (data.kind === 'folder' && isPublished(name))) return false;
  if (data.kind === 'files') return areLanguageFiles(data);
  const folder = folderOf(name, data.folder);
  const [train, dev] = [await fileIn(folder, 'train'), await fileIn(folder, 'dev')];
  return train !== undefined && dev !== undefined && areLanguageFiles({ train, dev });
}

/** @throws ConfigError for an option of language tasks. */
function withLabels(task: LabelledTask, data: DataSource): LabelledTask {
  if (data.kind === 'embedded' || data.documentEnd === undefined) return task;
  throw new ConfigError(
    `--document-end cuts .txt files for a language model; '${task.name}' is a ${task.kind} of texts with labels`,
    'document-end',
  );
}

function isPublished(name: string): boolean {
  return glueName(name) !== undefined || name.toLowerCase() === 'trec';
}

/** The GLUE tasks that a folder has whole, each in a folder of its own, by name. */
export async function publishedTasksIn(folder: string): Promise<string[]> {
  const entries = existsSync(folder) ? await readdir(folder, { withFileTypes: true }) : [];
  const tasks: string[] = [];
  for (const { name } of entries.filter((entry) => entry.isDirectory())) {
    const task = glueName(name);
    if (task !== undefined && areBothSplits(await readdir(join(folder, name)))) tasks.push(task);
  }
  return [...new Set(tasks)].sort();
}

/** Whether files are those of a published task, as the GLUE site names them or as the hub does. */
function areBothSplits(files: readonly string[]): boolean {
  const has = (start: RegExp): boolean => files.some((file) => start.test(file));
  return has(/^train/) && has(/^(dev|validation)/);
}

async function fromPublished(
  name: string,
  folder: string,
  split: PublishedSplit,
  storage: Storage,
): Promise<LabelledTask | undefined> {
  const glue = glueName(name);
  if (glue) {
    const task = await glueTask(glue, folder, storage, { split });
    return { ...task, source: `GLUE's ${glue}, given by the user`, licence: glueTasks.get(glue)?.licence ?? '' };
  }
  if (!isPublished(name)) return undefined;
  const task = await trecTask(folder, storage, { split });
  return { ...task, source: 'TREC (Li and Roth, 2002), given by the user', licence: 'none stated by its authors' };
}

/** The name of the task that a pair of files makes. */
export function taskName(train: string): string {
  return basename(train).replace(/\.[^.]*$/, '');
}

async function embedded(name: string): Promise<LabelledTask> {
  const task = embeddedTasks.get(name);
  if (!task) {
    const known = [...embeddedTasks.keys()];
    throw new ConfigError(
      `--task '${name}' is unknown${didYouMean(name, known)}; known are ${known.join(', ')}, and your own files by --train and --dev`,
      'task',
    );
  }
  return { ...(await task.load(readPackageFile)), source: task.source, licence: task.licence };
}

/** What files of a task may end in; of several the first is taken. */
const EXTENSIONS = ['tsv', 'csv', 'jsonl', 'parquet', 'txt'];

/** A task's own folder, or the one that is given. */
function folderOf(name: string, folder: string): string {
  return existsSync(join(folder, name)) ? join(folder, name) : folder;
}

/** @throws DataError where one of them is missing. */
async function filesIn(folder: string): Promise<TaskFiles> {
  const found = async (stem: string): Promise<string> => {
    const file = await fileIn(folder, stem);
    if (file !== undefined) return file;
    const names = EXTENSIONS.map((extension) => `${stem}.${extension}`);
    throw new DataError(`--data ${folder}: expected ${names.slice(0, -1).join(', ')} or ${names.at(-1)} there`, folder);
  };
  return { train: await found('train'), dev: await found('dev') };
}

async function fileIn(folder: string, stem: string): Promise<string | undefined> {
  const files = existsSync(folder) ? await readdir(folder) : [];
  const name = EXTENSIONS.map((extension) => `${stem}.${extension}`).find((file) => files.includes(file));
  return name === undefined ? undefined : join(folder, name);
}

/** A training file and the one that results are reported on. */
interface TaskFiles {
  readonly train: string;
  readonly dev: string;
}

/** As much of a file as its first line can take. */
const HEAD_BYTES = 4 * 2 ** 20;

/**
 * Whether two files are for a language model: text, or JSON lines without labels.
 * @throws DataError where one of them is and the other is not, or cannot be read.
 */
async function areLanguageFiles({ train, dev }: TaskFiles): Promise<boolean> {
  const [isTrain, isDev] = [await isLanguage(train), await isLanguage(dev)];
  if (isTrain === isDev) return isTrain;
  const [language, table] = isTrain ? [train, dev] : [dev, train];
  throw new DataError(
    `${basename(language)} is for a language model and ${basename(table)} is a table with labels; give two files of one kind`,
    dev,
  );
}

/** Reads a language task. @throws ConfigError for a `documentEnd` that neither file has, DataError for a malformed file. */
async function readLanguageFiles(
  name: string,
  { train, dev }: TaskFiles,
  documentEnd: DocumentEnd | undefined,
  storage: Storage,
): Promise<LanguageTask> {
  const isText = (path: string): boolean => extname(path).toLowerCase() === '.txt';
  if (documentEnd !== undefined && !isText(train) && !isText(dev)) {
    throw new ConfigError(
      `--document-end cuts .txt files; every line of ${basename(train)} is a document already`,
      'document-end',
    );
  }
  return readLanguageTask({ name, train, dev, documentEnd, storage });
}

async function isLanguage(path: string): Promise<boolean> {
  return extname(path).toLowerCase() === '.jsonl'
    ? isLanguageFile(await headOf(path), path)
    : isLanguageFile(new Uint8Array(), path);
}

async function headOf(path: string): Promise<Uint8Array> {
  try {
    const file = await open(path);
    try {
      const { bytesRead, buffer } = await file.read(new Uint8Array(HEAD_BYTES), 0, HEAD_BYTES, 0);
      return buffer.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (cause) {
    throw new DataError(`cannot read ${path}: ${cause instanceof Error ? cause.message : String(cause)}`, path, cause);
  }
}
