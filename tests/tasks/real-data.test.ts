import { diskStorage, memoryStorage } from '@peftjs/core';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { glueTask, glueTasks, trecTask, type GlueName } from '@peftjs/tasks';
import { describe, expect, it } from 'vitest';

/**
 * The published data sets, which have their own terms and are not included: `PEFTJS_DATA` is a folder with `glue/`, as
 * on the GLUE site, and `sentclf/` with TREC.
 */
const data = process.env['PEFTJS_DATA'];

/** Defines tests of the data at a path, or a skipped test that says why there are none. */
function onFile(title: string, path: readonly string[], test: (path: string) => Promise<void>): void {
  const reason = data === undefined ? 'PEFTJS_DATA is not set' : `${path.join('/')} is not in PEFTJS_DATA`;
  const whole = join(data ?? '', ...path);
  if (data === undefined || !existsSync(whole)) it.skip(`${title} (skipped: ${reason})`);
  else it(title, () => test(whole));
}

/** The class counts of the development sets, which readers that split lines elsewhere would miss. */
const classes: Partial<Record<GlueName, readonly number[]>> = {
  cola: [322, 721],
  sst2: [428, 444],
  mrpc: [129, 279],
  rte: [146, 131],
  wnli: [40, 31],
  qnli: [2702, 2761],
};

const countsOf = (rows: readonly { readonly label: number }[], of: readonly unknown[]) =>
  of.map((_, label) => rows.filter((row) => row.label === label).length);

describe('the GLUE suite as published', () => {
  for (const [name, { folder, rows }] of glueTasks) {
    const train = existsSync(join(data ?? '', 'glue', folder, 'train.raw.tsv')) ? 'train.raw.tsv' : 'train.tsv';
    onFile(`${name} has its ${rows.train} and ${rows.dev} rows`, ['glue', folder, train], async () => {
      const task = await glueTask(name, join(data ?? '', 'glue'), diskStorage());
      expect({ train: task.train.rows.length, dev: task.dev.rows.length }).toEqual(rows);
      if (classes[name]) expect(countsOf(task.dev.rows, task.classes)).toEqual(classes[name]);
      const texts = [...task.train.rows, ...task.dev.rows];
      expect(texts.filter(({ text }) => /[\t\n]/.test(text))).toEqual([]);
    });
  }

  onFile('qnli has its development set', ['glue', 'QNLI', 'dev.tsv'], async (path) => {
    const bytes = await readFile(path);
    const both = memoryStorage(new Map(['train', 'dev'].map((set) => [`./${set}.tsv`, bytes])));
    const { dev, classes: names } = await glueTask('qnli', '.', both);
    const { rows } = dev;
    expect([rows.length, countsOf(rows, names)]).toEqual([5463, classes.qnli]);
  });

  onFile('rte is halved into 138 and 139 rows', ['glue', 'RTE', 'dev.tsv'], async () => {
    const task = await glueTask('rte', join(data ?? '', 'glue'), diskStorage(), { split: 'half-dev' });
    expect([task.selection?.rows.length, task.dev.rows.length]).toEqual([138, 139]);
  });
});

describe('TREC as published', () => {
  onFile('has its rows of six classes', ['sentclf', 'TREC.train.all'], async () => {
    const { train, dev, classes: names } = await trecTask(join(data ?? '', 'sentclf'), diskStorage());
    expect([train.rows.length, dev.rows.length]).toEqual([5452, 500]);
    expect(countsOf(train.rows, names)).toEqual([86, 1250, 1162, 1223, 835, 896]);
  });
});
