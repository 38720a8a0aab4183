import { expect, it } from 'vitest';
import { syntheticResults } from '../../../../cli/test/synthetic-results.js';
import { primaryMetric, type DoneTrial } from '@peftjs/cli/results';
import { testClaims, type Claim } from './claims.js';
import { armsOf } from './comparisons.js';

const results = syntheticResults({ methods: ['head', 'lora', 'sora'], seeds: 4 });

/** Trials in which SoRA is better than LoRA by about `by` in every seed. */
const soraBetterBy = (by: number): DoneTrial[] =>
  results.map((trial) => {
    const twin = results.find(
      ({ arm, task, seed }) => arm === 'lora' && task === trial.task && seed === trial.seed,
    ) as DoneTrial;
    if (trial.arm !== 'sora') return trial;
    const accuracy = primaryMetric(twin) + by + 0.0005 * (trial.seed % 2);
    return { ...trial, metrics: { ...trial.metrics, accuracy } };
  });

const claim: Claim = { arm: 'sora', budget: 'r=4', noWorseThan: 'lora', itsBudget: 'r=4' };

it.each([
  ['is shown if the arm is worse by less than the margin', -0.005, true],
  ['is not shown if it is worse by more', -0.02, false],
])('a claim %s', (_, by, shown) => {
  const [outcome] = testClaims([claim], armsOf(soraBetterBy(by)), 0.01);
  expect(outcome).toMatchObject({
    shown,
    margin: 0.01,
    untested: null,
    tasks: ['uci-sentiment', 'wordnet-supersense'],
  });
  expect(outcome?.difference?.mean).toBeCloseTo(by + 0.00025, 10);
});

it('a margin of the claim itself overrides the one of the study, and Holm covers all claims', () => {
  const claims = [{ ...claim, margin: 0.03 }, claim, { ...claim, arm: 'gone' }];
  const [wide, narrow, gone] = testClaims(claims, armsOf(soraBetterBy(-0.02)), 0.01);
  expect([wide?.shown, narrow?.shown, gone?.shown]).toEqual([true, false, false]);
  expect(wide?.test?.pHolm).toBeCloseTo(3 * (wide?.test?.p ?? 0), 12);
});

it('an arm without a budget is found, and has none to miss', () => {
  const unlimited = results.map((trial) =>
    trial.arm === 'head' ? { ...trial, budget: { ...trial.budget, requested: null, met: false } } : trial,
  );
  const [outcome] = testClaims([{ ...claim, noWorseThan: 'head', itsBudget: null }], armsOf(unlimited), 0.01);
  expect(outcome).toMatchObject({ shown: true, untested: null });
});

it('a claim that cannot be tested says why', () => {
  const arms = armsOf(results);
  const why = (of: Partial<Claim>, margin: number | null = 0.01): string | null | undefined =>
    testClaims([{ ...claim, ...of }], arms, margin)[0]?.untested;
  expect(why({}, null)).toContain('no margin');
  expect(why({ itsBudget: 'r=8' })).toBe('lora has no result on uci-sentiment');
  expect(testClaims([claim], armsOf(results.filter(({ seed }) => seed === 1)), 0.01)[0]?.untested).toContain(
    'two seeds',
  );
  const lost = results.filter(({ arm, seed }) => arm !== 'sora' || seed < 3);
  expect(testClaims([claim], armsOf(lost), 0.01)[0]?.untested).toBe('sora has 2 of 4 seeds on uci-sentiment');
  const missed = results.map((trial) => ({ ...trial, budget: { ...trial.budget, met: trial.arm !== 'lora' } }));
  expect(testClaims([claim], armsOf(missed), 0.01)[0]?.untested).toBe('lora missed its budget on uci-sentiment');
});

it('a claim asks for the seeds of arms under the same conditions only, and for one configuration of each arm', () => {
  const elsewhere = (arm: string, seeds: number): DoneTrial[] =>
    syntheticResults({ methods: ['lora'], seeds }).map((trial) => ({
      ...{ ...trial, arm, id: `${arm}-${trial.id}` },
      protocol: { ...trial.protocol, epochs: 1 },
    }));
  const untested = (more: readonly DoneTrial[]): string | null | undefined =>
    testClaims([claim], armsOf([...soraBetterBy(0), ...more]), 0.01)[0]?.untested;
  expect(untested(elsewhere('vera', 8))).toBeNull();
  expect(untested(elsewhere('lora', 2))).toMatch(/^lora has several configurations on uci-sentiment; keep /);
});

it('a claim is tested on each model', () => {
  const worse = soraBetterBy(-0.1).map((trial) => ({ ...trial, model: 'worse', id: `w${trial.id}` }));
  const outcomes = testClaims([claim], armsOf([...soraBetterBy(0), ...worse]), 0.01);
  expect(outcomes.map(({ model, shown }) => [model, shown])).toEqual([
    [results[0]?.model, true],
    ['worse', false],
  ]);
});
