import { DataError } from '@peftjs/core/method';
import { diskStorage, memoryStorage, onWarning, type Storage } from '@peftjs/core';
import { readTask, type ReadTaskOptions } from '@peftjs/tasks';
import { describe, expect, it } from 'vitest';
import { bytesOf, expectDataError } from './files.js';

/** Reads a part of a file that is opened in pieces. */
async function sample(path: string, content: string, rows: number, options: Partial<ReadTaskOptions> = {}) {
  const bytes = bytesOf(content);
  const dev = path.replace('train', 'dev');
  const files = memoryStorage(new Map([[dev, bytes]]));
  const storage: Storage = {
    ...files,
    open: () =>
      Promise.resolve({ size: bytes.length, read: (at, length) => Promise.resolve(bytes.subarray(at, at + length)) }),
  };
  const warnings: string[] = [];
  const restore = onWarning((line) => warnings.push(line));
  try {
    return { ...(await readTask({ train: path, storage, rows, ...options })), warnings };
  } finally {
    restore();
  }
}

/** 3,000 rows of a CSV file of 9 MB, with line ends and quotes in cells. */
const long = 'é'.repeat(1500);
const cellOf = (row: number) => `"row ${row}, ""quoted""\r\n${long}"`;
const csv = [
  'text,label',
  ...Array.from({ length: 3000 }, (_, row) => `${cellOf(row)},${row === 2000 ? 'rare' : row % 2}`),
].join('\r\n');

describe('a sample of a training file', () => {
  it('has rows from everywhere, each class, the same every time, and holds a tenth of them out', async () => {
    const { train, dev, classes, warnings } = await sample('train.csv', csv, 300);
    expect([train.rows.length + dev.rows.length, dev.rows.length]).toEqual([301, 30]);
    expect(classes).toEqual(['0', '1', 'rare']);
    const numbers = [...train.rows, ...dev.rows].map((row) =>
      Number(/row (\d+), "quoted"\n/.exec('text' in row ? row.text : '')?.[1]),
    );
    expect(new Set(numbers).size).toBe(301);
    expect(numbers.filter((row) => row >= 1500).length).toBeGreaterThan(100);
    expect(warnings).toEqual(['train.csv: a sample of 301 of its 3000 rows is read']);
    expect((await sample('train.csv', csv, 300)).train.fingerprint).toBe(train.fingerprint);
  });

  it.each([
    ['train.csv', csv],
    ['train.tsv', ['label\ttext', 'a\tone', '', 'b\ttwo', 'a\tthree'].join('\n')],
    [
      'train.jsonl',
      ['{"text":"one","label":1}', '', '{"text":"two","label":2}', '{"text":"three","label":1}'].join('\n'),
    ],
  ])('of all rows is the whole file: %s', async (path, content) => {
    const dev = path.replace('train', 'dev');
    const { train, dev: whole, warnings } = await sample(path, content, 5000, { dev });
    expect(train.rows).toEqual(whole.rows);
    expect(warnings).toEqual([]);
  });

  it.each([
    ['a short row', 'text,label\na,b\nonly\n', 'train.csv:3: expected 2 cells'],
    ['an open quote', 'text,label\n"a,b\n', 'train.csv:2: '],
    ['no rows', 'text,label\n', 'train.csv: expected rows, got none'],
    ['nothing', '', 'train.csv: expected rows, got none'],
  ])('refuses %s', async (_, content, message) => {
    await expectDataError(sample('train.csv', content, 10), message);
  });

  it('refuses a row that never ends, other bytes, and no rows to keep', async () => {
    await expectDataError(
      sample('train.csv', `text,label\n"${'a'.repeat(2 ** 24 + 2 ** 22)}`, 10),
      'train.csv:2: expected a row of at most',
    );
    const storage = memoryStorage(new Map([['train.csv', new Uint8Array([0x61, 0xff])]]));
    await expect(readTask({ train: 'train.csv', storage, rows: 5 })).rejects.toThrow(DataError);
    await expect(readTask({ train: 'train.csv', storage, rows: 0 })).rejects.toThrow('rows');
    await expectDataError(readTask({ train: 'nowhere.csv', storage: diskStorage(), rows: 5 }), 'nowhere.csv');
  });
});
