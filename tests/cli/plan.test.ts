// What `run --plan` measures: arms that choose their size, and images; and what it says of held-out rows.
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { diskStorage } from '@peftjs/core';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { bertFolder } from '../models/bert-tiny.js';
import { visionFolder } from '../models/vision.js';
import { peftBench } from './in-process.js';
import { tinyTask } from './tiny-task.js';

const folder = temporaryFolder();
const path = (name: string): string => join(folder, name);

describe('run --plan', () => {
  it('measures an arm that chooses its size if there is no other, and says what it leaves out', async () => {
    const study = ['run', ...(await tinyTask(folder, 32)), '--seeds', '1', '--plan', '--out', path('none')];
    const { code, stderr } = await peftBench([...study, '--method', 'head,sora', '--budget', 'auto']);
    expect(stderr).toContain('of sora, 8 rows of ');
    expect(stderr).toContain('not counted: the later stages of trials that choose their size');
    expect(code).toBe(0);
  });

  it.each([
    ['--train', 'mine/train.tsv', 'add --dev FILE'],
    ['--data', 'mine', 'put a dev file beside the training file'],
  ])('says of the rows that %s holds out how to give others', async (flag, given, way) => {
    const rows = Array.from({ length: 40 }, (_, row) => `row ${row}\t${row % 2}\n`);
    await mkdir(path('mine'), { recursive: true });
    await writeFile(path('mine/train.tsv'), `text\tlabel\n${rows.join('')}`);
    const study = ['run', '--model', bertFolder, flag, path(given), '--method', 'head', '--seeds', '1'];
    const { stderr } = await peftBench([...study, '--plan', '--out', path('none')]);
    expect(stderr).toContain(
      `reported on 4 of the 40 rows, which are held out (the same ones every time); to report on rows of your own, ${way}\n`,
    );
  });

  it('counts the rows of images, which have no tokens', async () => {
    for (const [part, count] of Object.entries({ train: 10, dev: 2 })) {
      for (const [label, picture] of Object.entries({ dark: 'grey.png', light: 'tall.png' })) {
        await mkdir(path(`photos/${part}/${label}`), { recursive: true });
        const from = new URL(`../tasks/fixtures/images/${picture}`, import.meta.url);
        for (let image = 0; image < count; image++) await copyFile(from, path(`photos/${part}/${label}/${image}.png`));
      }
    }
    for (const [file, bytes] of visionFolder(path('vit'))) await diskStorage().write(file, bytes);
    const study = ['run', '--preset', 'smoke', '--model', path('vit'), '--images', path('photos'), '--batch-size', '4'];
    const flags = ['--method', 'lora', '--budget', 'r=2', '--seeds', '1', '--plan', '--out', path('none')];
    const { code, stderr } = await peftBench([...study, ...flags]);
    expect(stderr).toContain('of lora, 4 rows);');
    expect(code).toBe(0);
  });
});
