import { join } from 'node:path';
import { DataError } from '@peftjs/core/method';
import { beforeAll, describe, expect, it } from 'vitest';
import { composeStudy } from '../../packages/cli/src/study/study.js';
import { numericVersions, trialOf, type Trial, type TrialProtocol } from '../../packages/cli/src/study/trials.js';
import { resolveMethod } from '../../packages/cli/src/registry/methods.js';
import {
  assertAsPlanned,
  dataFingerprint,
  plannedPreparer,
  prepareAsPlanned,
} from '../../packages/cli/src/run/as-planned.js';
import { trialPreparer } from '../../packages/cli/src/run/prepare.js';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { bertFolder } from '../models/bert-tiny.js';
import { tinyTask } from '../cli/tiny-task.js';

const folder = temporaryFolder();
let files: { train: string; dev: string };
let trial: Trial;
beforeAll(async () => {
  await tinyTask(folder, 20);
  files = { train: join(folder, 'train.tsv'), dev: join(folder, 'dev.tsv') };
  const study = composeStudy([
    { model: bertFolder, tasks: ['train'], methods: ['lora'], budgets: ['r=1'], seeds: 1, protocol: {} },
  ]);
  const settings = study.methods['lora'];
  if (!settings) throw new RangeError('the study has no arm');
  const { offer } = await resolveMethod('lora');
  trial = trialOf(
    {
      study,
      data: { kind: 'files', ...files },
      engine: { executor: 'compiled', backend: 'cpu', threads: 1, dtype: 'fp32' },
      versions: await numericVersions(),
      methodVersions: new Map([['lora', { [offer.packageName]: offer.version }]]),
      fingerprints: { model: '', data: {} },
      lengths: { train: { maxTokens: 24, epochs: 1 } },
      budgeted: new Set(['lora']),
      headOnly: new Set(),
    },
    { arm: 'lora', settings, task: 'train', budget: 'r=1', seed: 1 },
  );
});

const under = (change: Partial<TrialProtocol>): Trial => ({ ...trial, protocol: { ...trial.protocol, ...change } });

describe('trialPreparer', () => {
  it('keeps one network for all protocols', async () => {
    const prepare = trialPreparer();
    const [one, other] = [await prepare(trial), await prepare(under({ batchSize: 4 }))];
    const frozen = Object.keys(one.model.weights).filter((name) => !name.startsWith('classifier'));
    expect(frozen.length).toBeGreaterThan(10);
    for (const name of frozen) expect(other.model.weights[name]).toBe(one.model.weights[name]);
  });

  it('only keeps the rows of the last four', async () => {
    const prepare = trialPreparer();
    const first = await prepare(trial);
    for (const batchSize of [1, 2, 3]) await prepare(under({ batchSize }));
    expect((await prepare(trial)).dev).toBe(first.dev); // this makes it the newest of four
    for (const batchSize of [4, 5, 6, 7]) await prepare(under({ batchSize }));
    expect((await prepare(trial)).dev).not.toBe(first.dev);
  });
});

it('a trial whose model or rows have changed since it was planned does not run', async () => {
  const prepared = await trialPreparer()(trial);
  const { fingerprint: model } = prepared.model;
  const data = dataFingerprint(prepared.task, prepared.model, trial.protocol);
  const check = (fingerprints: Trial['fingerprints']) => () => {
    assertAsPlanned({ ...trial, fingerprints }, prepared);
  };
  expect(check({ model, data })).not.toThrow();
  expect(check({ model: 'other', data })).toThrow(/the files of the model .* have changed since the run was planned/);
  expect(check({ model, data: 'other' })).toThrow(/the rows of train have changed since the run was planned/);
});

describe('plannedPreparer', () => {
  it('prepares a refused trial once, and once more if the first time used what was read for an earlier one', async () => {
    const prepared = await trialPreparer()(trial);
    const fingerprints = {
      model: prepared.model.fingerprint,
      data: dataFingerprint(prepared.task, prepared.model, trial.protocol),
    };
    const reads: string[] = [];
    let opened = 0;
    const prepare = plannedPreparer(() => {
      const preparer = ++opened;
      return ({ id }) => {
        reads.push(`${id} with ${preparer}`);
        return Promise.resolve(prepared);
      };
    });
    const at = { model: trial.model, data: trial.data };
    const refused = { ...trial, id: 'refused', fingerprints: { ...fingerprints, model: 'other' } };
    await expect(prepare(refused, at)).rejects.toThrow('differ from those where the run was planned');
    expect(reads.splice(0)).toEqual(['refused with 1']);
    await prepare({ ...trial, id: 'good', fingerprints }, at);
    await expect(prepare(refused, at)).rejects.toThrow('differ from those where the run was planned');
    expect(reads).toEqual(['good with 2', 'refused with 2', 'refused with 3']);
  });
});

describe('prepareAsPlanned', () => {
  it('does not quote the content of a file that is not data', async () => {
    const prepare = (): Promise<never> => Promise.reject(new DataError("line 1: expected a label, got 'root:x:0:0'"));
    const refusal = await prepareAsPlanned(trial, { model: bertFolder, data: trial.data }, prepare).catch(
      (error: unknown) => error as Error,
    );
    expect(refusal).toMatchObject({ message: expect.stringContaining('cannot be read here') as string });
    expect(refusal).not.toMatchObject({ message: expect.stringContaining('root') as string });
  });
});
