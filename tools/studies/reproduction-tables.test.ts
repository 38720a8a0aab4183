import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readResults } from '@peftjs/bench';
import { expect, it } from 'vitest';
import { publishedFolder, unpacking } from '../publish/published-archives.js';
import { reproductionChart, reproductionTable } from './reproduction-tables.js';

const unpacked = await unpacking();

/** A table without its alignment. */
const plain = (text: string): string => text.replaceAll(/ +/g, ' ').replaceAll(/-{2,}/g, '--');

it('the page on BERT-base has the table and the chart of its archive', async () => {
  const trials = await readResults(await unpacked('bert-base', 'run'));
  const page = await readFile(join(publishedFolder, '../bert-base.md'), 'utf8');
  expect(plain(page)).toContain(plain(reproductionTable(trials)));
  expect(await readFile(join(publishedFolder, 'bert-base/reproduction.svg'), 'utf8')).toBe(reproductionChart(trials));
});
