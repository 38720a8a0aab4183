import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UnsupportedError } from '@peftjs/core/method';
import { NUMERICS } from '@peftjs/core/runtime';
import { writeSafetensors } from '@peftjs/safetensors';
import { beforeAll, describe, expect, it } from 'vitest';
import { planRun } from '../../packages/cli/src/run/plan-run.js';
import { studyFromFlags } from '../../packages/cli/src/commands/flags.js';
import { planTrials, type Trial } from '../../packages/cli/src/study/trials.js';
import type { StudyInput } from '../../packages/cli/src/study/study.js';
import type { DoneTrial } from '../../packages/cli/src/results/schema.js';
import { prepareAsPlanned } from '../../packages/cli/src/run/as-planned.js';
import { trialPreparer } from '../../packages/cli/src/run/prepare.js';
import { runTrial } from '../../packages/cli/src/run/trial.js';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { bertFolder } from '../models/bert-tiny.js';
import { peftBench } from './in-process.js';
import { resultsIn } from './results.js';
import { tinyTask } from './tiny-task.js';

/** Results from before the field `numerics` existed. */
const before = fileURLToPath(new URL('../../packages/cli/test/fixtures/format-1/results', import.meta.url));

const folder = temporaryFolder();
let task: readonly string[] = [];
beforeAll(async () => {
  task = await tinyTask(folder, 32);
});

/** The trials of a study with the task's files. */
async function planned(above: StudyInput): Promise<Trial[]> {
  const data = { train: join(folder, 'train.tsv'), dev: join(folder, 'dev.tsv') };
  const flags = { preset: 'smoke', model: bertFolder, engine: 'compiled', backend: 'auto', dtype: 'fp32', ...data };
  const { plan } = await planRun(await studyFromFlags(flags, above));
  return planTrials(plan);
}

describe('results with other numerics in the folder of a run', () => {
  it('stay as they are, and are neither resumed nor pooled, with one message', async () => {
    const out = join(folder, 'mixed');
    await cp(before, join(out, 'results'), { recursive: true });
    await mkdir(join(out, 'checkpoints'));
    await writeFile(join(out, 'checkpoints', 'some.safetensors'), writeSafetensors(new Map(), { format: 'old' }));
    const ran = await peftBench(['run', ...task, '--method', 'lora', '--out', out]);
    expect(ran.code, ran.stderr).toBe(0);
    const told = ran.stderr.split('\n').filter((line) => line.includes('numerics') && line.startsWith('peft-bench: '));
    expect(told).toEqual([
      `peft-bench: ${out} has 2 results of numerics 0, but this version computes numerics ${NUMERICS}: ` +
        'these are kept, but neither resumed nor pooled',
    ]);
    for (const file of await readdir(before)) {
      expect(await readFile(join(out, 'results', file))).toEqual(await readFile(join(before, file)));
    }
    expect(await readdir(join(out, 'checkpoints'))).toEqual(['some.safetensors']);
    const summary = await readFile(join(out, 'summary.json'), 'utf8');
    expect(JSON.parse(summary)).toMatchObject({
      rows: [{ arm: 'lora' }],
      notes: expect.arrayContaining([expect.stringMatching(/^2 results of numerics 0 are left out/)]) as string[],
    });
    const reported = await peftBench(['report', out]);
    expect(reported.stderr).toContain('2 results of numerics 0 are left out');
    expect(await readFile(join(out, 'summary.json'), 'utf8')).toBe(summary);
  });

  it('do not make a trial count as done', async () => {
    const out = join(folder, 'changed');
    const args = ['run', ...task, '--method', 'head', '--json', '--out', out];
    const first = JSON.parse((await peftBench(args)).stdout) as DoneTrial;
    expect(first.versions).toMatchObject({ numerics: NUMERICS });
    expect((await peftBench(args)).stdout).toBe('');
    const changed = { ...first, versions: { ...first.versions, numerics: NUMERICS + 1 } };
    await writeFile(join(out, 'results', `${first.id}.json`), JSON.stringify(changed));
    expect(JSON.parse((await peftBench(args)).stdout)).toMatchObject({ id: first.id });
    expect(await resultsIn(out)).toMatchObject([{ versions: { numerics: NUMERICS } }]);
  });

  it('are reported as usual if there are no others', async () => {
    const out = join(folder, 'old');
    await cp(before, join(out, 'results'), { recursive: true });
    const { code, stderr } = await peftBench(['report', out]);
    expect(code, stderr).toBe(0);
    expect(stderr).not.toContain('left out');
    expect(stderr).toMatch(/^adalora r=8 /m);
  });
});

it('a worker with other numerics refuses a trial, and says why', async () => {
  const [trial] = (await planned({ methods: ['head'] })) as [Trial];
  const { model, data, versions } = trial;
  const elsewhere = { ...trial, versions: { ...versions, numerics: NUMERICS + 1 } };
  const refusal = prepareAsPlanned(elsewhere, { model, data }, trialPreparer());
  await expect(refusal).rejects.toThrow(UnsupportedError);
  await expect(refusal).rejects.toThrow(`numerics is ${NUMERICS} here, but ${NUMERICS + 1} in the run`);
});

/**
 * For each arm: the loss of three steps, the objective of the last one, stored parameters and the reported accuracy.
 */
const pinned: Readonly<Record<string, readonly number[]>> = {
  head: [0.699888, 0.656215, 0.68119, 0.68119, 0, 0.5],
  lora: [0.699888, 0.654278, 0.67729, 0.67729, 768, 0.5],
  adalora: [0.699888, 0.656444, 0.680723, 16.959375, 768, 0.5],
  sora: [0.699888, 0.657972, 0.669771, 0.669771, 768, 0.5],
  'sora-paper': [0.699888, 0.656033, 0.674803, 0.674803, 768, 0.5],
};

it('the numbers of four methods are those of the current NUMERICS', async () => {
  const sora = { method: 'sora', tolerance: 0.01 };
  const paper = { ...sora, options: { variant: 'paper' } };
  const lora = { options: { loraDropout: 0.1 } };
  const adalora = { options: { loraAlpha: 8, orthRegWeight: 0.5 } };
  const methods = { head: {}, lora, adalora, sora, 'sora-paper': paper };
  const protocol = { batchSize: 8, epochs: 2, maxTokens: 16, learningRate: 0.005 };
  for (const trial of await planned({ methods, budgets: ['r=2'], protocol })) {
    const { history, parameters, metrics } = (await runTrial(trial, await trialPreparer()(trial))).result;
    const losses = [0, 3, 7].map((step) => history[step]?.loss);
    const found = [...losses, history[7]?.objective, parameters.stored, metrics.accuracy];
    const expected = pinned[trial.arm] ?? [];
    const isThere = (value: number, index: number): boolean =>
      Math.abs((found[index] ?? NaN) - value) < 1e-5 * Math.max(1, Math.abs(value));
    expect
      .soft(
        found.length === expected.length && expected.every(isThere),
        `${trial.arm} has ${found.join(', ')}; pinned is ${expected.join(', ')}. If you changed numbers on purpose, increment NUMERICS in ` +
          'packages/core/src/numerics.ts, so that older results are not pooled with new ones, and update these values',
      )
      .toBe(true);
  }
});

it('the mean of the stored parameters is over the steps, also for an arm without a budget', async () => {
  const methods = { sora: { options: { r: 4, sparseLambda: 40 }, budgets: [] } };
  const [trial] = (await planned({ methods, protocol: { batchSize: 8, epochs: 4, learningRate: 0.01 } })) as [Trial];
  const { history, parameters } = (await runTrial(trial, await trialPreparer()(trial))).result;
  const mean = history.reduce((sum, { stored }) => sum + stored, 0) / history.length;
  expect(history[0]?.stored).toBeGreaterThan(parameters.stored);
  expect(parameters.storedMean).toBeLessThan(parameters.trainableAtStart);
  expect(Math.abs(parameters.storedMean / mean - 1)).toBeLessThan(0.1); // an evaluated row has the count after its step
});
