import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { folderOfTest } from '../vitest/temporary-folder.js';
import { pack, unpack } from './archive.js';

it('unpacks what it packed, byte for byte, and packs nothing that it could not restore', async () => {
  const folder = folderOfTest();
  const inFolder = (path: string): string => join(folder, path);
  const [third, tiny] = [1 / 3, -1e-9].map(Math.fround);
  const rows = { predicted: [[], [0, 1], 'a', null, tiny], actual: [] };
  const history = [
    { step: 1, loss: third, ranks: { b: 4, a: 0 } },
    { loss: tiny, metrics: { f1: 0.1 } },
    { metrics: {} },
  ];
  const files = {
    'results/head.json': { id: 'head', rows },
    'results/lora.json': { rows, history },
    'run.json': [third],
  };
  await mkdir(inFolder('results'));
  await writeFile(inFolder('report.html'), '<html>');
  await expect(pack(folder, inFolder('a'))).rejects.toThrow('got none');
  for (const [path, file] of Object.entries(files))
    await writeFile(inFolder(path), `${JSON.stringify(file, null, 2)}\n`);
  await pack(folder, inFolder('a'));
  await unpack(inFolder('a'), inFolder('b'));
  for (const path of Object.keys(files))
    expect(await readFile(inFolder(`b/${path}`), 'utf8')).toBe(await readFile(inFolder(path), 'utf8'));
  expect(await readdir(inFolder('b'))).toEqual(['results', 'run.json']);
  await writeFile(inFolder('run.json'), '[0]');
  await expect(pack(folder, inFolder('a'))).rejects.toThrow('got run.json');
});
