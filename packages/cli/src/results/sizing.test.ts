import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { diskStorage } from '@peftjs/core';
import { expect, it } from 'vitest';
import { sizing } from '../../test/synthetic-results.js';
import { readSizing, writeSizing } from './files.js';
import { sizingText } from './sizing-table.js';

it('an automatic choice of size is shown from large to small, with the choice and its reason', () => {
  expect(sizingText(sizing).split('\n').map((line) => line.trim().split(/\s{2,}/))).toEqual([
    ['stage', 'stored', 'ranks', 'score', 'worse by', 'may be', 'memorization, %', 'generalization, %'],
    ['dense', '4,000', '5', '0.900', '–', '–', '100.0', '100.0'],
    ['search', '1,600', '2', '0.895', '+0.005', '0.020', '100.0', '100.0', 'chosen'],
    ['descent', '800', '1', '0.900', '+0.100', '0.020', '–', '100.0'],
    ['With 1,600 parameters <b>it</b> is enough.'],
    [''],
  ]); // oxfmt-ignore
});

it('it is stored next to an adapter, and removed when another adapter replaces that', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'sizing-'));
  try {
    await writeSizing(folder, sizing);
    expect(await readSizing(folder, diskStorage())).toEqual(sizing);
    await writeFile(join(folder, 'sizing.json'), '{"stages": [], "chosen": 7}');
    await expect(readSizing(folder, diskStorage())).rejects.toThrow(/sizing.json is not a valid record/);
    await writeSizing(folder, undefined);
    expect(await readSizing(folder, diskStorage())).toBeUndefined();
  } finally {
    await rm(folder, { recursive: true });
  }
});
