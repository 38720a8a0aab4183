import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { ConfigError, DataError, diskStorage } from '@peftjs/core';
import {
  embeddedTasks,
  glueName,
  glueTask,
  glueTasks,
  readTask,
  trecTask,
  type Protocol,
  type Task,
} from '@peftjs/tasks';
import { readPackageFile } from './packages.js';

/** Where the data of a run come from. */
export type DataSource =
  | { readonly kind: 'embedded' }
  | { readonly kind: 'files'; readonly train: string; readonly dev: string }
  | { readonly kind: 'folder'; readonly folder: string };

/** A task with what a report says of its origin. */
export interface LoadedTask extends Task {
  readonly source: string;
  readonly licence: string;
}

/**
 * Loads a task by name from where the data come from. In a folder, the names of the GLUE suite and `trec` are these tasks in
 * their published files; any other name is a folder with tables of the user's own.
 * @throws ConfigError for an unknown name, DataError for a missing or malformed file.
 */
export async function loadTask(name: string, data: DataSource, split: Protocol = 'official'): Promise<LoadedTask> {
  const published = data.kind === 'folder' ? await fromPublished(name, data.folder, split) : undefined;
  if (published) return published;
  if (split !== 'official') {
    throw new ConfigError(
      `the split '${split}' is of GLUE tasks and trec in a folder (--data), not of '${name}'`,
      'split',
    );
  }
  switch (data.kind) {
    case 'embedded':
      return embedded(name);
    case 'files':
      return fromFiles(name, data.train, data.dev);
    case 'folder': {
      const folder = existsSync(join(data.folder, name)) ? join(data.folder, name) : data.folder;
      return fromFiles(name, await tableIn(folder, 'train'), await tableIn(folder, 'dev'));
    }
  }
}

async function fromPublished(name: string, folder: string, protocol: Protocol): Promise<LoadedTask | undefined> {
  const storage = diskStorage();
  const glue = glueName(name);
  if (glue) {
    const task = await glueTask(glue, folder, storage, { protocol });
    return { ...task, source: `GLUE's ${glue}, given by the user`, licence: glueTasks.get(glue)?.licence ?? '' };
  }
  if (name.toLowerCase() !== 'trec') return undefined;
  const task = await trecTask(folder, storage, { protocol });
  return { ...task, source: 'TREC (Li and Roth, 2002), given by the user', licence: 'none stated by its authors' };
}

/** The name of the task that a pair of files makes. */
export function taskName(train: string): string {
  return basename(train).replace(/\.[^.]*$/, '');
}

async function embedded(name: string): Promise<LoadedTask> {
  const task = embeddedTasks.get(name);
  if (!task) {
    const known = [...embeddedTasks.keys()].join(', ');
    throw new ConfigError(
      `--task '${name}' is unknown; known are ${known}, and your own files by --train and --dev`,
      'task',
    );
  }
  return { ...(await task.load(readPackageFile)), source: task.source, licence: task.licence };
}

async function fromFiles(name: string, train: string, dev: string): Promise<LoadedTask> {
  const task = await readTask({ train, dev, name, storage: diskStorage() });
  return { ...task, source: `${basename(train)} and ${basename(dev)}, given by the user`, licence: "the user's own" };
}

async function tableIn(folder: string, stem: string): Promise<string> {
  const files = existsSync(folder) ? await readdir(folder) : [];
  const found = ['tsv', 'csv', 'jsonl', 'parquet']
    .map((extension) => `${stem}.${extension}`)
    .find((file) => files.includes(file));
  if (found !== undefined) return join(folder, found);
  throw new DataError(
    `--data ${folder}: expected ${stem}.tsv, ${stem}.csv, ${stem}.jsonl or ${stem}.parquet there`,
    folder,
  );
}
