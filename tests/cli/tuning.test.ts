import { readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { bertFolder } from '../models/bert-tiny.js';
import type { Ended } from './command.js';
import { peftBench } from './in-process.js';
import { resultsIn } from './results.js';

interface Tried {
  readonly learningRate: number;
  readonly score: number | null;
}
interface Result {
  readonly id: string;
  readonly arm: string;
  readonly seed: number;
  readonly status: string;
  readonly judgedOn: string;
  readonly learningRate: number;
  readonly metrics: { readonly accuracy: number };
  readonly selection: { readonly step: number };
  readonly history: readonly { readonly step: number; readonly metrics?: { readonly accuracy: number } }[];
  readonly tuning: { readonly tried: readonly Tried[]; readonly chosen: number | null } | null;
  readonly error?: { readonly message: string };
}

const folder = temporaryFolder();
const rows = (from: number): string =>
  [
    'label\ttext',
    ...Array.from({ length: 40 }, (_, n) => (n % 2 ? `1\tso good ${n + from}` : `0\tso bad ${n + from}`)),
  ].join('\n');
const study = {
  model: bertFolder,
  methods: { head: {}, lora: {}, wild: { method: 'lora', tuning: { learningRates: [1e39, 1e40] } } },
  budgets: ['r=2'],
  seeds: 1,
  tuning: { learningRates: [1e39, 0.01] },
  protocol: { epochs: 1, batchSize: 8, maxTokens: 16 },
};

describe('peft-bench run of a study that tunes', () => {
  let out = '';
  let args: string[] = [];
  let first: Ended;
  beforeAll(async () => {
    out = join(folder, 'out');
    const file = (name: string): string => join(folder, name);
    await writeFile(file('train.tsv'), rows(0));
    await writeFile(file('dev.tsv'), rows(40));
    await writeFile(file('study.json'), JSON.stringify(study));
    args = ['run', '--preset', 'smoke', '--config', file('study.json'), '--json', '--out', out];
    args.push('--train', file('train.tsv'), '--dev', file('dev.tsv'));
    first = await peftBench(args);
  }, 120_000);

  it('tries every rate on the selection rows, not on the reported rows', async () => {
    const tried = await resultsIn<Result>(join(out, 'tuning'));
    expect(tried.map(({ arm, learningRate, status }) => [arm, learningRate, status])).toEqual(
      expect.arrayContaining([
        ['lora', 0.01, 'done'],
        ['lora', 1e39, 'failed'],
        ['wild', 1e39, 'failed'],
        ['wild', 1e40, 'failed'],
      ]),
    );
    expect(tried).toHaveLength(4);
    const [good] = tried.filter(({ status }) => status === 'done');
    expect(good).toMatchObject({ seed: 1001, judgedOn: 'selection', tuning: null });
    const selected = good?.history.find(({ step }) => step === good.selection.step);
    expect(good?.metrics).toEqual(selected?.metrics);
  });

  it('reports with the chosen rate, and records in each result and in tuning.json what was tried', async () => {
    const results = await resultsIn<Result>(out);
    expect(results.map(({ arm, status }) => `${arm} ${status}`).sort()).toEqual([
      'head done',
      'lora done',
      'wild failed',
    ]);
    const lora = results.find(({ arm }) => arm === 'lora');
    expect(lora).toMatchObject({ learningRate: 0.01, judgedOn: 'dev', seed: 1, tuning: { chosen: 0.01 } });
    expect(lora?.tuning?.tried).toMatchObject([{ learningRate: 0.01 }, { learningRate: 1e39, score: null }]);
    expect(results.find(({ arm }) => arm === 'head')?.tuning).toBeNull();
    const { arms } = JSON.parse(await readFile(join(out, 'tuning.json'), 'utf8')) as {
      arms: (Tried & { arm: string })[];
    };
    expect(arms).toMatchObject([
      { arm: 'lora', tasks: [basename(folder)], budget: 'r=2', seeds: [1001], metric: 'accuracy', chosen: 0.01 },
      { arm: 'wild', chosen: null },
    ]);
  });

  it('fails an arm that cannot be trained with any rate, and names the rates', async () => {
    const wild = (await resultsIn<Result>(out)).find(({ arm }) => arm === 'wild');
    expect(wild?.error?.message).toMatch(/^all learning rates \(1e\+39, 1e\+40\) failed: .+/);
    expect(first.code).toBe(1);
    expect(await readFile(join(out, 'report.md'), 'utf8')).toContain('wild');
  });

  it('only runs failed trials when it is run again', async () => {
    const printed = (ended: Ended): string[] =>
      ended.stdout
        .trim()
        .split('\n')
        .map((line) => (JSON.parse(line) as Result).arm);
    expect(printed(first).sort()).toEqual(['head', 'lora', 'wild']);
    const dates = async () =>
      Object.fromEntries((await resultsIn<Result>(join(out, 'tuning'))).map((result) => [result.id, result]));
    const before = await dates();
    expect(printed(await peftBench(args))).toEqual(['wild']);
    const after = await dates();
    for (const [id, result] of Object.entries(before)) {
      if (result.status === 'done') expect(after[id]).toEqual(result);
    }
  }, 60_000);
});
