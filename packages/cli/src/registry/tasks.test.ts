import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { memoryStorage } from '@peftjs/core';
import { loadTask, publishedTasksIn, taskName } from './tasks.js';

describe('the name of a task', () => {
  it.each([
    ['reviews.csv', 'reviews'],
    ['data/train-reviews.tsv', 'train-reviews'],
    ['reviews/train.tsv', 'reviews'],
    ['reviews/data/train-00000-of-00001.parquet', 'reviews'],
    ['/train.tsv', 'train'],
  ])('is that of the file, or of the folder if the file is only called train: %s', (path, name) => {
    expect(taskName(path)).toBe(name);
  });

  it('is that of the working directory for a train.tsv there', () => {
    expect(taskName('train.tsv')).toBe(basename(process.cwd()));
    expect(taskName(join('.', 'train.jsonl'))).toBe(basename(process.cwd()));
  });
});

it('a text file of tagged words is read as CoNLL if its kind is given', async () => {
  const bytes = new TextEncoder().encode('EU B-ORG\nrejects O\n\nPeter B-PER\n');
  const storage = memoryStorage(new Map([['eng.txt', bytes]]));
  const files = { kind: 'files', train: 'eng.txt', dev: 'eng.txt', columns: { kind: 'token-classification' } } as const;
  expect(await loadTask('eng', files, 'official', storage)).toMatchObject({ kind: 'token-classification' });
});

it('the selection rows of a published task come from the file that its split takes them from', async () => {
  const row = (index: number): string => `${index}\ta ${index}\tb\tentailment\n`;
  const text = `index\tsentence1\tsentence2\tlabel\n${[1, 2, 3, 4].map(row).join('')}`;
  const bytes = new TextEncoder().encode(text);
  const storage = memoryStorage(new Map(['train', 'dev'].map((file) => [`glue/RTE/${file}.tsv`, bytes])));
  const selectionFrom = async (split: 'official' | 'half-dev') =>
    (await loadTask('rte', { kind: 'folder', folder: 'glue' }, split, storage)).selectionFrom;
  expect(await selectionFrom('half-dev')).toBe('dev');
  expect(await selectionFrom('official')).toBeUndefined();
});

it('the published tasks in a folder are those of its folders, and of links to folders elsewhere', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'peftjs-tasks-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  for (const task of ['glue/RTE', 'elsewhere', 'glue/CoLA']) {
    await mkdir(join(folder, task), { recursive: true });
    for (const file of task === 'glue/CoLA' ? ['train.tsv'] : ['train.tsv', 'dev.tsv'])
      await writeFile(join(folder, task, file), '');
  }
  await symlink(join(folder, 'elsewhere'), join(folder, 'glue/MRPC'), 'junction');
  await writeFile(join(folder, 'glue/SST-2'), '');
  expect(await publishedTasksIn(join(folder, 'glue'))).toEqual(['mrpc', 'rte']);
});
