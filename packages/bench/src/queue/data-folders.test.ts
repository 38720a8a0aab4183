import { mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { dataFolders } from './data-folders.js';

let scratch: string;
beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'peft-bench-data-'));
});
afterEach(() => rm(scratch, { recursive: true }));

const there = async (): Promise<string[]> => (await readdir(join(scratch, 'data'))).sort();

describe('dataFolders', () => {
  it('removes what nobody has asked for since yesterday', async () => {
    const folders = dataFolders(scratch);
    const old = await folders.folderOf('old');
    await writeFile(join(old, 'train.tsv'), 'text');
    const before = new Date(Date.now() - 25 * 3600 * 1000);
    await utimes(old, before, before);
    await folders.folderOf('new');
    expect(await there()).toEqual(['new']);
  });

  it('keeps 20 sets of files, those asked for last', async () => {
    const folders = dataFolders(scratch);
    for (let set = 0; set < 21; set++) {
      const folder = await folders.folderOf(`set-${set}`);
      await utimes(folder, new Date(), new Date(Date.now() - 1000 * (60 - set)));
    }
    await folders.folderOf('set-1');
    expect(await there()).toHaveLength(20);
    expect(await there()).not.toContain('set-0');
  });

  it('removes at its close what its worker has used, and nothing else', async () => {
    await dataFolders(scratch).folderOf('of another worker');
    const folders = dataFolders(scratch);
    await folders.folderOf('own');
    await folders.close();
    expect(await there()).toEqual(['of another worker']);
  });
});
