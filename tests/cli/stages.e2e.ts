import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { memoryStorage, type InputBatch } from '@peftjs/core';
import { planRun } from '../../packages/cli/src/run/plan-run.js';
import { studyFromFlags } from '../../packages/cli/src/commands/flags.js';
import { planTrials } from '../../packages/cli/src/study/trials.js';
import type { DoneTrial } from '../../packages/cli/src/results/schema.js';
import {
  noCheckpoints,
  readCheckpoint,
  writeCheckpoint,
  type TrialCheckpoint,
  type TrialCheckpoints,
} from '../../packages/cli/src/run/recorder.js';
import { measureTask } from '../../packages/cli/src/run/measure.js';
import { trialPreparer } from '../../packages/cli/src/run/prepare.js';
import { runTrial } from '../../packages/cli/src/run/trial.js';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { bertFolder } from '../models/bert-tiny.js';
import type { Ended } from './command.js';
import { peftBench } from './in-process.js';
import { numbersOf, resultsIn } from './results.js';

const folder = temporaryFolder();
const levels = [0, 6, 12];
const stages = { levels, stageEpochs: 1, memorizationRows: 24 };
const epochs = 2;

beforeAll(async () => {
  const row = (index: number): string =>
    `${index % 2 ? 'good' : 'bad'}\ta ${index % 2 ? 'cat' : 'dog'} is number ${index}`;
  const rows = (count: number): string =>
    ['label\ttext', ...Array.from({ length: count }, (_, index) => row(index))].join('\n');
  await writeFile(join(folder, 'train.tsv'), rows(88));
  await writeFile(join(folder, 'dev.tsv'), rows(16));
});

/** Runs a study with these arms on the files, on a tiny BERT. */
async function run(name: string, methods: object, ...more: string[]): Promise<Ended> {
  const config = join(folder, `${name}.json`);
  await writeFile(config, JSON.stringify({ methods, protocol: { batchSize: 8, learningRate: 0.01 } }));
  const data = ['--model', bertFolder, '--train', join(folder, 'train.tsv'), '--dev', join(folder, 'dev.tsv')];
  const flags = ['--preset', 'smoke', '--config', config, ...data, '--out', join(folder, name)];
  return peftBench(['run', ...flags, ...more]);
}

describe('an arm in stages', () => {
  const arms = {
    head: {},
    soft: { method: 'sora', options: { r: 4 }, learningRates: { gate: 0.05 }, stages: { ...stages, epochs } },
  };
  let ended: Ended;
  let trial: DoneTrial;
  beforeAll(async () => {
    ended = await run('study', arms);
    const results = await resultsIn<DoneTrial>(join(folder, 'study'));
    trial = results.find(({ arm }) => arm === 'soft') ?? expect.fail(ended.stderr);
  });

  it('is trained together with others, without a budget', () => {
    expect(ended.code).toBe(0);
    expect(trial).toMatchObject({ method: 'sora', status: 'done', budget: { requested: null } });
    expect(trial.protocol).toMatchObject({ epochs, stages });
  });

  it('records its score after each stage, as ranks are pruned', () => {
    const records = trial.stages ?? [];
    expect(records.map(({ stage, level }) => [stage, level])).toEqual([...levels.entries()]);
    const [first] = records;
    expect(first).toMatchObject({ sparsity: 0, memorization: 100, generalization: 100 });
    for (const { ranks, sparsity, gates, trainMetric, devMetric, memorization, generalization } of records) {
      const alive = Object.values(ranks).reduce((sum, rank) => sum + rank, 0);
      expect(sparsity).toBeCloseTo(1 - alive / gates, 12);
      expect(memorization).toBeCloseTo((100 * trainMetric) / (first?.trainMetric ?? NaN), 10);
      expect(generalization).toBeCloseTo((100 * devMetric) / (first?.devMetric ?? NaN), 10);
    }
    const sparsity = records.map((record) => record.sparsity);
    expect(sparsity[1]).toBeGreaterThan(0);
    expect(sparsity[2]).toBeGreaterThan(sparsity[1] ?? NaN);
  });

  it('has the numbers of the last stage, and a curve through all of them', () => {
    const last = trial.stages?.at(-1);
    expect(trial.metrics.accuracy).toBe(last?.devMetric);
    expect(trial.ranks).toEqual(last?.ranks);
    expect(trial.parameters.stored).toBe(last?.storedParameters);
    expect(trial.methodConfig.sparseLambda).toBe(levels[2]);
    const perEpoch = Math.ceil((trial.protocol.data.rows.train ?? NaN) / 8);
    expect(trial.history.map(({ step }) => step)).toEqual(Array.from({ length: 4 * perEpoch }, (_, step) => step + 1));
    expect(trial.history.at(-1)?.metrics?.accuracy).toBe(last?.selectionMetric);
    expect(trial.selection.step).toBe(4 * perEpoch);
  });

  it('is in the report, with its curves and its table', async () => {
    const page = await readFile(join(folder, 'study', 'report.html'), 'utf8');
    expect(page).toContain('Memorization and generalization');
    const markdown = await readFile(join(folder, 'study', 'report.md'), 'utf8');
    expect(markdown).toMatch(/\| stage \| level \|/);
  });

  it('is saved by train in the state of the last stage', async () => {
    const config = join(folder, 'study.json');
    const data = ['--train', join(folder, 'train.tsv'), '--dev', join(folder, 'dev.tsv'), '--model', bertFolder];
    const adapter = join(folder, 'adapter');
    const flags = ['--preset', 'smoke', '--config', config, ...data, '--method', 'soft', '--out', adapter];
    const { code, stderr } = await peftBench(['train', ...flags]);
    expect(stderr).toContain(`saved to ${adapter}`);
    expect(code).toBe(0);
    const saved = JSON.parse(await readFile(join(adapter, 'adapter_config.json'), 'utf8')) as {
      rank_pattern: Record<string, number>;
    };
    const alive = Object.values(trial.ranks).filter((rank) => rank > 0);
    expect(Object.values(saved.rank_pattern).sort()).toEqual(alive.sort());
  });
});

describe('a trial in stages that resumes from its checkpoint', () => {
  it('ends with the same bits as an uninterrupted one, from early or late in any stage', async () => {
    const file = (name: string): string => join(folder, name);
    const data = { train: file('train.tsv'), dev: file('dev.tsv') };
    const flags = { preset: 'smoke', model: bertFolder, engine: 'compiled', backend: 'auto', dtype: 'fp32', ...data };
    const options = { r: 4, compactEvery: 1, loraDropout: 0.1 };
    const methods = { sora: { options, learningRates: { gate: 0.05 }, stages: { ...stages, epochs } } };
    const protocol = { batchSize: 8, learningRate: 0.01, rows: 48 };
    const { plan } = await planRun(await studyFromFlags(flags, { methods, protocol }));
    const trial = planTrials(plan)[0] ?? expect.fail('no trial');
    const prepared = await trialPreparer()(trial);
    const kept: TrialCheckpoint[] = [];
    const keeping: TrialCheckpoints = {
      isDue: (step) => step === 2 || step === 5,
      write: (checkpoint) => Promise.resolve(void kept.push(checkpoint)),
      read: () => Promise.resolve(null),
    };
    const undisturbed = numbersOf((await runTrial(trial, prepared)).result);
    expect(numbersOf((await runTrial(trial, prepared, { checkpoints: keeping })).result)).toEqual(undisturbed);
    const placeOf = ({ stages: done, training }: TrialCheckpoint): string =>
      `stage ${done?.length}, step ${training.step}`;
    expect(kept.map(placeOf)).toEqual(
      [0, 1, 2].flatMap((stage) => [`stage ${stage}, step 2`, `stage ${stage}, step 5`]),
    );
    for (const checkpoint of kept.filter((_, index) => [0, 3, 4].includes(index))) {
      const storage = memoryStorage();
      await writeCheckpoint('c', trial.id, checkpoint, storage);
      const checkpoints = { ...noCheckpoints, read: () => readCheckpoint('c', trial.id, storage) };
      const { result } = await runTrial(trial, prepared, { checkpoints });
      expect(numbersOf(result), placeOf(checkpoint)).toEqual(undisturbed);
    }
  });
});

describe('the plan of a trial in stages', () => {
  it('measures its first stage, and counts the steps and the evaluated rows of all', async () => {
    const data = { train: join(folder, 'train.tsv'), dev: join(folder, 'dev.tsv') };
    const flags = { preset: 'smoke', model: bertFolder, engine: 'compiled', backend: 'auto', dtype: 'fp32', ...data };
    const measured = async (of: readonly number[]) => {
      const methods = { sora: { options: { r: 4 }, stages: { ...stages, levels: of, epochs } } };
      const { plan } = await planRun(await studyFromFlags(flags, { methods, protocol: { batchSize: 8 } }));
      const trial = planTrials(plan)[0] ?? expect.fail('no trial');
      const prepared = await trialPreparer()(trial);
      let reads = 0;
      const counted = (batch: InputBatch): InputBatch => ({ ...batch, get inputs() { return reads++, batch.inputs; } }); // oxfmt-ignore
      const dev = { ...prepared.dev, batches: prepared.dev.batches.map(counted) };
      const { trialSeconds, compileSeconds, stepMedianMs, rows } = await measureTask(trial, { ...prepared, dev });
      const { train, selection, dev: reported } = prepared.rows;
      const steps = prepared.train.batchesPerEpoch * (epochs + of.length - 1);
      const judged =
        (trial.protocol.evaluations + of.length) * selection +
        (2 + of.length) * reported +
        of.length * Math.min(train, stages.memorizationRows);
      expect(((trialSeconds - compileSeconds) * 1000) / stepMedianMs).toBeCloseTo(steps + judged / rows / 2, 6);
      return reads;
    };
    expect(await measured(levels)).toBe(await measured([0]));
  });
});

describe('peft-bench exits with 2 and prints one clear line for', () => {
  it.each<[string, object, RegExp]>([
    ['no levels', { sora: { stages: { levels: [] } } }, /methods\.sora\.stages\.levels' is \[\]; expected >=1/],
    ['a negative level', { sora: { stages: { levels: [0, -1] } } }, /stages\.levels\.1' is -1; expected >=0/],
    [
      'a budget and stages',
      { sora: { options: { budget: 900 }, stages: { ...stages, epochs } } },
      /a budget \(here 900\) sets its own levels/,
    ],
    [
      'a method without levels',
      { lora: { stages: { ...stages, epochs } } },
      /lora has no sparsity levels; leave out its stages/,
    ],
  ])('%s', async (title, methods, message) => {
    const name = title.replaceAll(' ', '-');
    const { code, stdout, stderr } = await run(name, methods);
    const lines = stderr
      .trim()
      .split('\n')
      .filter((line) => !line.startsWith('peft-bench: loading'));
    expect(lines).toEqual([expect.stringMatching(message)]);
    expect([code, stdout]).toEqual([2, '']);
    expect(await readdir(folder)).not.toContain(name);
  });
});
