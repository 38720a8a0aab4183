import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { NUMERICS } from '@peftjs/core/runtime';
import { contextOf, smallStudy } from '../../../cli/test/studies.js';
import { syntheticTrial } from '../../../cli/test/synthetic-results.js';
import {
  type LoadedTask,
  describeCircumstances,
  planTrials,
  trialOf,
  type Trial,
  type TrialEvents,
  type TrialRunner,
} from '@peftjs/cli/trials';
import { openResults, type DoneTrial } from '@peftjs/cli/results';
import { runTrials, tune, withoutRetuned } from './run-trials.js';

const study = smallStudy();
const settings = study.methods['lora'];
if (!settings) throw new RangeError('the study has no arm');
const [first, second] = [1, 2].map((seed) =>
  trialOf(contextOf(study), { arm: 'lora', settings, task: 'mine', budget: 'r=1', seed }),
) as [Trial, Trial];
const mine = { source: 'made up', licence: 'none' } as LoadedTask;
const tasks = new Map([['mine', mine]]);
const done = (trial: Trial): DoneTrial => ({
  ...syntheticTrial({ task: 'uci-sentiment', method: 'lora', rank: 1, seed: trial.seed }),
  id: trial.id,
  model: trial.model,
  task: 'mine',
  protocol: describeCircumstances(
    trial,
    { task: mine, rows: { train: 9, selection: 3, dev: 3 } },
    { startedAt: new Date(), finishedAt: new Date() },
  ).protocol,
});

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'run-trials-'));
  vi.spyOn(process.stderr, 'write').mockReturnValue(true);
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(folder, { recursive: true });
});

/** Runs both trials: the first ends by `firstEnds`, the second succeeds. */
async function runBoth(firstEnds: (events: TrialEvents) => Promise<void> | void) {
  const runner: TrialRunner = {
    async run(_, events) {
      await firstEnds(events);
      await events.onDone(second, done(second));
    },
  };
  const { signal } = new AbortController();
  return runTrials(await openResults(folder), [first, second], { out: folder, runner, tasks, signal });
}

describe('runTrials', () => {
  it('records a result that cannot be written as a failed trial, and continues', async () => {
    const results = await runBoth((events) =>
      events.onDone(first, { ...done(first), metrics: { accuracy: Infinity } }),
    );
    expect(results).toMatchObject([
      {
        id: first.id,
        status: 'failed',
        error: {
          code: 'PEFT_DATA',
          message: expect.stringMatching(/^its result cannot be written: 'metrics/) as string,
        },
      },
      { id: second.id, status: 'done' },
    ]);
  });

  it('cuts long messages, and removes control characters', async () => {
    const message = `\u001b[2Jno\n${'x'.repeat(20_000)}`;
    const [failed] = await runBoth((events) => events.onFailed(first, { code: 'PEFT_TRAINING', message }));
    if (failed?.status !== 'failed') throw new RangeError('it has not failed');
    expect(failed.error.message).toMatch(/^\[2Jno x+…$/);
    expect(failed.error.message).toHaveLength(10_000);
  });

  it('accepts a failure without a code', async () => {
    const results = await runBoth((events) => events.onFailed(first, { code: '', message: '' }));
    expect(results.map(({ status }) => status)).toEqual(['failed', 'done']);
  });
});

describe('tune', () => {
  const plan = contextOf(smallStudy({ tuning: { learningRates: [0.01, 0.02], extensions: 1 } }));
  const started: (number | null)[][] = [];
  const runner: TrialRunner = {
    async run(trials, events) {
      started.push(trials.map(({ settings }) => settings.learningRate));
      for (const trial of trials) {
        const metrics = { accuracy: trial.settings.learningRate ?? NaN };
        await events.onDone(trial, { ...done(trial), metrics, versions: { numerics: NUMERICS } });
      }
    },
  };

  it('widens the grids after running them, and a rerun needs no trial', async () => {
    const run = { out: folder, runner, tasks, signal: new AbortController().signal };
    const [first, again] = [
      await tune(plan, await openResults(folder), run),
      await tune(plan, await openResults(folder), run),
    ];
    expect(started).toEqual([[0.01, 0.02], [0.04], [], []]);
    expect(first?.map(({ tried, chosen }) => [tried.length, chosen])).toEqual([[3, 0.04]]);
    expect(again).toEqual(first);
    expect(JSON.parse(await readFile(join(folder, 'tuning.json'), 'utf8'))).toEqual({ arms: first });
  });

  it('fails the trials of an arm that has lost a process, and a rerun tries again', async () => {
    const signal = new AbortController().signal;
    let hasRoom = false;
    const dying: TrialRunner = {
      async run(trials, events, ends) {
        const died = new Map([
          [0.01, 'no memory'],
          [0.02, 'killed'],
        ]);
        const deathOf = ({ settings: { learningRate } }: Trial): string | undefined =>
          hasRoom ? undefined : died.get(learningRate ?? NaN);
        const dies = (trial: Trial): boolean => deathOf(trial) !== undefined;
        for (const trial of trials.filter(dies))
          await events.onFailed(trial, { code: 'PEFT_WORKER', message: deathOf(trial) as string });
        await runner.run(
          trials.filter((trial) => !dies(trial)),
          events,
          ends,
        );
      },
    };
    const run = { out: folder, runner: dying, tasks, signal };
    const once = planTrials(plan, await tune(plan, await openResults(folder), run));
    const [failed] = await runTrials(await openResults(folder), once, run);
    expect(failed).toMatchObject({
      status: 'failed',
      error: {
        message: expect.stringMatching(
          /^no learning rate was chosen, .* \(0\.01, 0\.02\); .*: no memory; killed$/,
        ) as string,
      },
    });
    hasRoom = true;
    const tuned = await tune(plan, await openResults(folder), run);
    expect(tuned?.map(({ chosen }) => chosen)).toEqual([0.04]);
    const reported = await openResults(folder);
    const isKept = (): boolean => withoutRetuned(reported.all()).some(({ id }) => id === failed?.id);
    expect(isKept()).toBe(true);
    const [again] = await runTrials(reported, planTrials(plan, tuned), run);
    expect([again?.status, again?.id === failed?.id]).toEqual(['done', false]);
    expect(isKept()).toBe(false);
    if (!failed || !again) expect.fail('no results');
    const elsewhere = { ...again, protocol: { ...again.protocol, batchSize: 1 } };
    expect(withoutRetuned([failed, elsewhere])).toEqual([failed, elsewhere]);
  });

  it('chooses nothing if the run is stopped before every rate has a result', async () => {
    const stop = new AbortController();
    const stopping: TrialRunner = {
      async run([trial], events) {
        if (trial) await events.onDone(trial, done(trial));
        stop.abort();
      },
    };
    const run = { out: folder, runner: stopping, tasks, signal: stop.signal };
    expect(await tune(plan, await openResults(folder), run)).toBeUndefined();
    await expect(readFile(join(folder, 'tuning.json'))).rejects.toThrow('ENOENT');
  });
});
