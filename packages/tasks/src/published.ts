import type { Storage } from '@peftjs/core';
import { DataError, integerFrom, parseOptions } from '@peftjs/core/method';
import { assertOneOf } from '@peftjs/core/model';
import { mersenne } from 'pure-rand/generator/mersenne';
import * as v from 'valibot';
import { createDataSet, type DataSet, type LabelKind, type Row, selectRows, type TaskKind } from './data-set.js';
import { type MetricSet, type Task, taskOf } from './task.js';
import { readBytes } from './read-table.js';
import { numberOf } from './rows.js';
import { errorAt, excerpt, listed, readEach, type Table, type TableRecord } from './table.js';

/**
 * Which rows select a checkpoint, and which are reported. `'official'`: the published development set is reported, and
 * the caller sets selection rows aside. `'half-dev'`: the split of the SoRA paper's code, see `halfDev`.
 */
export type PublishedSplit = 'official' | 'half-dev';

/** Options of {@link halfDev}. */
export interface HalfDevOptions {
  /** The set from which the selection rows are taken. */
  readonly selectionFrom: 'dev' | 'train';
  /** The seed of the shuffle. Default 42, the published one. */
  readonly seed?: number | undefined;
}

/** The number of training rows that select checkpoints if the development set stays whole. */
const selectionRows = 1000;

/**
 * The split of the SoRA paper's code (Ding et al., 2023), which takes it from earlier work on adapters. Rows are
 * shuffled like `torch.randperm`. For a small task (`selectionFrom: 'dev'`), the first half of the development set,
 * rounded down, selects checkpoints, and the rest is reported, also of extra development sets. For a large task
 * (`'train'`), the first 1000 training rows select checkpoints, the others are trained on, and the whole development
 * set is reported. Rows and their order are the same as in that code.
 * @throws DataError when there are too few rows.
 */
export async function halfDev<K extends TaskKind>(
  task: Task<K>,
  { selectionFrom, seed = 42 }: HalfDevOptions,
): Promise<Task<K>> {
  assertOneOf('selectionFrom', selectionFrom, ['dev', 'train']);
  if (selectionFrom === 'train') {
    const { first, rest } = await shuffledParts(task.train, selectionRows, seed);
    return { ...task, selection: first, train: rest };
  }
  const { first, rest } = await shuffledParts(task.dev, Math.floor(task.dev.rows.length / 2), seed);
  const half = { ...task, selection: first, dev: rest };
  if (!task.extraDevSets) return half;
  const others = Object.entries(task.extraDevSets).map(async ([name, other]) => {
    const parts = await shuffledParts(other, Math.floor(other.rows.length / 2), seed);
    return [name, parts.rest] as const;
  });
  return { ...half, extraDevSets: Object.fromEntries(await Promise.all(others)) };
}

async function shuffledParts<K extends TaskKind>(
  dataSet: DataSet<K>,
  count: number,
  seed: number,
): Promise<{ first: DataSet<K>; rest: DataSet<K> }> {
  const { name, rows } = dataSet;
  if (count < 1 || count >= rows.length) {
    throw new DataError(`${name}: expected more than ${Math.max(1, count)} rows to split, got ${rows.length}`, name);
  }
  const order = Array.from(torchPermutation(rows.length, seed));
  return {
    first: await selectRows(dataSet, order.slice(0, count), `${name}/selection`),
    rest: await selectRows(dataSet, order.slice(count), `${name}/rest`),
  };
}

/** Reads a file of a data set on the hub, e.g. 'cola/train-00000-of-00001.parquet'. */
export type ReadHubFile = (path: string) => Promise<Uint8Array>;

/** Options of published tasks. */
export interface PublishedTaskOptions {
  /** The split. Default 'official': the training and development sets as published. */
  readonly split?: PublishedSplit | undefined;
  /** The seed of the half-dev split. Default 42, as published. */
  readonly seed?: number | undefined;
}

/** A file that was read. */
interface PublishedFile {
  /** Its path. */
  readonly path: string;
  /** Its content. */
  readonly bytes: Uint8Array;
}

/** Reads a file that has one of these paths; the last one is the hub's. */
export type ReadPublished = (paths: readonly string[]) => Promise<PublishedFile>;

/** Returns a reader of files in a folder. It throws a DataError when none of the paths exists. */
export function inFolder(folder: string, storage: Storage): ReadPublished {
  return async (paths) => {
    for (const path of paths.map((inside) => `${folder}/${inside}`)) {
      if (await storage.exists(path)) return { path, bytes: await readBytes(storage, path) };
    }
    throw new DataError(`${folder}: expected one of ${paths.join(', ')}, found none of them`, folder);
  };
}

/** Returns a reader of files on the hub. */
export function onHub(readFile: ReadHubFile): ReadPublished {
  return async (paths) => {
    const path = paths.at(-1) as string;
    return { path, bytes: await readFile(path) };
  };
}

/** The columns of a published table. */
export interface PublishedColumns {
  /** The column of the text, or of the first text of a pair. */
  readonly text: string;
  /** The column of the second text. */
  readonly pair?: string;
  /** The column of the label. */
  readonly label: string;
}

/** A published task: its sets, and the formats of their files, Parquet on the hub and the authors' own. */
export interface Published extends Record<'hub' | 'own', PublishedColumns> {
  /** The name of the task. */
  readonly name: string;
  /** Class names by label; empty if labels are numbers. */
  readonly classes: readonly string[];
  /** The training set, the development set that is reported, and other development sets. */
  readonly sets: readonly [train: string, dev: string, ...others: string[]];
  /** The possible paths of a set, the hub's last. */
  pathsOf(set: string): readonly string[];
  /** Parses a file in the authors' format. */
  parse(bytes: Uint8Array, path: string): Table;
  /** The published metrics. Default: those of the kind. */
  readonly metrics?: MetricSet;
  /** The set from which the half-dev split takes its selection rows. */
  readonly selectionFrom: 'dev' | 'train';
}

const publishedEntries = {
  split: v.optional(v.picklist(['official', 'half-dev']), 'official'),
  seed: v.optional(integerFrom(0)),
} satisfies Record<keyof PublishedTaskOptions, unknown>;

/**
 * Reads a published task.
 * @throws ConfigError for an unknown or impossible option; DataError for a missing or malformed file; and whatever
 * `readFile` throws.
 */
export async function publishedTask(
  published: Published,
  readFile: ReadPublished,
  options: PublishedTaskOptions,
): Promise<Task<LabelKind>> {
  const { split, seed } = parseOptions('published task', publishedEntries, options);
  const { name, sets, pathsOf, metrics, selectionFrom } = published;
  const [train, dev, ...others] = sets;
  const read = async (set: string) => publishedRows(`${name}/${set}`, await readFile(pathsOf(set)), published);
  const task = taskOf(name, await read(train), await read(dev), metrics);
  const also = await Promise.all(others.map(async (set) => [set.replace('dev_', ''), await read(set)] as const));
  const whole = also.length > 0 ? { ...task, extraDevSets: Object.fromEntries(also) } : task;
  return split === 'half-dev' ? halfDev(whole, { selectionFrom, seed }) : whole;
}

/**
 * Reads the rows of a published file: texts may be empty, and a label is the name or the number of its class.
 * @throws DataError for other columns, a cell without a value, an unknown label, or no rows.
 */
async function publishedRows(
  name: string,
  { bytes, path }: PublishedFile,
  { hub, own, classes, parse }: Published,
): Promise<DataSet<LabelKind>> {
  const isParquet = path.endsWith('.parquet');
  const layout = { ...(isParquet ? hub : own), classes };
  const columns = [layout.text, layout.pair, layout.label].filter((column) => column !== undefined);
  const table = isParquet
    ? await (await import('./parquet.js')).parseParquet(bytes, path, () => columns)
    : parse(bytes, path);
  const missing = columns.find((column) => !table.columns.includes(column));
  if (missing !== undefined) {
    const expected = columns.map(excerpt).join(', ');
    throw errorAt(path, table.line, `expected the columns ${expected}, got ${listed(table.columns)}`);
  }
  if (table.records.length === 0) throw new DataError(`${path}: expected rows, got none`, path);
  const kind = classes.length > 0 ? 'classification' : 'regression';
  const rows = readEach(table.records, path, (record) => rowOf(record, layout, path));
  return createDataSet({ name, kind, classes, rows });
}

function rowOf(
  { line, cells }: TableRecord,
  { text, pair, label, classes }: PublishedColumns & Pick<Published, 'classes'>,
  path: string,
): Row {
  const cell = (column: string): string => {
    const value = cells.get(column);
    if (value === undefined) throw errorAt(path, line, `the row has no ${excerpt(column)}; is the file complete?`);
    return value.trim();
  };
  const row = { text: cell(text), label: labelOf(cell(label), classes) };
  if (row.label === undefined) {
    const expected = classes.length > 0 ? `one of ${classes.map(excerpt).join(', ')} or its number` : 'a number';
    throw errorAt(path, line, `expected the label to be ${expected}, got ${excerpt(cell(label))}`);
  }
  const { label: number } = row;
  return pair === undefined ? { text: row.text, label: number } : { text: row.text, pair: cell(pair), label: number };
}

function labelOf(cell: string, classes: readonly string[]): number | undefined {
  if (classes.length === 0) return numberOf(cell);
  const named = classes.indexOf(cell);
  if (named !== -1) return named;
  return /^\d{1,3}$/.test(cell) && Number(cell) < classes.length ? Number(cell) : undefined;
}

/**
 * Returns the same order as `torch.randperm(length, generator=torch.Generator().manual_seed(seed))` on a CPU: published
 * splits are only defined by their seed. Each position in turn is exchanged with a random one at or after it.
 */
function torchPermutation(length: number, seed: number): Int32Array {
  const generator = mersenne(seed);
  const order = Int32Array.from({ length }, (_, index) => index);
  for (let place = 0; place < length - 1; place++) {
    const other = place + ((generator.next() >>> 0) % (length - place));
    const kept = order[place] as number;
    order[place] = order[other] as number;
    order[other] = kept;
  }
  return order;
}
