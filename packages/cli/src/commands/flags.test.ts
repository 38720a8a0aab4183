import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { studyFromFlags } from './flags.js';

describe('learning rates', () => {
  const ratesOf = async (flags: object) => {
    const { study } = await studyFromFlags({ preset: 'quick', engine: 'compiled', backend: 'auto', ...flags });
    return [study.protocol.learningRate, study.methods['lora']?.learningRate, study.methods['adalora']?.learningRate];
  };

  it('are those of a preset for the embedded tasks, and those of the methods for other data', async () => {
    expect(await ratesOf({})).toEqual([2e-3, null, 4e-3]);
    expect(await ratesOf({ train: 'mine.tsv' })).toEqual([null, null, null]);
  });

  it('are that of --learning-rate for every arm', async () => {
    expect(await ratesOf({ learningRate: 3e-4 })).toEqual([3e-4, null, null]);
  });
});

describe('published tasks', () => {
  const glue = { preset: 'glue', data: 'nowhere', engine: 'compiled', backend: 'auto' };

  it('have one name however they are written, also in a study file, and in tuning', async () => {
    const { study } = await studyFromFlags({ ...glue, task: 'MRPC,RTE,STS-B,trec' });
    expect([study.tasks, study.tuning?.tasks]).toEqual([['mrpc', 'rte', 'stsb', 'trec'], ['mrpc']]);
    const folder = await mkdtemp(join(tmpdir(), 'peft-bench-flags-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    const config = join(folder, 'study.json');
    await writeFile(config, '{"tasks": ["RTE", "mine"], "tuning": {"learningRates": [0.1], "tasks": ["Rte"]}}');
    const methods = { config, method: 'lora' };
    const written = (await studyFromFlags({ ...glue, ...methods, preset: 'quick' })).study;
    expect([written.tasks, written.tuning?.tasks]).toEqual([['rte', 'mine'], ['rte']]);
  });

  it('may only appear once, however they are written', async () => {
    await expect(studyFromFlags({ ...glue, task: 'rte,RTE' })).rejects.toThrow("--task 'rte,RTE' has 'rte' twice");
  });
});

it('a task that the folder lacks is refused, even if the folder has a training file itself', async () => {
  const top = await mkdtemp(join(tmpdir(), 'peft-bench-flags-'));
  onTestFinished(() => rm(top, { recursive: true }));
  const data = join(top, 'shop');
  await mkdir(join(data, 'stars'), { recursive: true });
  for (const file of ['train.tsv', 'stars/train.tsv']) await writeFile(join(data, file), 'text\tlabel\na\t1\n');
  const studyOf = (task: string) =>
    studyFromFlags({ preset: 'quick', engine: 'compiled', backend: 'auto', data, task });
  await expect(studyOf('star')).rejects.toThrow(
    `--task 'star' is not in --data ${data} (did you mean 'stars'?); it has shop, stars`,
  );
  expect((await studyOf('shop,stars')).study.tasks).toEqual(['shop', 'stars']);
});
