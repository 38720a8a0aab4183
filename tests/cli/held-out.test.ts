import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { peftBench } from './in-process.js';
import { tinyTask } from './tiny-task.js';

const folder = temporaryFolder();

it('without --dev, --rows bounds the reported rows in proportion, and --dev-rows gives their number', async () => {
  const task = await tinyTask(folder, 400);
  const trained = async (out: string, flags: readonly string[], own = task.slice(0, task.indexOf('--dev'))) => {
    const args = ['train', '--method', 'lora', ...own, '--epochs', '1', '--rows', '18', ...flags];
    const { stderr } = await peftBench([...args, '--out', join(folder, out)]);
    return stderr.match(/^data: .*$|^scored on \d+ rows?/gm);
  };
  const sizes = '16 rows to train on, 2 to select checkpoints on';
  expect(await trained('bounded', [])).toEqual([`data: ${sizes}, 2 to report on`, 'scored on 2 rows']);
  expect(await trained('asked', ['--dev-rows', '6'])).toEqual([`data: ${sizes}, 6 to report on`, 'scored on 6 rows']);
  expect(await trained('given', [], task)).toEqual([`data: ${sizes}, 16 to report on`, 'scored on 16 rows']);
});

it('keeps a sample of a large file, from which both sides are drawn, the same in plan and training', async () => {
  const task = await tinyTask(folder, 4);
  const large = join(folder, 'large.csv');
  const lines = Array.from({ length: 900 }, (_, row) => `cat ${row} ${'x'.repeat(20_000)},${row % 2 ? 'good' : 'bad'}`);
  await writeFile(large, ['text,label', ...lines].join('\n')); // 18 MB
  const own = [...task.slice(0, task.indexOf('--train')), '--train', large, '--epochs', '1', '--rows', '18'];
  const { code, stderr } = await peftBench(['train', '--method', 'lora', ...own, '--out', join(folder, 'sampled')]);
  expect(stderr).toContain('large.csv: a sample of 20 of its 900 rows is read');
  expect(stderr).toContain('data: 16 rows to train on, 2 to select checkpoints on, 2 to report on');
  expect([code, stderr.match(/^scored on \d+ rows/m)?.[0]]).toEqual([0, 'scored on 2 rows']);
});
