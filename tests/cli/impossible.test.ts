import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { peftBench } from './in-process.js';
import { tinyTask } from './tiny-task.js';

const folder = temporaryFolder();
let task: string[] = [];
const path = (name: string): string => join(folder, name);

beforeAll(async () => {
  task = await tinyTask(folder, 32);
  await mkdir(path('adapter'));
  await writeFile(path('adapter/adapter_config.json'), '{"peft_type": "LORA"}');
  await mkdir(path('run/results'), { recursive: true });
  await mkdir(path('base'));
  await writeFile(path('base/config.json'), '{}');
  await mkdir(path('notes'));
  for (const name of ['1.txt', '2.txt', '3.txt', '4.txt']) await writeFile(path(`notes/${name}`), '');
  await writeFile(path('schedule.json'), '{"protocol": {"schedule": "cosin"}}');
  await writeFile(path('budgets.json'), '{"budgets": ["r=2", "r=4"]}');
  await writeFile(path('field.json'), '{"protocols": {}}');
  await writeFile(path('options.json'), '{"methods": {"lora": {"options": {"lora_alpah": 1}}}}');
});

/** The one line that a rejected command prints. */
async function refusal(line: string): Promise<string> {
  const { code, stdout, stderr } = await peftBench(line.split(' ').map((word) => word.replace('@', `${folder}/`)));
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  const lines = stderr.trim().split('\n');
  return lines.filter((text) => !text.startsWith('peft-bench: loading')).join('\n');
}

describe('the nearest name is suggested', () => {
  it.each([
    ['a method', 'run --method lroa --out @out', /--method 'lroa' is unknown \(did you mean 'lora'\?\); known are/],
    ['a method in any case', 'train --method Lroa --out @out', /--method 'Lroa' is unknown \(did you mean 'lora'\?\)/],
    ['a task', 'run --task uci-sentimnet --out @out', /did you mean 'uci-sentiment'/],
    ['a preset', 'run --preset quik --out @out', /did you mean 'quick'/],
    ['an engine', 'run --engine compield --out @out', /compiled, eager \(did you mean 'compiled'\?\)/],
    ['a backend', 'run --backend webgup --out @out', /did you mean 'webgpu'/],
    ['a format', 'export @adapter --format merge --out @out', /did you mean 'merged'/],
    ['a flag', 'run --bugdet r=4 --out @out', /unknown option '--bugdet' \(Did you mean --budget\?\)/],
    ['a command', 'rnu', /unknown command 'rnu' \(Did you mean run\?\)/],
    [
      'a field of a study',
      'run --config @field.json --out @out',
      /'protocols' is unknown \(did you mean 'protocol'\?\)/,
    ],
    ['a value of a study', 'run --config @schedule.json --out @out', /'cosin' \(did you mean 'cosine'\?\)/],
    [
      'an option of a method',
      'run --config @options.json --out @out',
      /'lora_alpah' is unknown \(did you mean 'loraAlpha'\?\)/,
    ],
  ])('for %s', async (_, line, message) => {
    expect(await refusal(line)).toMatch(message);
  });

  it('for a misspelled flag, before a missing one is reported', async () => {
    expect(await refusal('run --bugdet r=4')).toMatch(/--bugdet/);
    expect(await refusal('run --ouput x')).toMatch(/'--ouput'/);
  });
});

it('all missing flags are reported at once', async () => {
  expect(await refusal('export --model m')).toMatch(
    /: missing: <adapter>, --format <format>, --out <folder>; see peft-bench export --help/,
  );
  expect(await refusal('train --dev @dev.tsv')).toMatch(/: missing: --method <name>, --out <folder>, --train <file>;/);
});

describe('a budget that the modules cannot hold is rejected, with the largest possible one', () => {
  it.each([
    ['900%', 'lora'],
    ['r=100000', 'lora'],
    ['99999999999999999999', 'lora'],
    ['900%', 'adalora'],
    ['900%', 'sora'],
    ['900%', 'l1ra'],
    ['900%', 'vera'],
    ['900%', 'houlsby'],
    ['900%', 'truncated-lora'],
  ])('%s of %s', async (budget, method) => {
    const { code, stderr } = await peftBench([
      ...['run', ...task, '--out', path('out'), '--method', method],
      ...['--budget', budget],
    ]);
    expect(stderr).toMatch(/budget is \d+.*; (these \d+ modules hold at most \d+|the base model has \d+) parameters/);
    expect(code).toBe(2);
    expect(await readdir(folder)).not.toContain('out');
  });

  it.each(['-5%', '0%', '1e9', 'r=0'])('%s is not a budget', async (budget) => {
    const { code, stderr } = await peftBench(['run', '--budget', budget, '--out', path('out')]);
    expect(stderr).toMatch(/expected a number of parameters/);
    expect(code).toBe(2);
  });
});

it('train refuses a study of several budgets or tasks', async () => {
  const train = 'train --method lora --out @out';
  expect(await refusal(`${train} --config @budgets.json`)).toMatch(/train expects one --task, and the study has uci-/);
  expect(await refusal(`${train} --config @budgets.json --task uci-sentiment`)).toMatch(
    /train expects one --budget, and the study has r=2, r=4; choose one/,
  );
});

describe('names of methods', () => {
  it('are those of packages, in any case', async () => {
    const { code, stderr } = await peftBench(['train', '--method', 'LoRA', ...task, '--out', path('trained')]);
    expect({ code, stderr }).toMatchObject({ code: 0, stderr: expect.stringContaining('saved to') as string });
  });

  it('may only appear once, in any case', async () => {
    expect(await refusal('run --method sora,SoRA --out @out')).toMatch(/'sora' twice/);
  });
});

describe('the output folder', () => {
  it.each([
    ['run --out @adapter', /adapter holds an adapter; name another folder for the results, or add --force/],
    ['train --method lora --out @run', /run holds the results of a run; name another folder for the adapter/],
    [
      'train --method lora --out @notes',
      /notes holds other files \(1\.txt, 2\.txt, 3\.txt and 1 more\); name another folder/,
    ],
    ['run --out @notes', /notes holds other files/],
    ['export @adapter --format peft --out @adapter', /adapter holds an adapter; name another folder for the export/],
    ['export @adapter --format merged --out @base', /base holds a model; name another folder for the export/],
    ['train --method lora --out @notes/1.txt', /is a file; name a folder for the adapter/],
  ])('must not hold other files: %s', async (line, message) => {
    expect(await refusal(line)).toMatch(message);
    expect((await readdir(path('notes'))).sort()).toEqual(['1.txt', '2.txt', '3.txt', '4.txt']);
  });

  it('may hold anything with --force, which keeps files with other names', async () => {
    await mkdir(path('forced'));
    await writeFile(path('forced/notes.txt'), 'mine');
    const train = ['train', '--method', 'lora', ...task, '--out', path('forced'), '--force'];
    expect(await peftBench(train)).toMatchObject({ code: 0 });
    expect(await readFile(path('forced/notes.txt'), 'utf8')).toBe('mine');
  });
});
