import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { studyFromFlags } from '@peftjs/cli';
import { writeResult } from '@peftjs/cli/results';
import { Command } from 'commander';
import { expect, it, onTestFinished, vi } from 'vitest';
import { syntheticResults } from '../../../cli/test/synthetic-results.js';
import { addReportCommand, defaultWorkers, runStudyFromFlags } from './run.js';

it('starts one process per core, or one in all for a device, which processes would share', () => {
  const workers = (executor: string, backend: string): number =>
    defaultWorkers({ executor, backend, threads: 1, dtype: 'fp32' });
  expect(workers('compiled', 'cpu')).toBe(availableParallelism());
  expect(workers('eager', 'wasm')).toBe(availableParallelism());
  expect(workers('compiled', 'webgpu')).toBe(1);
  expect(workers('compiled', 'cuda')).toBe(1);
});

it('a learning rate cannot be given for a run that tunes them; train does not tune', async () => {
  const flags = { preset: 'standard', engine: 'compiled', backend: 'auto', out: 'mine', learningRate: 3e-4 };
  await expect(runStudyFromFlags(flags)).rejects.toThrow('--learning-rate: this study tunes the learning rate');
  expect((await studyFromFlags(flags)).study.protocol.learningRate).toBe(3e-4);
});

it("the reference is that of --reference, else the preset's", async () => {
  const referenceOf = async (flags: object) => {
    const run = { preset: 'quick', engine: 'compiled', backend: 'auto', out: 'mine', ...flags };
    return (await runStudyFromFlags(run)).study.reference;
  };
  expect(await referenceOf({})).toBe('lora');
  expect(await referenceOf({ reference: 'head' })).toBe('head');
});

it('a report shows its table on a terminal that does not know its size', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'peft-bench-report-'));
  const { isTTY, columns } = process.stderr;
  const write = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  onTestFinished(async () => {
    write.mockRestore();
    Object.assign(process.stderr, { isTTY, columns });
    await rm(folder, { recursive: true });
  });
  for (const result of syntheticResults({ tasks: ['uci-sentiment'], seeds: 1 })) await writeResult(folder, result);
  Object.assign(process.stderr, { isTTY: true, columns: 0 });
  const program = new Command();
  addReportCommand(program);
  await program.parseAsync(['report', folder], { from: 'user' });
  expect(write.mock.calls.join('')).toMatch(/^method +accuracy/m);
});
