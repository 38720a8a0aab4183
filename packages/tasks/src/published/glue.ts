import type { Storage } from '@peftjs/core';
import type { DataSet } from '../data-set.js';

import { readBytes } from '../read-task.js';
import { decodeText } from '../table/decode.js';
import { parseTsv } from '../table/delimited.js';
import { parseParquet } from '../table/parquet.js';
import { type Task, taskOf } from '../task.js';
import { type GlueDev, type GlueEntry, glueEntry } from './glue-catalogue.js';
import { applyProtocol } from './protocol.js';
import { publishedRows } from './rows.js';
import { firstFile, type PublishedTaskOptions, type ReadHubFile } from './source.js';

/** A split by its name in either layout. */
const train: GlueDev = { file: 'train', hub: 'train' };

/**
 * A GLUE task from a folder that holds the suite: `CoLA/train.tsv` and so on as the GLUE site packs them (or only that task's
 * files), or `cola/train-00000-of-00001.parquet` as the hub has them.
 * @throws ConfigError for an unknown task, DataError for a file that is missing or malformed.
 */
export async function glueTask(
  name: string,
  folder: string,
  storage: Storage,
  options: PublishedTaskOptions = {},
): Promise<Task> {
  const entry = glueEntry(name);
  const read = async (split: GlueDev) => {
    const path = await firstFile(splitPaths(entry, split), folder, storage);
    return readSplit(await readBytes(storage, path), entry, { name: splitName(entry, split), path });
  };
  return assemble(entry, read, options);
}

/**
 * A GLUE task from the Parquet files of the hub's `nyu-mll/glue`.
 * @param readFile gets a file of that repository
 * @throws ConfigError for an unknown task, DataError for a malformed file; what `readFile` throws passes through.
 */
export async function readHubGlue(
  name: string,
  readFile: ReadHubFile,
  options: PublishedTaskOptions = {},
): Promise<Task> {
  const entry = glueEntry(name);
  const read = async (split: GlueDev) => {
    const path = hubPath(entry, split);
    return readSplit(await readFile(path), entry, { name: splitName(entry, split), path });
  };
  return assemble(entry, read, options);
}

/**
 * The rows of one file of a GLUE task, TSV or Parquet by its extension.
 * @throws ConfigError for an unknown task, DataError for a malformed file, e.g. one whose labels are hidden.
 */
export async function readGlueFile(
  bytes: Uint8Array,
  { task, path }: { readonly task: string; readonly path: string },
): Promise<DataSet> {
  const entry = glueEntry(task);
  return readSplit(bytes, entry, { name: entry.name, path });
}

async function assemble(
  entry: GlueEntry,
  read: (split: GlueDev) => Promise<DataSet>,
  { protocol = 'official', seed }: PublishedTaskOptions,
): Promise<Task> {
  const [first, ...others] = entry.devs as [GlueDev, ...GlueDev[]];
  const task = taskOf(entry.name, await read(train), await read(first), entry.metrics);
  const also = await Promise.all(others.map(async (dev) => [dev.file.replace('dev_', ''), await read(dev)] as const));
  const whole = also.length > 0 ? { ...task, alsoReported: Object.fromEntries(also) } : task;
  return applyProtocol(whole, protocol, { halved: entry.halved, seed });
}

async function readSplit(bytes: Uint8Array, entry: GlueEntry, at: { name: string; path: string }): Promise<DataSet> {
  const { classes, columns, header, hub, skipsBrokenLines } = entry;
  if (at.path.endsWith('.parquet')) {
    const layout = { ...hub, label: 'label', classes };
    const wanted = [layout.text, layout.pair, layout.label].filter((column) => column !== undefined);
    return publishedRows(await parseParquet(bytes, at.path, wanted), layout, at);
  }
  const table = parseTsv(decodeText(bytes, at.path), at.path, { columns: header, skipsBrokenLines });
  return publishedRows(table, { ...columns, classes }, at);
}

/** Where a split may be. MRPC's files are `.raw.tsv` where they are made from the original, untokenised sentences. */
function splitPaths(entry: GlueEntry, split: GlueDev): string[] {
  const files = [`${split.file}.tsv`, `${split.file}.raw.tsv`];
  return [...files.map((file) => `${entry.folder}/${file}`), ...files, hubPath(entry, split)];
}

function hubPath({ folder, name }: GlueEntry, { hub }: GlueDev): string {
  const configuration = folder === 'MNLI' ? 'mnli' : name;
  return `${configuration}/${hub}-00000-of-00001.parquet`;
}

function splitName({ name }: GlueEntry, { file }: GlueDev): string {
  return `${name}/${file}`;
}
