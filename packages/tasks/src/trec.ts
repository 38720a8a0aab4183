import type { Storage } from '@peftjs/core';
import type { LabelKind } from './data-set.js';
import type { Task } from './task.js';
import {
  inFolder,
  onHub,
  type Published,
  publishedTask,
  type PublishedTaskOptions,
  type ReadHubFile,
} from './published.js';
import { decodeLatin1, errorAt, excerpt, type Table } from './table.js';

/** The classes of questions, numbered as on the hub. */
const classes = ['ABBR', 'ENTY', 'DESC', 'HUM', 'LOC', 'NUM'];

/** The classes, numbered as in the copies of Kim (2014). */
const kimClasses = ['DESC', 'ENTY', 'ABBR', 'HUM', 'LOC', 'NUM'];

/** The files of a split: as published by the authors, as copied by Kim, and as converted by the hub. */
const files: Readonly<Record<string, readonly string[]>> = {
  train: ['train_5500.label', 'TREC.train.all', 'default/train/0000.parquet'],
  test: ['TREC_10.label', 'TREC.test.all', 'default/test/0000.parquet'],
};

/**
 * Reads TREC question classification (Li and Roth, 2002), with 6 classes, from a folder with `train_5500.label` and
 * `TREC_10.label`, or with `TREC.train.all` and `TREC.test.all`, also in a subfolder `TREC/`. `dev` is the published
 * test set.
 * @throws DataError for a missing or malformed file.
 */
export async function trecTask(
  folder: string,
  storage: Storage,
  options: PublishedTaskOptions = {},
): Promise<Task<LabelKind>> {
  return publishedTask(trec, inFolder(folder, storage), options);
}

/**
 * Reads TREC from the Parquet files that the hub makes of `CogComp/trec`, in its branch `refs/convert/parquet`.
 * @param readFile reads a file of that branch
 * @throws DataError for a malformed file, and whatever `readFile` throws.
 */
export async function readHubTrec(readFile: ReadHubFile, options: PublishedTaskOptions = {}): Promise<Task<LabelKind>> {
  return publishedTask(trec, onHub(readFile), options);
}

const trec: Published = {
  name: 'trec',
  sets: ['train', 'test'],
  pathsOf: (set) => ['TREC/', ''].flatMap((inside) => (files[set] ?? []).map((file) => inside + file)),
  hub: { text: 'text', label: 'coarse_label' },
  own: { text: 'text', label: 'label' },
  classes,
  parse: questions,
  selectionFrom: 'dev',
};

/**
 * Parses lines `DESC:manner How did serfdom ..` or `0 How did serfdom ..`. The one non-ASCII byte is read as a space,
 * as on the hub.
 */
function questions(bytes: Uint8Array, path: string): Table {
  const lines = decodeLatin1(bytes, path).replaceAll('\u00f0', ' ').split('\n');
  const records = lines.flatMap((content, index) => {
    if (!content.trim()) return [];
    const [, coarse, number, text] = /^(?:([A-Z]+):\w+|(\d)) +(\S.*)$/s.exec(content) ?? [];
    const label = coarse ?? kimClasses[Number(number)];
    if (label === undefined || text === undefined) {
      throw errorAt(
        path,
        index + 1,
        `expected a class and a question, e.g. "NUM:dist How far ..", got ${excerpt(content)}`,
      );
    }
    return [{ line: index + 1, cells: new Map(Object.entries({ label, text })) }];
  });
  return { columns: ['label', 'text'], line: 1, records };
}
