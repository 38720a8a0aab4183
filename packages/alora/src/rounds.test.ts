import type { TrainPlan } from '@peftjs/core/method';
import { expect, it } from 'vitest';
import { alora, type AloraConfig } from './index.js';
import { roundSteps } from './policy.js';

const steps = (plan: Partial<TrainPlan>, options: Partial<AloraConfig> = {}): number[] =>
  roundSteps(alora.parseConfig(options), { totalSteps: 120, warmupSteps: 7, finalSteps: 36, ...plan });

it('come after 1 epoch of 10 and then every quarter epoch, as in the paper, in a run of any length', () => {
  const epoch = 625; // 10,000 rows in batches of 16
  const paper = steps({ totalSteps: 10 * epoch, warmupSteps: 375, finalSteps: 1875 });
  expect(paper).toEqual([1, 1.25, 1.5, 1.75, 2, 2.25, 2.5, 2.75].map((epochs) => Math.round(epochs * epoch)));
  expect(steps({})).toEqual([12, 15, 18, 21, 24, 27, 30, 33]);
});

it('have the number, the start and the interval of the options', () => {
  expect(steps({}, { rounds: 3, firstRound: 0.2, roundInterval: 0.1 })).toEqual([24, 36, 48]);
  expect(steps({}, { rounds: 0 })).toEqual([]);
});

it('begin after the warm-up and end before the final phase; rounds at the same step are merged', () => {
  expect(steps({ warmupSteps: 30 }, { rounds: 2 })).toEqual([31, 34]);
  expect(steps({}, { rounds: 4, firstRound: 0.5, roundInterval: 0.2 })).toEqual([60, 84]);
  expect(steps({ totalSteps: 10, warmupSteps: 0, finalSteps: 3 })).toEqual([1, 2, 3]);
  expect(steps({ totalSteps: 1, warmupSteps: 0, finalSteps: 1 })).toEqual([]);
});
