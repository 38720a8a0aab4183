import { DataError } from '@peftjs/core';
import { type DataSet, selectRows } from '../data-set.js';
import type { Task } from '../task.js';
import { torchPermutation } from './torch-permutation.js';

/**
 * Which rows select a checkpoint and which are reported. `'official'`: `dev` as published is reported, selection rows are the
 * caller's to set aside. `'half-dev'`: the split of the SoRA paper's code, see `halfDev`.
 */
export type Protocol = 'official' | 'half-dev';

/** What `halfDev` takes the selection rows from, and the seed of its shuffle. */
export interface HalfDevOptions {
  readonly halved: 'dev' | 'train';
  /** Default 42, the published one. */
  readonly seed?: number | undefined;
}

/** Training rows that select where the development set stays whole. */
const selectionRows = 1000;

/** The task split by a protocol. @throws DataError when it has too few rows for it. */
export async function applyProtocol(task: Task, protocol: Protocol, options: HalfDevOptions): Promise<Task> {
  return protocol === 'half-dev' ? halfDev(task, options) : task;
}

/**
 * The evaluation protocol of the SoRA paper's code (Ding et al., 2023), which takes it from earlier work on adapters: rows are
 * shuffled as `torch.randperm` does it; of a small task (`halved: 'dev'`) the first half of the development set, rounded down,
 * selects and the rest is reported; of a large one (`'train'`) the first 1000 training rows select, the others are trained on
 * and the development set is reported whole. The rows are the same ones as there, and in the same order.
 * @throws DataError when there are too few rows.
 */
export async function halfDev(task: Task, { halved, seed = 42 }: HalfDevOptions): Promise<Task> {
  if (halved === 'train') {
    const { first, rest } = await shuffledParts(task.train, selectionRows, seed);
    return { ...task, selection: first, train: rest };
  }
  const { first, rest } = await shuffledParts(task.dev, Math.floor(task.dev.rows.length / 2), seed);
  const half = { ...task, selection: first, dev: rest };
  if (!task.alsoReported) return half;
  const others = Object.entries(task.alsoReported).map(async ([name, other]) => {
    const parts = await shuffledParts(other, Math.floor(other.rows.length / 2), seed);
    return [name, parts.rest] as const;
  });
  return { ...half, alsoReported: Object.fromEntries(await Promise.all(others)) };
}

async function shuffledParts(
  dataSet: DataSet,
  count: number,
  seed: number,
): Promise<{ first: DataSet; rest: DataSet }> {
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
