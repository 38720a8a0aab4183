import { diskStorage, memoryStorage } from '@peftjs/core';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  createDataSet,
  glueTask,
  glueTasks,
  halfDev,
  readHubGlue,
  trecTask,
  type GlueName,
  type Task,
  type LabelKind,
} from '@peftjs/tasks';
import { bytesOf, expectDataError, fixture, fixtureFolder } from './files.js';

interface Golden {
  readonly cases: readonly {
    readonly length: number;
    readonly seed: number;
    readonly first: number[];
    readonly last: number[];
  }[];
}

const golden = JSON.parse(readFileSync(`${fixtureFolder}/torch-permutation.json`, 'utf8')) as Golden;

/** A task whose rows have their number as the text. */
async function numbered(trainRows: number, devRows: number): Promise<Task<LabelKind>> {
  const lines = (rows: number) => Array.from({ length: rows }, (_, row) => `${row}\t${row % 2}\n`).join('');
  const files = new Map(
    Object.entries({ train: trainRows, dev: devRows }).map(([split, rows]) => [
      `SST-2/${split}.tsv`,
      bytesOf(`sentence\tlabel\n${lines(rows)}`),
    ]),
  );
  return glueTask('sst2', '.', memoryStorage(new Map([...files].map(([path, bytes]) => [`./${path}`, bytes]))));
}

const numbersOf = (set: Task<LabelKind>['dev'] | undefined) => set?.rows.map(({ text }) => Number(text)) ?? [];

describe('the half-dev split', () => {
  const halved = golden.cases.filter(({ length }) => length >= 2 * 24 && length < 2000);

  it.each(halved)('splits $length rows by seed $seed like torch', async ({ length, seed, first, last }) => {
    const { train, selection, dev } = await halfDev(await numbered(2, length), { selectionFrom: 'dev', seed });
    const [selected, reported] = [numbersOf(selection), numbersOf(dev)];
    expect([train.rows.length, selected.length, reported.length]).toEqual([
      2,
      Math.floor(length / 2),
      Math.ceil(length / 2),
    ]);
    expect(selected.slice(0, 24)).toEqual(first);
    expect(reported.slice(-24)).toEqual(last);
    expect([...selected, ...reported].sort((a, b) => a - b)).toEqual([...Array(length).keys()]);
  });

  it('takes 1000 training rows if the development set stays whole', async () => {
    const [{ first, last } = { first: [], last: [] }] = golden.cases.filter(({ length }) => length === 67349);
    const task = await numbered(67349, 5);
    const { train, selection, dev } = await halfDev(task, { selectionFrom: 'train' });
    expect(numbersOf(selection).slice(0, 24)).toEqual(first);
    expect(numbersOf(train).slice(-24)).toEqual(last);
    expect([selection?.rows.length, train.rows.length, dev]).toEqual([1000, 66349, task.dev]);
    expect(new Set([...numbersOf(selection), ...numbersOf(train)]).size).toBe(67349);
  });

  it.each<[GlueName, 'dev' | 'train']>([
    ['cola', 'dev'],
    ['sst2', 'train'],
    ['mrpc', 'dev'],
    ['qqp', 'train'],
    ['stsb', 'dev'],
    ['mnli', 'dev'],
    ['mnli-mm', 'dev'],
    ['qnli', 'train'],
    ['rte', 'dev'],
    ['wnli', 'dev'],
  ])('of %s takes its selection rows from %s', (name, part) => {
    expect(glueTasks.get(name)?.selectionFrom).toBe(part);
  });

  it('is an option of every published task', async () => {
    const folder = `${fixtureFolder}/glue`;
    const official = await glueTask('rte', folder, diskStorage());
    const half = await glueTask('RTE', folder, diskStorage(), { split: 'half-dev' });
    expect([official.selection, official.dev.rows.length]).toEqual([undefined, 3]);
    expect([half.selection?.rows.length, half.dev.rows.length, half.train]).toEqual([1, 2, official.train]);
    const hub = await readHubGlue('rte', (path) => fixture(`hub/${path}`), { split: 'half-dev' });
    expect(hub).toEqual(half);
    const other = await glueTask('rte', folder, diskStorage(), { split: 'half-dev', seed: 1 });
    expect(other.selection).not.toEqual(half.selection);
    const trec = await trecTask(`${fixtureFolder}/trec/uiuc`, diskStorage(), { split: 'half-dev' });
    expect([trec.selection?.rows.length, trec.dev.rows.length]).toEqual([1, 2]);
  });

  it.each([[{ split: 'half_dev' }], [{ spilt: 'half-dev' }], [{ split: 'half-dev', seed: '7' }]])(
    'refuses %j',
    async (options) => {
      const reading = glueTask('rte', `${fixtureFolder}/glue`, diskStorage(), options as never);
      await expect(reading).rejects.toThrow(expect.objectContaining({ code: 'PEFT_CONFIG' }));
    },
  );

  it('halves both development sets of MNLI', async () => {
    const task = await glueTask('mnli', `${fixtureFolder}/glue`, diskStorage(), { split: 'half-dev' });
    expect([task.selection?.rows.length, task.dev.rows.length]).toEqual([1, 1]);
    expect(task.extraDevSets?.['mismatched']?.rows).toHaveLength(2);
  });

  it('rejects a task with too few rows', async () => {
    await expectDataError(halfDev(await numbered(1000, 5), { selectionFrom: 'train' }), 'sst2/train', '1000');
    await expectDataError(halfDev(await numbered(2, 1), { selectionFrom: 'dev' }), 'sst2/dev', 'got 1');
  });

  it('names its parts, and keeps the metrics', async () => {
    const task = await numbered(4, 4);
    const half = await halfDev(task, { selectionFrom: 'dev' });
    expect([half.selection?.name, half.dev.name, half.metrics]).toEqual([
      'sst2/dev/selection',
      'sst2/dev/rest',
      task.metrics,
    ]);
    const rows = half.dev.rows;
    const same = await createDataSet({ name: 'x', kind: 'classification', classes: task.classes, rows });
    expect(half.dev.fingerprint).toBe(same.fingerprint);
  });
});
