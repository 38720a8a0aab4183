import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { startBench, succeeded, withWorkers } from '../../tools/faults/bench.js';
import { hasRedis } from '../../tools/faults/redis.js';
import { folderOfTest } from '../../tools/vitest/temporary-folder.js';
import { peftBench } from '../cli/in-process.js';
import { tinyTask } from '../cli/tiny-task.js';

const FILES = ['report.html', 'report.md', 'summary.json', 'summary.csv', 'results.csv'];
const title = `the report of a run over a queue is that of peft-bench report${hasRedis ? '' : ' (skipped: redis-server is not installed)'}`;

it.skipIf(!hasRedis)(title, { timeout: 120_000 }, async () => {
  const folder = folderOfTest();
  const out = join(folder, 'out');
  const files = (): Promise<string[]> => Promise.all(FILES.map((file) => readFile(join(out, file), 'utf8')));
  const study = ['run', ...(await tinyTask(folder, 32)), '--method', 'sora,lora', '--out', out];
  expect((await peftBench([...study, '--seeds', '1'])).code).toBe(0);
  await withWorkers(join(folder, 'scratch'), {}, ({ url }) =>
    succeeded(startBench([...study, '--seeds', '3', '--queue', url])),
  );
  const written = await files();
  expect(JSON.parse(written[2] as string)).toMatchObject({ rows: [{ seeds: [1, 2, 3] }, { seeds: [1, 2, 3] }] });
  expect((await peftBench(['report', out])).code).toBe(0);
  expect(await files()).toEqual(written);
});
