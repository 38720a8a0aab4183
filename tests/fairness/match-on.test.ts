import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { onWarning } from '@peftjs/core';
import { beforeAll, describe, expect, it } from 'vitest';
import { planRun } from '../../packages/cli/src/run/plan-run.js';
import { studyFromFlags } from '../../packages/cli/src/commands/flags.js';
import { planTrials } from '../../packages/cli/src/study/trials.js';
import { planTuning } from '../../packages/bench/src/run/tuning.js';
import type { DoneTrial } from '../../packages/cli/src/results/schema.js';
import { trialPreparer, type PreparedTrial } from '../../packages/cli/src/run/prepare.js';
import { runTrial } from '../../packages/cli/src/run/trial.js';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { bertFolder } from '../models/bert-tiny.js';

const folder = temporaryFolder();
const rows = Array.from({ length: 32 }, (_, row) => (row % 2 ? `1\tso good ${row}` : `0\tso bad ${row}`));

/** A study on a random BERT with a few rows. */
async function planned(study: object) {
  const config = join(folder, 'study.json');
  await writeFile(config, JSON.stringify(study));
  const files = { train: join(folder, 'rows.tsv'), dev: join(folder, 'rows.tsv') };
  const engine = { engine: 'compiled', backend: 'cpu', dtype: 'fp32' };
  return (await planRun(await studyFromFlags({ preset: 'smoke', config, model: bertFolder, ...files, ...engine })))
    .plan;
}

beforeAll(async () => {
  await writeFile(join(folder, 'rows.tsv'), ['label\ttext', ...rows].join('\n'));
});

describe('a budget', () => {
  it.each(['stored', 'trained'] as const)('is compared with %s parameters if the protocol says so', async (matchOn) => {
    const study = {
      methods: ['lora', 'sora'],
      budgets: ['r=4'],
      seeds: 1,
      protocol: { matchOn, epochs: 5, batchSize: 8 },
    };
    const prepare = trialPreparer();
    const results: DoneTrial[] = [];
    for (const trial of planTrials(await planned(study))) {
      results.push((await runTrial(trial, await prepare(trial))).result);
    }
    for (const { arm, budget, parameters } of results) {
      const counted = matchOn === 'stored' ? parameters.stored : parameters.trainableAtStart;
      const distance = Math.abs(counted / (budget.requested ?? NaN) - 1);
      expect(budget, arm).toMatchObject({ matchedOn: matchOn, met: distance <= budget.tolerance });
      if (arm === 'lora') expect(budget.met).toBe(true);
    }
  });
});

describe('a rank as a budget', () => {
  it.each([
    ['one size for all arms', 'all-linear', []],
    [
      'several sizes if arms adapt different modules',
      ['query'],
      [expect.stringMatching(/^--budget r=2 means \S+ to /)],
    ],
  ])('means %s', async (_, targetModules, expected) => {
    const warnings: string[] = [];
    const restore = onWarning((message) => warnings.push(message));
    const options = { targetModules: 'all-linear' };
    const methods = { lora: { options }, some: { method: 'lora', options: { targetModules } } };
    await planned({ methods, budgets: ['r=2'] }).finally(restore);
    expect(warnings.filter((text) => text.includes('--budget'))).toEqual(expected);
  });
});

describe('a tuning trial', () => {
  it('never reads the reported rows', async () => {
    const plan = await planned({ methods: ['lora'], budgets: ['r=2'], tuning: { learningRates: [0.01] } });
    const [trial = expect.fail()] = planTuning(plan).flatMap(({ rates }) => rates.flatMap(({ trials }) => trials));
    const prepared = await trialPreparer()(trial);
    const hidden: PreparedTrial = {
      ...prepared,
      dev: {
        ...prepared.dev,
        get batches(): never {
          throw new RangeError('the reported rows were asked for');
        },
      },
    };
    const { result } = await runTrial(trial, hidden);
    expect(result).toMatchObject({ judgedOn: 'selection', seed: 1001 });
    const reported = { ...trial, judgedOn: 'dev' as const };
    await expect(runTrial(reported, hidden)).rejects.toThrow('the reported rows were asked for');
  });
});
