import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { peftBench } from './in-process.js';

const folder = temporaryFolder();
beforeAll(async () => {
  const write = async (file: string, rows: readonly (readonly string[])[]): Promise<void> => {
    await mkdir(join(folder, 'data', file, '..'), { recursive: true });
    await writeFile(join(folder, 'data', file), rows.map((row) => `${row.join('\t')}\n`).join(''));
  };
  const kinds = ['entailment', 'neutral', 'contradiction'];
  const header = ['sentence1', 'sentence2', 'gold_label'];
  const pairs = (count: number) =>
    Array.from({ length: count }, (_, row) => [`a man walks ${row}`, `someone moves ${row % 3}`, kinds[row % 3] ?? '']);
  for (const [name, count] of Object.entries({ train: 24, dev_matched: 8, dev_mismatched: 10 })) {
    await write(`MNLI/${name}.tsv`, [header, ...pairs(count)]);
  }
  const sentences = (count: number) =>
    Array.from({ length: count }, (_, row) => [
      'x1',
      String(row % 2),
      row % 2 ? '' : '*',
      `the book number ${row} falls`,
    ]);
  await write('CoLA/train.tsv', sentences(24));
  await write('CoLA/dev.tsv', sentences(9));
  for (const name of ['train', 'dev'])
    await write(`own/${name}.tsv`, [
      ['text', 'label'],
      ['a', 'x'],
      ['b', 'y'],
    ]);
});

async function run(out: string, ...flags: string[]) {
  const shared = [
    '--preset',
    'smoke',
    '--data',
    join(folder, 'data'),
    '--method',
    'head',
    '--seeds',
    '1',
    '--epochs',
    '1',
  ];
  const ended = await peftBench(['run', ...shared, ...flags, '--out', join(folder, out)]);
  const files = ended.code === 0 ? await readdir(join(folder, out, 'results')) : [];
  const results = await Promise.all(
    files.map(async (file) => JSON.parse(await readFile(join(folder, out, 'results', file), 'utf8')) as Result),
  );
  return { ...ended, results: new Map(results.map((result) => [result.task, result])) };
}

interface Result {
  readonly task: string;
  readonly metrics: Record<string, number>;
  readonly id: string;
}

describe('peft-bench on a folder with the GLUE suite', () => {
  it('reads tasks from their published files, with their metrics, including the mismatched set of MNLI', async () => {
    const { code, results, stderr } = await run('official', '--task', 'cola,mnli');
    expect(code, stderr).toBe(0);
    expect(Object.keys(results.get('cola')?.metrics ?? {})).toEqual([
      'matthewsCorrelation',
      'expectedCalibrationError',
    ]);
    expect(Object.keys(results.get('mnli')?.metrics ?? {})).toEqual([
      ...['accuracy', 'expectedCalibrationError'],
      ...['accuracy.mismatched', 'expectedCalibrationError.mismatched'],
    ]);
  });

  it('only uses the tasks that a study file names', async () => {
    const study = join(folder, 'study.json');
    await writeFile(study, JSON.stringify({ tasks: ['cola'] }));
    const { code, results, stderr } = await run('named', '--config', study);
    expect(code, stderr).toBe(0);
    expect([...results.keys()]).toEqual(['cola']);
  });

  it('halves the development set on request, which is another trial', async () => {
    const { code, results, stderr } = await run('half', '--task', 'cola', '--split', 'half-dev');
    expect(code, stderr).toBe(0);
    const official = await run('official', '--task', 'cola');
    expect(results.get('cola')?.id).not.toBe(official.results.get('cola')?.id);
  });

  it.each([
    ['a task with missing files', ['--task', 'rte'], /RTE\/train\.tsv/],
    ['a half-dev split of a task without one', ['--task', 'own', '--split', 'half-dev'], /half-dev/],
  ])('says what is wrong with %s', async (_, flags, message) => {
    const { code, stderr } = await run('wrong', ...flags);
    expect(code).toBe(2);
    const lines = stderr
      .trim()
      .split('\n')
      .filter((line) => !line.includes(': loading '));
    expect(lines).toEqual([expect.stringMatching(message)]);
  });
});
