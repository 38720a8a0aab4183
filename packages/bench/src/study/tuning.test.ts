import { describe, expect, it } from 'vitest';
import { ConfigError } from '@peftjs/core/method';
import { failedTrial, syntheticTrial } from '../../test/synthetic-results.js';
import type { TrialResult } from '../results/schema.js';
import { composeStudy, type StudyInput } from './study.js';
import { planTrials, type TrialContext } from './trials.js';
import { chooseRates, planTuning, type Candidates } from './tuning.js';

const study: StudyInput = {
  model: 'model',
  tasks: ['a', 'b'],
  methods: { head: {}, lora: {}, hard: { method: 'sora', tuning: { learningRates: [0.3, 0.1] } } },
  budgets: ['r=2', 'r=4'],
  seeds: 2,
  tuning: { learningRates: [0.01, 0.02], budget: 'r=4' },
};
const context = (above: StudyInput = {}): TrialContext => ({
  study: composeStudy([study, above]),
  data: { kind: 'embedded' },
  engine: { executor: 'compiled', backend: 'cpu', threads: 1, dtype: 'fp32' },
  versions: { numerics: 1 },
  methodVersions: new Map(),
  fingerprints: { model: 'm', data: { a: 'a', b: 'b' } },
  maxTokens: { a: 16, b: 24 },
  budgeted: new Set(['lora', 'sora']),
  headAlone: new Set(['head']),
});

/** What is tried for an arm on a task. */
function candidatesFor(of: TrialContext, arm: string, task: string): Candidates {
  return planTuning(of).find((row) => row.arm === arm && row.task === task) ?? expect.fail(`${arm} is not tuned`);
}

/** Results of what is tried for one arm: a score for each rate, null for a failure. */
function resultsOf({ rates }: Candidates, scores: readonly (number | null)[], lowerIsBetter = false): TrialResult[] {
  return rates.flatMap(({ trials }, index) =>
    trials.map(({ id, seed }): TrialResult => {
      const trial = { ...syntheticTrial({ task: 'a', method: 'lora', rank: 4, seed }), id };
      const score = scores[index];
      if (score == null) return failedTrial(trial, `the loss is NaN at rate ${index}`);
      return { ...trial, metrics: { accuracy: score }, selection: { ...trial.selection, lowerIsBetter } };
    }),
  );
}

describe('planTuning', () => {
  it('tries as many rates for every arm, at one budget, with seeds that are not reported and on the selection rows', () => {
    const rows = planTuning(context());
    expect(rows.map(({ arm, task, budget }) => [arm, task, budget])).toEqual([
      ['lora', 'a', 'r=4'],
      ['hard', 'a', 'r=4'],
      ['lora', 'b', 'r=4'],
      ['hard', 'b', 'r=4'],
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

  it('tunes on one task for all where the study says so, and at the first budget where it names none', () => {
    const of = context({ tuning: { learningRates: [0.1, 0.2], task: 'b', seeds: 2 } });
    expect(planTuning(of).map(({ task, budget, seeds }) => [task, budget, seeds])).toEqual([
      ['b', 'r=2', [1001, 1002]],
      ['b', 'r=2', [1001, 1002]],
    ]);
    const row = candidatesFor(of, 'lora', 'b');
    const trials = planTrials(of, chooseRates([row], resultsOf(row, [0.5, 0.6])));
    expect(rateOf(trials, 'lora', 'a')).toEqual([0.2]);
    expect(rateOf(trials, 'hard', 'a')).toEqual([null]);
  });

  it('tries nothing where the study tunes nothing', () => {
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

  it('takes the best score, of equals the smaller rate, and the lowest where less is better', () => {
    expect(choice([0.1, 0.3, 0.2])?.chosen).toBe(0.02);
    expect(choice([0.1, 0.3, 0.3])?.chosen).toBe(0.02);
    expect(choice([0.2, 0.2, 0.2])?.chosen).toBe(0.01);
    expect(choice([0.1, 0.3, 0.2], true)?.chosen).toBe(0.01);
  });

  it('counts a failed trial as worse than any score', () => {
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

  it('gives its choice to every budget and seed of that task, and changes no other trial', () => {
    const before = planTrials(context({ methods: ['lora', 'head'] }));
    const after = planTrials(context({ methods: ['lora', 'head'] }), [choice([0.1, 0.3, 0.2]) ?? expect.fail()]);
    const changed = after.filter(({ id }) => !before.some((trial) => trial.id === id));
    expect(changed).toHaveLength(4);
    for (const { arm, task, settings, tuning } of changed) {
      expect([arm, task, settings.learningRate, tuning?.chosen]).toEqual(['lora', 'a', 0.02, 0.02]);
    }
  });

  it('makes the trial that the same rate makes when it is given', () => {
    const tuned = planTrials(context({ methods: ['lora'] }), [choice([0.1, 0.3, 0.2]) ?? expect.fail()]);
    const given = planTrials(context({ methods: { lora: { learningRate: 0.02 } }, tuning: null }));
    const idsOnA = (trials: typeof tuned) => trials.filter(({ task }) => task === 'a').map(({ id }) => id);
    expect(idsOnA(tuned)).toEqual(idsOnA(given));
  });
});

describe('composeStudy', () => {
  it.each<[unknown, StudyInput, string]>([
    [{ learningRates: [] }, {}, 'tuning.learningRates'],
    [{ learningRates: [0.1, 0.1] }, {}, 'tuning.learningRates'],
    [{ learningRates: [0.1, 0] }, {}, 'tuning.learningRates.1'],
    [{ learningRates: [0.1], task: 'c' }, { methods: ['lora'] }, 'tuning.task'],
    [{ learningRates: [0.1] }, {}, 'methods.hard.tuning.learningRates'],
    [{ learningRates: [0.1], rates: 3 }, {}, 'tuning.rates'],
  ])('refuses to tune by %j', (tuning, above, path) => {
    const compose = () => composeStudy([study, { ...above, tuning }]);
    expect(compose).toThrow(ConfigError);
    expect(compose).toThrow(expect.objectContaining({ path }));
  });
});
