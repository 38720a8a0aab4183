import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { memoryStorage, onWarning } from '@peftjs/core';
import { planRun } from '../../packages/cli/src/run/plan-run.js';
import { studyFromFlags } from '../../packages/cli/src/commands/flags.js';
import { planTrials, type Trial } from '../../packages/cli/src/study/trials.js';
import type { DoneTrial } from '../../packages/cli/src/results/schema.js';
import { checkpointPath } from '../../packages/cli/src/results/folder.js';
import { noCheckpoints, trialCheckpoints, type TrialCheckpoints } from '../../packages/cli/src/run/recorder.js';
import { trialPreparer } from '../../packages/cli/src/run/prepare.js';
import { runTrial } from '../../packages/cli/src/run/trial.js';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { bertFolder } from '../models/bert-tiny.js';
import { numbersOf } from './results.js';

/** Methods and options with different kinds of state between two steps. */
const methods = {
  lora: { options: { loraDropout: 0.2 } },
  adalora: { options: { compact: true } },
  sora: { options: { compactEvery: 1, loraDropout: 0.1 }, tolerance: 0.01 },
};
/** Initial values that are computed from data or weights, and computed again on resuming. */
const starts = ['eva', 'lora_ga', 'pissa'];

const folder = temporaryFolder();
let trials: readonly Trial[] = [];
let lora: Trial;
/** An uninterrupted run of `lora`, and the content of two of its checkpoints. */
let undisturbed: DoneTrial;
let atStep2: Uint8Array;
let good: Uint8Array;
const warnings: string[] = [];
const prepare = trialPreparer();

beforeAll(() => onWarning((message) => warnings.push(message)));
beforeAll(async () => {
  const row = (index: number): string =>
    `${index % 2 ? 'good' : 'bad'}\ta ${index % 2 ? 'cat' : 'dog'} is number ${index}`;
  const file = async (name: string, count: number): Promise<string> => {
    const path = join(folder, name);
    await writeFile(path, ['label\ttext', ...Array.from({ length: count }, (_, index) => row(index))].join('\n'));
    return path;
  };
  const flags = {
    preset: 'smoke',
    model: bertFolder,
    budget: 'r=2',
    engine: 'compiled',
    backend: 'auto',
    dtype: 'fp32',
  };
  const data = { train: await file('train.tsv', 88), dev: await file('dev.tsv', 16) };
  const planned = async (chosen: Record<string, object>): Promise<readonly Trial[]> =>
    planTrials(
      (await planRun(await studyFromFlags({ ...flags, ...data }, { methods: chosen, protocol: { batchSize: 8 } })))
        .plan,
    );
  trials = await planned(methods);
  for (const initLoraWeights of starts) {
    trials = [...trials, ...(await planned({ lora: { options: { initLoraWeights } } }))];
  }
  lora = trialNamed('lora');
  const { checkpoints, kept } = keeping(lora.id, [2, 10]);
  undisturbed = await run(lora, checkpoints);
  [atStep2, good] = [...kept.values()] as [Uint8Array, Uint8Array];
});

async function run(trial: Trial, checkpoints?: TrialCheckpoints): Promise<DoneTrial> {
  return (await runTrial(trial, await prepare(trial), checkpoints && { checkpoints })).result;
}

/** All checkpoints of a trial at certain steps: the content of the file, by step. */
function keeping(
  id: string,
  steps: readonly number[],
): { checkpoints: TrialCheckpoints; kept: Map<number, Uint8Array> } {
  const storage = memoryStorage();
  const inner = trialCheckpoints(id, { folder: 'checkpoints', storage });
  const kept = new Map<number, Uint8Array>();
  const write: TrialCheckpoints['write'] = async (checkpoint) => {
    await inner.write(checkpoint);
    kept.set(checkpoint.training.step, await storage.read(checkpointPath('checkpoints', id)));
  };
  return { checkpoints: { ...inner, isDue: (step) => steps.includes(step), write }, kept };
}

/** A checkpoint folder in memory with one file. */
function holding(id: string, bytes: Uint8Array): TrialCheckpoints {
  const storage = memoryStorage(new Map([[checkpointPath('checkpoints', id), bytes]]));
  return trialCheckpoints(id, { folder: 'checkpoints', storage });
}

function trialNamed(method: string, start?: string): Trial {
  const wanted = (trial: Trial): boolean =>
    trial.method === method && (trial.settings.options as { initLoraWeights?: string }).initLoraWeights === start;
  return trials.find(wanted) ?? expect.fail(`no trial of ${method}`);
}

describe('a trial that resumes from its checkpoint', () => {
  const secondEpoch = 12;
  const lastButOne = 19; // after ranks are chosen and compacted, and checkpoints evaluated
  const cases = [
    // Their ranks change from step to step.
    ...['adalora', 'sora'].map((method) => ({ method, start: undefined, steps: [2, secondEpoch, lastButOne] })),
    ...[undefined, ...starts].map((start) => ({ method: 'lora', start, steps: [secondEpoch] })),
  ];
  it.each(cases)('ends with the same bits as an uninterrupted one: $method $start', async (given) => {
    const trial = trialNamed(given.method, given.start);
    const expected = numbersOf(await run(trial));
    const { checkpoints, kept } = keeping(trial.id, given.steps);
    expect(numbersOf(await run(trial, checkpoints))).toEqual(expected);
    expect([...kept.keys()]).toEqual(given.steps);
    for (const [step, bytes] of kept) {
      const resumed = await run(trial, holding(trial.id, bytes));
      expect(numbersOf(resumed), `from step ${step}`).toEqual(expected);
    }
    expect(warnings.filter((warning) => warning.includes(trial.id))).toEqual([]);
  });

  it('adds up the time, and keeps the first date and the highest memory', async () => {
    const checkpoints = holding(lora.id, atStep2);
    const { training, record } = (await checkpoints.read()) ?? expect.fail('no checkpoint');
    const spent = { ...record, startedAt: '2020-02-02T00:00:00.000Z', milliseconds: 5e6, peakRssBytes: 2 ** 50 };
    const before = { training: { ...training, compileMs: 3e6 }, record: spent };
    const { time, memory, ...dates } = await run(lora, { ...checkpoints, read: () => Promise.resolve(before) });
    expect(time.totalSeconds).toBeGreaterThan(5e3);
    expect(time.compileSeconds).toBeGreaterThan(3e3);
    expect(memory.peakRssBytes).toBe(2 ** 50);
    expect(dates.startedAt).toBe(spent.startedAt);
    expect(Date.parse(dates.finishedAt)).toBeGreaterThan(Date.parse(spent.startedAt) + 5e6);
  });
});

describe('an unusable checkpoint', () => {
  const flipped = (at: number) => () => good.map((byte, index) => (index === good.length + at ? byte ^ 1 : byte));
  const renamed = (from: string, to: string) => (): Uint8Array => {
    const copy = Buffer.from(good);
    copy.write(to, copy.indexOf(from));
    return new Uint8Array(copy);
  };
  const broken: Record<string, [() => Uint8Array, RegExp]> = {
    'an empty file': [() => new Uint8Array(), /is not a checkpoint/],
    'half a file': [() => good.slice(0, good.length / 2), /is not a checkpoint/],
    'another kind of file': [() => new TextEncoder().encode('not tensors at all'), /is not a checkpoint/],
    'one flipped bit in a tensor': [flipped(-9), /is damaged: its content does not match its hash/],
    'another layout': [renamed('peftjs-trial-1', 'peftjs-trial-0'), /expected a checkpoint of layout peftjs-trial-1/],
  };
  it.each(Object.entries(broken))('is no checkpoint, with one warning: %s', async (_, [content, reason]) => {
    warnings.length = 0;
    expect(await holding(lora.id, content()).read()).toBeNull();
    expect(warnings).toEqual([expect.stringMatching(reason)]);
    expect(warnings[0]).toMatch(/checkpoints\/.*; the trial starts from the beginning$/);
  });

  it('is no checkpoint, with one warning: one of another trial', async () => {
    warnings.length = 0;
    expect(await holding(trialNamed('adalora').id, good).read()).toBeNull();
    expect(warnings).toEqual([expect.stringContaining(`is the checkpoint of another trial, ${lora.id}`)]);
  });

  it('lets the trial start from the beginning', async () => {
    expect(numbersOf(await run(lora, holding(lora.id, flipped(-9)())))).toEqual(numbersOf(undisturbed));
  });

  it('is ignored with one warning: one with other tensors', async () => {
    const { training, record } = (await holding(lora.id, good).read()) ?? expect.fail('no checkpoint');
    const other = { training: { ...training, adapter: {} }, record };
    warnings.length = 0;
    const result = await run(lora, { ...noCheckpoints, read: () => Promise.resolve(other) });
    expect(numbersOf(result)).toEqual(numbersOf(undisturbed));
    expect(warnings).toEqual([
      expect.stringMatching(/its checkpoint does not fit \(.+\); the trial starts from the beginning$/),
    ]);
  });

  it('does not end a trial when it cannot be written, and gives one warning', async () => {
    warnings.length = 0;
    const file = join(folder, 'train.tsv');
    const checkpoints = { ...trialCheckpoints(lora.id, { folder: file }), isDue: () => true };
    expect(numbersOf(await run(lora, checkpoints))).toEqual(numbersOf(undisturbed));
    expect(warnings).toEqual([
      expect.stringMatching(/^cannot write .*: E[A-Z]+: .*; the trial continues without this checkpoint$/),
    ]);
    expect(await readdir(folder)).toEqual(['dev.tsv', 'train.tsv']);
  });
});
