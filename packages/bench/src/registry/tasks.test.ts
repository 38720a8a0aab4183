import { basename, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { taskName } from './tasks.js';

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
