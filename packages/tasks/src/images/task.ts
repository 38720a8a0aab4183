import { createDataSet, fingerprintOf, sha256, type DataSet } from '../data-set.js';
import { readBytes } from '../read-table.js';
import { holdOutDev } from '../split.js';
import { taskOf, type Task } from '../task.js';
import type { Storage } from '@peftjs/core';
import { imageRows } from './encode.js';

/** The images of a task: the paths of the files in a folder for each class. */
export interface ImageTaskFiles {
  /** The name of the task. */
  readonly name: string;
  /** The folder that the paths start from. */
  readonly folder: string;
  /** The training images, `<class>/<file>`, or with more folders before them. */
  readonly train: readonly string[];
  /** The images that results are reported on. Default: a tenth of the training images, always the same ones. */
  readonly dev?: readonly string[] | undefined;
  /** Reads the files. */
  readonly storage: Storage;
}

/**
 * Returns images as a task whose texts are their paths; the fingerprints of its sets cover the files' bytes.
 * @throws DataError for a missing file, fewer than two classes, and too few images to hold some out.
 */
export async function imageTask(files: ImageTaskFiles): Promise<Task<'classification'>> {
  const { name, folder, storage } = files;
  const withContent = async (set: DataSet<'classification'>): Promise<DataSet<'classification'>> => {
    const hashes: string[] = [];
    for (const { text } of set.rows) hashes.push(await sha256(await readBytes(storage, `${folder}/${text}`)));
    return { ...set, fingerprint: await fingerprintOf([set.fingerprint], hashes) };
  };
  const whole = await createDataSet(imageRows(files.train, folder));
  const { train, dev } = files.dev
    ? { train: whole, dev: await createDataSet(imageRows(files.dev, folder, whole.classes)) }
    : await holdOutDev(whole);
  return taskOf(name, await withContent(train), await withContent(dev));
}
