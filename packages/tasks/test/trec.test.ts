import { diskStorage, memoryStorage } from '@peftjs/core';
import { describe, expect, it } from 'vitest';
import { readHubTrec, trecTask } from '@peftjs/tasks';
import { bytesOf, expectDataError, fixture, fixtureFolder } from './files.js';

const load = (folder: string) => trecTask(`${fixtureFolder}/trec/${folder}`, diskStorage());

/** Reads the task from two files in memory. */
const task = (train: string | Uint8Array, test = '0 What is an atom ?\n') => {
  const files = { 'TREC.train.all': train, 'TREC.test.all': test };
  const bytes = Object.entries(files).map(
    ([name, file]) => [`d/TREC/${name}`, typeof file === 'string' ? bytesOf(file) : file] as const,
  );
  return trecTask('d', memoryStorage(new Map(bytes)));
};

describe('TREC', () => {
  it('is the same in all formats', async () => {
    const [uiuc, kim] = [await load('uiuc'), await load('kim')];
    expect(kim).toEqual(uiuc);
    expect(await readHubTrec((path) => fixture(`hub/trec/${path}`))).toEqual(uiuc);
    expect(await trecTask(`${fixtureFolder}/hub/trec`, diskStorage())).toEqual(uiuc);
  });

  it("has the hub's classes, and is reported on the test set", async () => {
    const { name, classes, train, dev, primaryMetric } = await load('kim');
    expect([name, classes, primaryMetric]).toEqual(['trec', ['ABBR', 'ENTY', 'DESC', 'HUM', 'LOC', 'NUM'], 'accuracy']);
    expect(train.rows.map(({ text, label }) => [classes[label], text])).toEqual([
      ['DESC', 'How do bees make wax ?'],
      ['ENTY', 'What animal sleeps upside down ?'],
      ['ABBR', 'What does GPS stand for ?'],
      ['HUM', 'Who painted the chapel ?'],
      ['LOC', 'Which city is a sister city of Lyon ?'],
      ['NUM', 'How far is the moon ?'],
    ]);
    expect(dev.rows.map(({ label }) => classes[label])).toEqual(['NUM', 'LOC', 'DESC']);
  });

  it('reads Latin-1, where only \\n ends a line', async () => {
    const { train } = await task(Uint8Array.from([...bytesOf('0 caf'), 0xe9, 0x85, ...bytesOf(' ?\n')]));
    expect(train.rows).toEqual([{ text: 'caf\u00e9\u0085 ?', label: 2 }]);
  });

  it.each([
    ['a number that is not a class', '0 Why ?\n7 What ?\n', 'TREC.train.all:2', '"7 What ?"'],
    ['a line without class', 'Why ?\n', 'TREC.train.all:1', 'NUM:dist'],
    ['a class without question', '3 \n', 'TREC.train.all:1'],
    ['an unknown class', 'WHY:manner Why ?\n', 'TREC.train.all:1', '"WHY"'],
    ['an empty file', '\n', 'TREC.train.all', 'empty'],
  ])('rejects %s', async (_, text, ...parts) => {
    await expectDataError(task(text), ...parts);
  });

  it('names the files that it looks for', async () => {
    await expectDataError(trecTask('/nowhere', diskStorage()), 'train_5500.label', 'TREC.train.all', '0000.parquet');
  });
});
