import { readdirSync, watch } from 'node:fs';
import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import type { Ended } from './command.js';
import { peftBench } from './in-process.js';
import { tinyTask } from './tiny-task.js';

/*
 * What a run writes and shows at its end must equal, byte for byte, what `peft-bench report` makes of its folder,
 * however the folder came about.
 */

const folder = temporaryFolder();
let task: readonly string[] = [];
beforeAll(async () => {
  const study = join(folder, 'study.json');
  await writeFile(study, JSON.stringify({ reference: null })); // the preset sets it
  task = [...(await tinyTask(folder, 32)), '--config', study];
});

const FILES = ['report.html', 'report.md', 'summary.json', 'summary.csv', 'results.csv'];

const run = (out: string, ...flags: string[]): Promise<Ended> =>
  peftBench(['run', ...task, ...flags, '--out', join(folder, out)]);

/** The parts of a report: its files, and the table on the terminal. */
async function reportIn(out: string, { stderr }: Ended): Promise<Record<string, string>> {
  const texts = await Promise.all(FILES.map((file) => readFile(join(folder, out, file), 'utf8')));
  const [table] = /^(?:mean over \d+ tasks|\S+) \(\S+\)\n[^]*$/m.exec(stderr) ?? expect.fail(stderr);
  return { ...Object.fromEntries(FILES.map((file, index) => [file, texts[index] as string])), table };
}

/** Runs `report` again, and compares it with what the run wrote and showed. @returns the summary's rows */
async function expectSameReport(out: string, ran: Ended): Promise<{ label: string; seeds: number[] }[]> {
  expect(ran.code, ran.stderr).toBe(0);
  const ofRun = await reportIn(out, ran);
  for (const file of FILES) await rm(join(folder, out, file));
  const reported = await peftBench(['report', join(folder, out)]);
  expect(reported.code, reported.stderr).toBe(0);
  expect(await reportIn(out, reported)).toEqual(ofRun);
  return (JSON.parse(ofRun['summary.json'] ?? '') as { rows: { label: string; seeds: number[] }[] }).rows;
}

describe('the report of a run equals that of peft-bench report', () => {
  it('after seed 1, then seeds 1 to 3, in one arm each', async () => {
    await run('seeds', '--method', 'head,sora,lora', '--seeds', '1');
    const rows = await expectSameReport('seeds', await run('seeds', '--method', 'head,sora,lora', '--seeds', '3'));
    expect(rows.map(({ label, seeds }) => [label, seeds])).toEqual(
      expect.arrayContaining(['head', 'lora', 'sora'].map((label) => [label, [1, 2, 3]])),
    );
    expect(rows).toHaveLength(3);
  });

  it('after methods were added, with the reference of the later study', async () => {
    await run('methods', '--method', 'sora', '--seeds', '1');
    const rows = await expectSameReport('methods', await run('methods', '--method', 'lora,adalora', '--seeds', '1'));
    expect(rows.map(({ label }) => label).sort()).toEqual(['adalora', 'lora', 'sora']);
    const summary = await readFile(join(folder, 'methods', 'summary.json'), 'utf8');
    expect(JSON.parse(summary)).toMatchObject({ reference: 'lora' });
  });

  it('after a task was added', async () => {
    const data = join(folder, 'data');
    for (const name of ['one', 'two']) {
      await mkdir(join(data, name), { recursive: true });
      for (const file of ['train.tsv', 'dev.tsv']) await cp(join(folder, file), join(data, name, file));
    }
    const [files, config] = [task.indexOf('--train'), task.indexOf('--config')];
    const flags = [
      ...task.slice(0, files),
      ...task.slice(config),
      '--method',
      'head,lora',
      '--out',
      join(folder, 'tasks'),
    ];
    const of = (name: string): Promise<Ended> => peftBench(['run', ...flags, '--data', join(data, name)]);
    await of('one');
    const rows = await expectSameReport('tasks', await of('two'));
    expect(rows).toHaveLength(4);
  });

  it("after Ctrl-C, and the report of the partial results has the study's reference", async () => {
    const flags = ['--method', 'sora,lora', '--seeds', '2'];
    const results = join(folder, 'stopped', 'results');
    await mkdir(results, { recursive: true });
    const watcher = watch(results, () => {
      if (readdirSync(results).filter((file) => file.endsWith('.json')).length < 2) return;
      watcher.close();
      process.emit('SIGINT');
    });
    const stopped = await run('stopped', ...flags);
    expect(stopped.code).toBe(130);
    expect(await readdir(results)).toHaveLength(2);
    await peftBench(['report', join(folder, 'stopped')]);
    const partial = await readFile(join(folder, 'stopped', 'summary.json'), 'utf8');
    expect(JSON.parse(partial)).toMatchObject({ reference: 'sora' });
    await expectSameReport('stopped', await run('stopped', ...flags));
  });

  it('in shards: report joins them, and gives the same report twice', async () => {
    const flags = ['--method', 'sora,head,lora', '--seeds', '2'];
    for (const shard of ['0/2', '1/2']) await run('shares', ...flags, '--shard', shard);
    const rows = await expectSameReport('shares', await peftBench(['report', join(folder, 'shares')]));
    expect(rows.map(({ seeds }) => seeds)).toEqual([
      [1, 2],
      [1, 2],
      [1, 2],
    ]);
    const summary = await readFile(join(folder, 'shares', 'summary.json'), 'utf8');
    expect(JSON.parse(summary)).toMatchObject({ reference: 'sora' });
  });
});
