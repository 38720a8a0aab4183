import { createReadStream, existsSync, statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { basename, dirname, extname, join, resolve, sep } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { diskStorage, type Storage } from '@peftjs/core';
import * as v from 'valibot';
import { ConfigError, DataError } from '@peftjs/core/method';
import { closed, didYouMean, firstNames } from '@peftjs/core/model';
import {
  embeddedTasks,
  glueName,
  glueTask,
  glueTasks,
  isLanguageFile,
  readLanguageTask,
  readTask,
  taskKinds,
  trecTask,
  type ColumnOptions,
  type DocumentEnd,
  type LanguageTask,
  type PublishedSplit,
  type Task,
} from '@peftjs/tasks';
import { quoted } from '../format.js';
import { packageRoot, readPackageFile } from './packages.js';
import { rowsToRead, type SampledRows } from './sampled-rows.js';

const text = v.pipe(v.string(), v.minLength(1), v.maxLength(4_000));

/** What ends a document of a text file. */
export const documentEnds = ['file', 'paragraph', 'line'] as const satisfies readonly DocumentEnd[];

/** The meaning of table columns, where their names do not show it; as in `ColumnOptions` of tasks. */
const columnEntries = {
  /** The kind of task. Default the one that the columns suggest. */
  kind: v.optional(v.picklist(taskKinds)),
  textColumn: v.optional(text),
  pairColumn: v.optional(text),
  labelColumn: v.optional(text),
  labelSeparator: v.optional(text),
  scoreScale: v.optional(v.number()),
  skipUnlabelled: v.optional(v.boolean()),
} satisfies Record<keyof ColumnOptions | 'kind', unknown>;

/** The names of the columns' options. */
export const columnOptions = Object.keys(columnEntries) as (keyof TableColumns)[];

/** How to read the user's own files. */
const readingEntries = {
  /** What ends a document of a text file. Default `file`. */
  documentEnd: v.exactOptional(v.picklist(documentEnds)),
  columns: v.exactOptional(closed(columnEntries)),
};

/** The schema of where the data of a run come from: built-in data, files or a folder. */
export const dataSourceSchema = v.variant('kind', [
  v.object({ kind: v.literal('embedded') }),
  v.object({ kind: v.literal('files'), train: text, dev: v.optional(text), ...readingEntries }),
  v.object({
    kind: v.literal('folder'),
    folder: text,
    /** Whether it has images, in a folder for each class. */
    images: v.exactOptional(v.literal(true)),
    ...readingEntries,
  }),
]);

/** Where the data of a run come from. */
export type DataSource = v.InferOutput<typeof dataSourceSchema>;

/** How to read the user's own files. */
export type Reading = Pick<Extract<DataSource, { kind: 'files' }>, keyof typeof readingEntries>;

/** The meaning of table columns, and the kind of task. */
export type TableColumns = NonNullable<Reading['columns']>;

/** The origin of a task, for reports. */
interface Origin {
  /** Where the data come from, in words. */
  readonly source: string;
  /** The licence of the data. */
  readonly licence: string;
  /** Whether the reported rows are part of the training file. */
  readonly heldOut?: boolean;
  /** The file that the selection rows of a published split are part of. Default `train`. */
  readonly selectionFrom?: 'train' | 'dev';
  /** The folder of the images whose paths are the rows' texts. */
  readonly imagesIn?: string;
}

/** A task with rows from tables: labelled texts or words, or texts to embed. */
export type LabelledTask = Task & Origin;

/** A language modelling task. */
export type LoadedLanguageTask = LanguageTask & Origin;

/** A task with its origin. */
export type LoadedTask = LabelledTask | LoadedLanguageTask;

/** Whether a task is for a language model. */
export function isForLanguage(task: LoadedTask): task is LoadedLanguageTask {
  return task.kind === 'causal-lm' || task.kind === 'preferences';
}

/**
 * Loads a task by name. In a folder, the names of GLUE tasks and `trec` mean their published files; any other name
 * means a folder with the user's own files: labelled tables, or texts for a language model.
 * @throws ConfigError for an unknown name, DataError for a missing or malformed file.
 */
export async function loadTask(
  name: string,
  data: DataSource,
  split: PublishedSplit = 'official',
  storage = diskStorage(),
  sample?: SampledRows,
): Promise<LoadedTask> {
  const images = imageFolder(data);
  if (data.kind === 'folder' && images === undefined && isPublished(name)) {
    return withLabels(await fromPublished(name, data, split, storage), data);
  }
  if (split !== 'official') {
    throw new ConfigError(
      `the split '${split}' applies to GLUE tasks and trec in a folder (--data), not to '${name}'`,
      'split',
    );
  }
  if (images !== undefined) return imagesOf(name, images, storage);
  if (data.kind === 'embedded') return embedded(name);
  const files = await filesOf(name, data);
  const { train, dev } = files;
  const origin = originOf(files);
  if (await areLanguageFiles(files, data)) {
    assertLanguageReading(files, data);
    return { ...(await readLanguageTask({ name, train, dev, documentEnd: data.documentEnd, storage })), ...origin };
  }
  return withLabels(
    { ...(await readTask({ train, dev, name, storage, rows: rowsToRead(files, sample), ...data.columns })), ...origin },
    data,
  );
}

/** The folder of data that are images. */
export function imageFolder(data: DataSource): string | undefined {
  return data.kind === 'folder' && data.images === true ? data.folder : undefined;
}

/** The folders of a split; images in `test` are left out. */
const SPLIT = /^(train|dev|validation|val|test)\//;

/**
 * Reads which images a folder has, or those in its folder `train`, and in `dev`, `validation` or `val`.
 * @throws DataError for images beside such folders.
 */
async function imagesOf(name: string, folder: string, storage: Storage): Promise<LabelledTask> {
  const { imageTask } = await import('@peftjs/tasks/images'); // only here: text needs none of it
  if (!existsSync(folder)) throw new DataError(`--images ${folder}: there is no such folder`, folder);
  const all = (await readdir(folder, { recursive: true })).map((path) => path.split(sep).join('/'));
  const isSplit = all.some((path) => /^train\/.+\/.+/.test(path)); // images right in `train` are of a class of that name
  const beside = isSplit ? all.find((path) => /\.(png|jpe?g)$/i.test(path) && !SPLIT.test(path)) : undefined;
  if (beside !== undefined) {
    const expected = 'expected all images in train, validation and test, or none';
    throw new DataError(`--images ${folder}: ${expected}, got ${beside}; move it`, folder);
  }
  const within = (part: RegExp): string[] => all.filter((path) => part.test(path));
  const dev = isSplit ? within(/^(dev|validation|val)\//) : [];
  const task = await imageTask({
    ...{ name, folder, storage },
    train: isSplit ? within(/^train\//) : all,
    ...(dev.length > 0 && { dev }),
  });
  const isHeldOut = dev.length === 0;
  const source = `images in ${basename(folder)}, given by the user${isHeldOut ? ', of which a tenth is held out' : ''}`;
  return { ...task, source, licence: "the user's own", imagesIn: folder, ...(isHeldOut && { heldOut: true }) };
}

function originOf({ train, dev }: TaskFiles): Origin {
  const licence = "the user's own";
  if (dev !== undefined) return { source: `${basename(train)} and ${basename(dev)}, given by the user`, licence };
  return { source: `${basename(train)}, given by the user, of which a tenth is held out`, licence, heldOut: true };
}

/**
 * Whether tasks are for a language model. Missing files count as no: `loadTask` reports them.
 * @throws ConfigError if the tasks are of both kinds.
 */
export async function hasLanguageTasks(names: readonly string[], data: DataSource): Promise<boolean> {
  const kinds = new Map<string, boolean>();
  for (const name of names) kinds.set(name, await isLanguageTask(name, data));
  const [language, other] = [true, false].map((kind) => names.find((name) => kinds.get(name) === kind));
  if (language === undefined || other === undefined) return language !== undefined;
  throw new ConfigError(`'${language}' is for a language model and '${other}' has labels; run them separately`, 'task');
}

async function isLanguageTask(name: string, data: DataSource): Promise<boolean> {
  if (data.kind === 'embedded' || imageFolder(data) !== undefined) return false;
  if (data.kind === 'folder' && isPublished(name)) return false;
  const files = await filesOf(name, data).catch(() => undefined);
  return files !== undefined && areLanguageFiles(files, data);
}

/** @throws ConfigError for an option of language tasks. */
function withLabels(task: LabelledTask, data: DataSource): LabelledTask {
  if (data.kind === 'embedded' || data.documentEnd === undefined) return task;
  throw new ConfigError(
    `--document-end applies to .txt files for a language model; '${task.name}' is for ${task.kind}`,
    'document-end',
  );
}

function isPublished(name: string): boolean {
  return glueName(name) !== undefined || isTrec(name);
}

/** The one name of a published task, `rte` for `RTE`: names are part of trials' ids. Other names stay as they are. */
export function publishedName(name: string): string {
  return isTrec(name) ? 'trec' : (glueName(name) ?? name);
}

function isTrec(name: string): boolean {
  return name.toLowerCase() === 'trec';
}

/** The GLUE tasks in a folder that are complete, each in its own subfolder, sorted by name. */
export async function publishedTasksIn(folder: string): Promise<string[]> {
  const tasks: string[] = [];
  for (const name of existsSync(folder) ? await readdir(folder) : []) {
    const [task, path] = [glueName(name), join(folder, name)];
    if (task === undefined || !statSync(path, { throwIfNoEntry: false })?.isDirectory()) continue; // follows links
    const files = await readdir(path); // named as on the GLUE site or on the hub
    if ([/^train/, /^(dev|validation)/].every((start) => files.some((file) => start.test(file)))) tasks.push(task);
  }
  return [...new Set(tasks)].sort();
}

/** @throws ConfigError for column flags, since the columns of a published task are fixed. */
async function fromPublished(
  name: string,
  { folder, columns }: Extract<DataSource, { kind: 'folder' }>,
  split: PublishedSplit,
  storage: Storage,
): Promise<LabelledTask> {
  if (columns !== undefined) {
    throw new ConfigError(
      `${columnFlags(columns).join(', ')}: '${name}' is a published task with known columns; leave the flags out, or give your own files with --train`,
      'train',
    );
  }
  const glue = glueName(name);
  if (glue) {
    const task = await glueTask(glue, folder, storage, { split });
    const { licence = '', selectionFrom = 'train' } = glueTasks.get(glue) ?? {};
    return { ...task, source: `GLUE's ${glue}, given by the user`, licence, ...(task.selection && { selectionFrom }) };
  }
  const task = await trecTask(folder, storage, { split });
  const origin = { source: 'TREC (Li and Roth, 2002), given by the user', licence: 'none stated by its authors' };
  return { ...task, ...origin, ...(task.selection && { selectionFrom: 'dev' as const }) };
}

/** Names of files and folders that do not say what the data are, such as those of the hub's files. */
const SAYS_NOTHING = /^(train|training|data|dataset|default)(-\d+-of-\d+)?$/i;

/** The task name for a training file: its own name, or the nearest folder's if it is called `train` or the like. */
export function taskName(train: string): string {
  const name = basename(train).replace(/\.[^.]*$/, '');
  const folders = dirname(resolve(train)).split(sep).reverse();
  return [name, ...folders].find((part) => part !== '' && !SAYS_NOTHING.test(part)) ?? name;
}

/** The sample of this package, for a first training: it needs no other package. */
const SAMPLE = 'reviews';

/** The names of the tasks whose data come with packages. */
export const embeddedNames: readonly string[] = [SAMPLE, ...embeddedTasks.keys()];

async function embedded(name: string): Promise<LabelledTask> {
  if (name === SAMPLE) {
    const train = join(packageRoot, 'samples', `${SAMPLE}.csv`);
    const task = await readTask({ train, name, storage: diskStorage() });
    const source = 'restaurant reviews of the UCI Sentiment Labelled Sentences (Kotzias et al., 2015)';
    return { ...task, source, licence: 'CC BY 4.0', heldOut: true };
  }
  const task = embeddedTasks.get(name);
  if (task) return { ...(await task.load(readPackageFile)), source: task.source, licence: task.licence };
  if (existsSync(name))
    throw new ConfigError(`--task ${name} is a file; to train on it: --train ${quoted(name)}`, 'task');
  throw new ConfigError(
    `--task '${name}' is unknown${didYouMean(name, embeddedNames)}; known are ${embeddedNames.join(', ')}, or give your own file with --train`,
    'task',
  );
}

/** The extensions of a task's files, in order of preference. */
const EXTENSIONS = ['tsv', 'csv', 'jsonl', 'conll', 'bio', 'iob', 'parquet', 'txt'];

/** The files of a task, those in its own subfolder if there is one. @throws DataError if there is no training file. */
async function filesOf(name: string, data: Exclude<DataSource, { kind: 'embedded' }>): Promise<TaskFiles> {
  if (data.kind === 'files') return data;
  const own = join(data.folder, name);
  const folder = existsSync(own) ? own : data.folder;
  const { train, dev } = await filesIn(folder);
  if (train !== undefined) return { train, dev };
  const names = EXTENSIONS.map((extension) => `train.${extension}`);
  throw new DataError(`--data ${folder}: expected a file ${names.slice(0, -1).join(', ')} or ${names.at(-1)}`, folder);
}

/** The training and the development file in a folder, if it has them. */
async function filesIn(folder: string): Promise<Record<'train' | 'dev', string | undefined>> {
  const files = statSync(folder, { throwIfNoEntry: false })?.isDirectory() ? await readdir(folder) : [];
  const [train, dev] = ['train', 'dev'].map((stem) => {
    const file = EXTENSIONS.map((extension) => `${stem}.${extension}`).find((each) => files.includes(each));
    return file === undefined ? undefined : join(folder, file);
  });
  return { train, dev };
}

/**
 * Checks that a folder has the tasks that are asked for: without a subfolder for a task, its own files would be read,
 * whatever the name. Only for the user's folder: the copy that a worker gets has another name.
 * @throws ConfigError naming the tasks that it has.
 */
export async function assertTasksIn(folder: string, names: readonly string[]): Promise<void> {
  const known = await tasksIn(folder);
  const unknown = names.find((name) => !isPublished(name) && !known.includes(name) && !existsSync(join(folder, name)));
  if (unknown === undefined || known.length === 0) return;
  throw new ConfigError(
    `--task '${unknown}' is not in --data ${folder}${didYouMean(unknown, known)}; it has ${firstNames(known)}`,
    'task',
  );
}

/** The names of the tasks in a folder: itself and its subfolders, if they have a training file, and published ones. */
async function tasksIn(folder: string): Promise<string[]> {
  const tasks = (await filesIn(folder)).train === undefined ? [] : [publishedName(basename(resolve(folder)))];
  for (const name of existsSync(folder) ? (await readdir(folder)).sort() : []) {
    if (!isPublished(name) && (await filesIn(join(folder, name))).train !== undefined) tasks.push(name);
  }
  return [...tasks, ...(await publishedTasksIn(folder))];
}

/**
 * A training file and the file that results are reported on. Without the latter, a tenth of the training rows is
 * reported on.
 */
type TaskFiles = Pick<Extract<DataSource, { kind: 'files' }>, 'train' | 'dev'>;

/** The bytes to read from a file to see its first line. */
const HEAD_BYTES = 4 * 2 ** 20;

/**
 * Whether two files are for a language model: text, or JSON lines without labels.
 * @throws DataError if only one of them is, or if one cannot be read.
 */
async function areLanguageFiles({ train, dev }: TaskFiles, { columns = {} }: Reading): Promise<boolean> {
  const isLanguage = async (path: string): Promise<boolean> => {
    const isJson = extname(path).toLowerCase() === '.jsonl';
    return isLanguageFile(isJson ? await headOf(path) : new Uint8Array(), path, columns);
  };
  const isTrain = await isLanguage(train);
  if (dev === undefined || isTrain === (await isLanguage(dev))) return isTrain;
  const [language, table] = isTrain ? [train, dev] : [dev, train];
  throw new DataError(
    `${basename(language)} is for a language model and ${basename(table)} is a table with labels; give two files of the same kind`,
    dev,
  );
}

/** @throws ConfigError for a `documentEnd` if neither file is a .txt file, and for table options. */
function assertLanguageReading({ train, dev }: TaskFiles, { documentEnd, columns }: Reading): void {
  const isText = (path: string | undefined): boolean => path !== undefined && extname(path).toLowerCase() === '.txt';
  if (columns !== undefined) {
    throw new ConfigError(
      `${basename(train)} is for a language model and has no columns; leave out ${columnFlags(columns).join(', ')}`,
      'train',
    );
  }
  if (documentEnd !== undefined && !isText(train) && !isText(dev)) {
    throw new ConfigError(
      `--document-end applies to .txt files; every line of ${basename(train)} is already a document`,
      'document-end',
    );
  }
}

/** The flags that set column options, such as `--text-column` for `textColumn`. */
export function columnFlags(columns: object): string[] {
  return Object.keys(columns).map((option) => `--${option.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`);
}

async function headOf(path: string): Promise<Uint8Array> {
  return buffer(createReadStream(path, { end: HEAD_BYTES - 1 })).catch((cause: unknown) => {
    throw new DataError(`cannot read ${path}: ${(cause as Error).message}`, path, cause);
  });
}
