import { availableParallelism } from 'node:os';
import { describe, expect, it } from 'vitest';
import { engineFromFlags } from '../registry/executors.js';
import { defaultWorkers, runStudyFromFlags, studyFromFlags } from './flags.js';

it('starts one process per core, or one in all for a device, which processes would share', () => {
  const workers = (engine: string, backend: string): number =>
    defaultWorkers(engineFromFlags({ engine, backend, dtype: 'fp32' }));
  expect(workers('compiled', 'auto')).toBe(availableParallelism());
  expect(workers('eager', 'wasm')).toBe(availableParallelism());
  expect(workers('compiled', 'webgpu')).toBe(1);
  expect(workers('compiled', 'cuda')).toBe(1);
});

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

it("the reference is that of --reference, else the preset's", async () => {
  const referenceOf = async (flags: object) => {
    const run = { preset: 'quick', engine: 'compiled', backend: 'auto', out: 'mine', ...flags };
    return (await runStudyFromFlags(run)).study.reference;
  };
  expect(await referenceOf({})).toBe('lora');
  expect(await referenceOf({ reference: 'head' })).toBe('head');
});
