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
