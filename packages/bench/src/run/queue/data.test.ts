import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { onWarning } from '@peftjs/core';
import { smallStudy } from '../../../../cli/test/studies.js';
import type { Trial } from '@peftjs/cli/trials';
import { readJob } from './contract.js';
import { dataFolders, packData, removeUnused } from './data.js';

const { protocol } = smallStudy();
const rows = 'text\tlabel\nso good\t1\nso bad\t0\nfine\t1\nno\t0\n';
const whole = `text\tlabel\n${Array.from({ length: 20 }, (_, row) => `text ${row}\t${row % 2}\n`).join('')}`;

let folder = '';
const file = (name: string): string => join(folder, name);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'peft-bench-travel-'));
  for (const name of ['a/rows.tsv', 'b/rows.tsv', 'c/rows.tsv', 'tasks/mine/train.tsv', 'tasks/mine/dev.tsv']) {
    await mkdir(join(file(name), '..'), { recursive: true });
    await writeFile(file(name), name.startsWith('b') ? `${rows}good\t1\n` : name.startsWith('c') ? whole : rows);
  }
  await writeFile(file('tasks/mine/not-asked-for.tsv'), rows);
});
afterAll(() => rm(folder, { recursive: true }));

describe('packData', () => {
  it('keeps two files of the same name apart', async () => {
    const data = { kind: 'files', train: file('a/rows.tsv'), dev: file('b/rows.tsv') } as const;
    const packed = await packData({ task: 'rows', data, protocol });
    expect(packed.data).toEqual({ kind: 'files', train: 'train/rows.tsv', dev: 'dev/rows.tsv' });
    expect(packed.files.map(({ path, bytes }) => [path, bytes])).toEqual([
      ['train/rows.tsv', rows.length],
      ['dev/rows.tsv', rows.length + 7],
    ]);
  });

  it('accepts a training file without a development file, and column options', async () => {
    const columns = { textColumn: 'text' };
    const packed = await packData({
      task: 'rows',
      data: { kind: 'files', train: file('c/rows.tsv'), columns },
      protocol,
    });
    expect(packed.data).toEqual({ kind: 'files', train: 'train/rows.tsv', columns });
    expect(packed.files.map(({ path }) => path)).toEqual(['train/rows.tsv']);
  });

  it('packs the files of a folder that the task reads, and sends equal files once', async () => {
    const data = { kind: 'folder', folder: file('tasks') } as const;
    const packed = await packData({ task: 'mine', data, protocol });
    expect(packed.files.map(({ path }) => path)).toEqual(['mine/train.tsv', 'mine/dev.tsv']);
    expect(packed.contents.size).toBe(1);
    for (const [, content] of packed.contents) expect(new TextDecoder().decode(content)).toBe(rows);
  });

  it('packs a folder of images, one file each, as workers accept it', async () => {
    const photos = ['train', 'dev'].flatMap((part) =>
      ['light', 'dark'].map((label) => file(`photos/${part}/${label}`)),
    );
    for (const photo of photos) {
      await mkdir(photo, { recursive: true });
      for (let image = 0; image < 30; image++) await writeFile(join(photo, `${image}.png`), `${photo} ${image}`);
    }
    const data = { kind: 'folder', folder: file('photos'), images: true } as const;
    const { contents, ...packed } = await packData({ task: 'photos', data, protocol });
    expect(packed.files).toHaveLength(120);
    expect(contents.size).toBe(120);
    const trial = { id: 'a-1', method: 'any', model: 'some/model', task: 'photos', data } as Trial;
    const job = { trial, model: trial.model, ...packed };
    expect(readJob('a-1', job)).toEqual(job);
  });

  it('leaves large data in place, by full path, and says what to do', async () => {
    const warnings: string[] = [];
    const restore = onWarning((line) => warnings.push(line));
    onTestFinished(restore);
    const data = { kind: 'folder', folder: relative(process.cwd(), file('tasks')) } as const;
    const packed = await packData({ task: 'mine', data, protocol }, 2 * rows.length - 1);
    expect(packed).toEqual({ data: { kind: 'folder', folder: file('tasks') }, files: [], contents: new Map() });
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatch(/workers read them from .*tasks; put them on a path that all machines share/);
  });
});

let scratch: string;
beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'peft-bench-data-'));
});
afterEach(() => rm(scratch, { recursive: true }));

const there = async (): Promise<string[]> => (await readdir(join(scratch, 'data'))).sort();

describe('dataFolders', () => {
  it('has nothing to remove before the first use', async () => {
    await expect(removeUnused(file('never'), { ms: 0 })).resolves.toBeUndefined();
  });

  it('removes folders unused for a day', async () => {
    const folders = dataFolders(scratch);
    const old = await folders.folderOf('old');
    await writeFile(join(old, 'train.tsv'), 'text');
    const before = new Date(Date.now() - 25 * 3600 * 1000);
    await utimes(old, before, before);
    await folders.folderOf('new');
    expect(await there()).toEqual(['new']);
  });

  it('keeps the 20 sets of files that were used last', async () => {
    const folders = dataFolders(scratch);
    for (let set = 0; set < 21; set++) {
      const folder = await folders.folderOf(`set-${set}`);
      await utimes(folder, new Date(), new Date(Date.now() - 1000 * (60 - set)));
    }
    await folders.folderOf('set-1');
    expect(await there()).toHaveLength(20);
    expect(await there()).not.toContain('set-0');
  });

  it('on close, removes only the folders of its own worker', async () => {
    await dataFolders(scratch).folderOf('of another worker');
    const folders = dataFolders(scratch);
    await folders.folderOf('own');
    await folders.close();
    expect(await there()).toEqual(['of another worker']);
  });
});
