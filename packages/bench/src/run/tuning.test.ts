import { describe, expect, it } from 'vitest';
import { ConfigError } from '@peftjs/core/method';
import { contextOf } from '../../../cli/test/studies.js';
import { failedTrial, syntheticTrial } from '../../../cli/test/synthetic-results.js';
import type { TrialResult } from '@peftjs/cli/results';
import { composeStudy, planTrials, type StudyInput, type TrialContext, type TunedArm } from '@peftjs/cli/trials';
import { chooseRates, countTuning, planTuning, widened, type Candidates } from './tuning.js';

const study: StudyInput = {
  model: 'model',
  tasks: ['a', 'b'],
  methods: { head: {}, lora: {}, hard: { method: 'sora', tuning: { learningRates: [0.3, 0.1] } } },
  budgets: ['r=2', 'r=4'],
  seeds: 2,
  tuning: { learningRates: [0.01, 0.02], budget: 'r=4' },
};
const context = (above: StudyInput = {}): TrialContext => contextOf(composeStudy([study, above]));

/** The tuning candidates of an arm on a task. */
function candidatesFor(of: TrialContext, arm: string, task: string): Candidates {
  return (
    planTuning(of).find((row) => row.arm === arm && row.tasks.includes(task)) ?? expect.fail(`${arm} is not tuned`)
  );
}

/** A score: one for all tasks and seeds, or one per trial; null for a failure. */
type Score = number | null | readonly number[];

/** The results of an arm's candidates, with one score per rate. */
function resultsOf({ rates }: Candidates, scores: readonly Score[], lowerIsBetter = false): TrialResult[] {
  return rates.flatMap(({ trials }, index) =>
    trials.map(({ id, seed, task }, position): TrialResult => {
      const trial = { ...syntheticTrial({ task, method: 'lora', rank: 4, seed }), id };
      const of = scores[index] ?? null;
      const score = typeof of === 'object' && of !== null ? of[position] : of;
      if (score == null) return failedTrial(trial, `the loss is NaN at rate ${index}`);
      return { ...trial, metrics: { accuracy: score }, selection: { ...trial.selection, lowerIsBetter } };
    }),
  );
}

describe('planTuning', () => {
  it('tries the same number of rates for every arm, at one budget, with unreported seeds and on the selection rows', () => {
    const rows = planTuning(context());
    expect(rows.map(({ arm, tasks, budget }) => [arm, tasks, budget])).toEqual([
      ['lora', ['a'], 'r=4'],
      ['hard', ['a'], 'r=4'],
      ['lora', ['b'], 'r=4'],
      ['hard', ['b'], 'r=4'],
    ]);
    expect(rows.map(({ rates }) => rates.map(({ learningRate }) => learningRate))).toEqual([
      [0.01, 0.02],
      [0.1, 0.3],
      [0.01, 0.02],
      [0.1, 0.3],
    ]);
    const trials = rows.flatMap(({ rates }) => rates.flatMap((rate) => rate.trials));
    expect(new Set(trials.map(({ id }) => id)).size).toBe(8);
    expect(new Set(trials.map(({ seed }) => seed))).toEqual(new Set([1001]));
    expect(new Set(trials.map(({ judgedOn }) => judgedOn))).toEqual(new Set(['selection']));
    expect(new Set(planTrials(context()).map(({ judgedOn }) => judgedOn))).toEqual(new Set(['dev']));
  });

  it('leaves out an arm that is trained at its own rate', () => {
    const given = context({ methods: { lora: {}, hard: { tuning: false, learningRate: 0.7 } } });
    expect(planTuning(given).map(({ arm }) => arm)).toEqual(['lora', 'lora']);
    const rates = planTrials(given).flatMap(({ arm, settings }) => (arm === 'hard' ? [settings.learningRate] : []));
    expect(new Set(rates)).toEqual(new Set([0.7]));
  });

  it('can tune at each budget, whose trials then have its rate', () => {
    const of = context({
      methods: { lora: {} },
      tasks: ['a'],
      tuning: { learningRates: [0.01, 0.02], budget: 'each' },
    });
    const rows = planTuning(of);
    expect(rows.map(({ budget, rates }) => [budget, rates.length])).toEqual([
      ['r=2', 2],
      ['r=4', 2],
    ]);
    expect(countTuning(of)).toEqual({ planned: 4, most: 4 });
    const tuned = chooseRates(
      rows,
      rows.flatMap((row) => resultsOf(row, row.budget === 'r=2' ? [0.9, 0.1] : [0.1, 0.9])),
    );
    const rates = planTrials(of, tuned).map(({ budget, settings }) => [budget, settings.learningRate]);
    expect(Object.fromEntries(rates as [string, number][])).toEqual({ 'r=2': 0.01, 'r=4': 0.02 });
  });

  it('can tune on some tasks for all, and uses the first budget by default', () => {
    const of = context({ tuning: { learningRates: [0.1, 0.2], tasks: ['b', 'a'], seeds: 2 } });
    expect(planTuning(of).map(({ tasks, budget, seeds }) => [tasks, budget, seeds])).toEqual([
      [['b', 'a'], 'r=2', [1001, 1002]],
      [['b', 'a'], 'r=2', [1001, 1002]],
    ]);
    const row = candidatesFor(of, 'lora', 'b');
    expect(row.rates[0]?.trials.map(({ task, seed }) => [task, seed])).toEqual([
      ['b', 1001],
      ['b', 1002],
      ['a', 1001],
      ['a', 1002],
    ]);
    const trials = planTrials(of, chooseRates([row], resultsOf(row, [0.5, 0.6])));
    expect(rateOf(trials, 'lora', 'a')).toEqual([0.2]);
    expect(rateOf(trials, 'hard', 'a')).toEqual([null]);
  });

  it('counts the planned trials, and the most with wider grids', () => {
    expect(countTuning(context())).toEqual({ planned: 8, most: 8 });
    const wide = { learningRates: [0.01, 0.02], seeds: 3, extensions: 2 };
    expect(countTuning(context({ tuning: wide }))).toEqual({ planned: 24, most: 24 + 2 * 2 * 2 * 3 });
    expect(countTuning(context({ tuning: null }))).toEqual({ planned: 0, most: 0 });
  });

  it('tries nothing if the study does not tune', () => {
    expect(planTuning(context({ tuning: null }))).toEqual([]);
  });
});

const rateOf = (trials: ReturnType<typeof planTrials>, arm: string, task: string) => [
  ...new Set(
    trials.filter((trial) => trial.arm === arm && trial.task === task).map(({ settings }) => settings.learningRate),
  ),
];

describe('chooseRates', () => {
  const row = candidatesFor(context({ tuning: { learningRates: [0.04, 0.01, 0.02] }, methods: ['lora'] }), 'lora', 'a');
  const choice = (scores: readonly (number | null)[], lowerIsBetter?: boolean) =>
    chooseRates([row], resultsOf(row, scores, lowerIsBetter))[0];

  it('chooses the best score, which is the lowest where lower is better', () => {
    expect(choice([0.1, 0.3, 0.2])).toMatchObject({ chosen: 0.02, tied: [0.02] });
    expect(choice([0.1, 0.3, 0.2], true)).toMatchObject({ chosen: 0.01, tied: [0.01] });
  });

  it('chooses the middle one of equal rates, or the lower of two', () => {
    expect(choice([0.1, 0.3, 0.3])).toMatchObject({ chosen: 0.02, tied: [0.02, 0.04] });
    expect(choice([0.2, 0.2, 0.2])?.chosen).toBe(0.02);
  });

  it('treats rates within one paired standard error of the best as tied', () => {
    const of = context({ tuning: { learningRates: [0.01, 0.02, 0.04, 0.08], seeds: 3 }, methods: ['lora'] });
    const three = candidatesFor(of, 'lora', 'a');
    const best = [0.7, 0.8, 0.9];
    const [near, far] = [
      [0.69, 0.81, 0.88], // differs by -.01, .01, -.02: the mean -.0067 is within the error .0088
      [0.69, 0.79, 0.89], // differs by -.01 each time, which is not noise
    ];
    const [tuned] = chooseRates([three], resultsOf(three, [far, near, best, near]));
    expect(tuned).toMatchObject({ chosen: 0.04, tied: [0.02, 0.04, 0.08] });
    const [first, second, third] = tuned?.tried ?? [];
    expect(first?.standardError).toBeCloseTo(0, 12);
    expect(second?.standardError).toBeCloseTo(0.0152752523 / Math.sqrt(3), 9);
    expect(third?.standardError).toBeNull();
    expect(second?.scores).toEqual(near.map((score, index) => ({ task: 'a', seed: 1001 + index, score })));
  });

  it('ranks a failed trial below any score', () => {
    expect(choice([null, 0.1, null])).toMatchObject({
      chosen: 0.02,
      tried: [
        { learningRate: 0.01, score: null, error: 'the loss is NaN at rate 0' },
        { learningRate: 0.02, score: 0.1 },
        { learningRate: 0.04, score: null },
      ],
    });
    expect(choice([null, 9, null], true)?.chosen).toBe(0.02);
    expect(choice([null, null, null])?.chosen).toBeNull();
  });

  it('chooses none if the process of a trial died, which says nothing about its rate', () => {
    const results = resultsOf(row, [0.1, null, 0.3]).map((result) =>
      result.status === 'failed' ? { ...result, error: { code: 'PEFT_WORKER', message: 'killed' } } : result,
    );
    const [tuned] = chooseRates([row], results);
    expect(tuned).toMatchObject({
      chosen: null,
      tied: [],
      tried: [{ score: 0.1 }, { error: 'killed' }, { score: 0.3 }],
    });
    expect(widened(context(), [row], [tuned ?? expect.fail()])).toBeUndefined(); // 0.3 is at the edge only so far
  });

  it('uses the chosen rate at every budget and seed of that task, and changes no other trial', () => {
    const before = planTrials(context({ methods: ['lora', 'head'] }));
    const after = planTrials(context({ methods: ['lora', 'head'] }), [choice([0.1, 0.3, 0.2]) ?? expect.fail()]);
    const changed = after.filter(({ id }) => !before.some((trial) => trial.id === id));
    expect(changed).toHaveLength(4);
    for (const { arm, task, settings, tuning } of changed) {
      expect([arm, task, settings.learningRate, tuning?.chosen]).toEqual(['lora', 'a', 0.02, 0.02]);
    }
  });

  it('gives the same trial as the same rate without tuning', () => {
    const tuned = planTrials(context({ methods: ['lora'] }), [choice([0.1, 0.3, 0.2]) ?? expect.fail()]);
    const given = planTrials(context({ methods: { lora: { learningRate: 0.02 } }, tuning: null }));
    const idsOnA = (trials: typeof tuned) => trials.filter(({ task }) => task === 'a').map(({ id }) => id);
    expect(idsOnA(tuned)).toEqual(idsOnA(given));
  });
});

describe('widened', () => {
  const of = context({
    tuning: { learningRates: [0.01, 0.02, 0.04], tasks: ['a', 'b'], extensions: 2 },
    methods: { lora: {}, hard: { method: 'sora', tuning: { learningRates: [0.1, 0.3, 0.9] } } },
  });
  const rows = planTuning(of);
  const tuned = (...scores: readonly (readonly Score[])[]): TunedArm[] =>
    chooseRates(
      rows,
      rows.flatMap((row, index) => resultsOf(row, scores[index] ?? [])),
    );
  const gridsAfter = (...scores: readonly (readonly Score[])[]) =>
    widened(of, rows, tuned(...scores))?.map(({ rates }) => rates.map(({ learningRate }) => learningRate));

  it('adds a rate to every arm, each on its own side, if the best rate of any arm is at the edge', () => {
    expect(gridsAfter([0.1, 0.2, 0.3], [0.3, 0.4, 0.2])).toEqual([
      [0.01, 0.02, 0.04, 0.08],
      [0.0333333333333, 0.1, 0.3, 0.9],
    ]);
    expect(gridsAfter([0.3, 0.2, 0.1], [0.2, 0.4, 0.3])).toEqual([
      [0.005, 0.01, 0.02, 0.04],
      [0.1, 0.3, 0.9, 2.7],
    ]);
  });

  it('keeps grids if every best rate, or an equal one, is inside', () => {
    expect(gridsAfter([0.1, 0.3, 0.3], [0.3, 0.4, 0.2])).toBeUndefined();
  });

  it('adds a smaller rate if all rates of an arm failed', () => {
    expect(gridsAfter([null, null, null], [0.3, 0.4, 0.2])?.[0]).toEqual([0.005, 0.01, 0.02, 0.04]);
  });

  it('adds trials only for the new rate', () => {
    const wide = widened(of, rows, tuned([0.1, 0.2, 0.3], [0.3, 0.4, 0.2])) ?? [];
    const ids = (of: readonly Candidates[]) =>
      of.flatMap(({ rates }) => rates.flatMap(({ trials }) => trials.map(({ id }) => id)));
    const before = new Set(ids(rows));
    expect(ids(wide).filter((id) => !before.has(id))).toHaveLength(4);
    expect(ids(wide).filter((id) => before.has(id))).toHaveLength(before.size);
  });
});

describe('composeStudy', () => {
  it.each<[unknown, StudyInput, string]>([
    [{ learningRates: [] }, {}, 'tuning.learningRates'],
    [{ learningRates: [0.1, 0.1] }, {}, 'tuning.learningRates'],
    [{ learningRates: [0.1, 0] }, {}, 'tuning.learningRates.1'],
    [{ learningRates: [0.1], tasks: ['c'] }, { methods: ['lora'] }, 'tuning.tasks'],
    [{ learningRates: [0.1] }, {}, 'methods.hard.tuning.learningRates'],
    [{ learningRates: [0.1], rates: 3 }, {}, 'tuning.rates'],
  ])('refuses the tuning settings %j', (tuning, above, path) => {
    const compose = () => composeStudy([study, { ...above, tuning }]);
    expect(compose).toThrow(ConfigError);
    expect(compose).toThrow(expect.objectContaining({ path }));
  });

  it('tunes on the named tasks that are run, or on each task if none of them is', () => {
    const tunedOn = (...tasks: string[]) =>
      composeStudy([study, { methods: ['lora'], tuning: { learningRates: [0.1], tasks: ['a'] } }, { tasks }]).tuning;
    expect(tunedOn('b', 'a')?.tasks).toEqual(['a']);
    expect(tunedOn('b')?.tasks).toBeNull();
  });
});
