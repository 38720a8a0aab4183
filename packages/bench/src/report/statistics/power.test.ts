import { createRng, type Rng } from '@peftjs/core/method';
import { describe, expect, it } from 'vitest';
import { syntheticTrial } from '../../../../cli/test/synthetic-results.js';
import type { DoneTrial } from '@peftjs/cli/results';
import { pairsOf } from './comparisons.js';
import { meanWithError, pooledError, testEquivalence, type MeanWithError } from './equivalence.js';
import { holm, signFlipTestOverTasks } from './estimates.js';
import { POWER, reachOf, spreadsOf, type Design, type Spread } from './power.js';
import { ofValues } from './resampling.js';
import { studentQuantile } from './student.js';

const alike = (tasks: number, spread: Spread): Design['spreads'] => Array.from({ length: tasks }, () => spread);

const TABLES = 2000;
/** 99 % binomial bounds on the count of events with a probability of at most 5 %, or at least 80 %. */
const [AT_MOST, AT_LEAST] = [
  TABLES * 0.05 + 2.326 * Math.sqrt(TABLES * 0.05 * 0.95),
  TABLES * 0.8 - 2.326 * Math.sqrt(TABLES * 0.8 * 0.2),
];

const [TASKS, SEEDS, ARMS] = [2, 6, 5];
const SD = 0.01;

/** A table of scores, [arm][task][seed]: independent noise, plus a gain for the first arm. */
function table(rng: Rng, gain = 0): number[][][] {
  return Array.from({ length: ARMS }, (_, arm) =>
    Array.from({ length: TASKS }, () =>
      Array.from({ length: SEEDS }, () => SD * Math.SQRT1_2 * rng.normal() + (arm === 0 ? gain : 0)),
    ),
  );
}

const differences = (a: number[][], b: number[][]): number[][] =>
  a.map((scores, task) => scores.map((score, seed) => score - ((b[task] as number[])[seed] as number)));

/** The adjusted p of every pair, that of the first two arms first. */
const adjustedPs = (scores: number[][][]): number[] =>
  holm(pairsOf(scores).map(([a, b]) => signFlipTestOverTasks(differences(a, b))));

const meanOf = (byTask: number[][]): MeanWithError => meanWithError(byTask.map(ofValues)) as MeanWithError;

/** Counts the tables in which something happens. */
function howOften(label: string, happens: (rng: Rng) => boolean): number {
  const rng = createRng(0).fork(label);
  return Array.from({ length: TABLES }, () => happens(rng)).filter(Boolean).length;
}

describe('of 2,000 simulated studies', () => {
  it('at most 5 % find a difference among methods that are equal', () => {
    const different = howOften('alike', (rng) => adjustedPs(table(rng)).some((p) => p < 0.05));
    expect(different).toBeLessThan(AT_MOST);
    expect(different).toBeGreaterThan(0.01 * TABLES); // the tests have not lost all power
  });

  it('at most 5 % find two methods equivalent that differ by the margin', () => {
    const equivalent = howOften('at the margin', (rng) => {
      const [a, b] = table(rng, 0.01) as [number[][], number[][]];
      return testEquivalence(meanOf(differences(a, b)), 0.01, false).p <= 0.05;
    });
    expect(equivalent).toBeLessThan(AT_MOST);
    expect(equivalent).toBeGreaterThan(0.01 * TABLES);
  });

  it('the same holds if other rows would also shift the difference', () => {
    const rows = { variance: 0.006 ** 2, degrees: 499 };
    const equivalent = howOften('rows', (rng) => {
      const [a, b] = table(rng, 0.02) as [number[][], number[][]];
      const { mean, standardError, degrees } = meanOf(differences(a, b));
      const whole = pooledError([{ variance: standardError ** 2, degrees }, rows]);
      return testEquivalence({ mean: mean + 0.006 * rng.normal(), ...whole }, 0.02, false).p <= 0.05;
    });
    expect(equivalent).toBeLessThan(AT_MOST);
  });

  const pairs = (ARMS * (ARMS - 1)) / 2;
  const reach = reachOf({ seeds: SEEDS, pairs, spreads: alike(TASKS, { seeds: SD, rows: null }) });

  it('at least 80 % detect a difference of the promised size, and fewer a smaller one', () => {
    const found = (gain: number): number =>
      howOften('gain', (rng) => (adjustedPs(table(rng, gain))[0] as number) < 0.05);
    expect(found(reach.difference ?? 0)).toBeGreaterThan(AT_LEAST);
    expect(found(0.8 * (reach.difference ?? 0))).toBeLessThan(AT_LEAST);
  });

  it('at least 80 % find equal methods equivalent within the promised margin', () => {
    const margin = reach.margin ?? 0;
    const equivalent = howOften('margin', (rng) => {
      const [a, b] = table(rng) as [number[][], number[][]];
      return pairs * testEquivalence(meanOf(differences(a, b)), margin, false).p <= 0.05;
    });
    expect(equivalent).toBeGreaterThan(AT_LEAST);
  });
});

describe('reachOf', () => {
  it('says that six seeds on a single task cannot pass the correction, and how many can', () => {
    expect(reachOf({ seeds: 6, pairs: 78, spreads: alike(1, { seeds: SD, rows: null }) })).toMatchObject({
      ...{ leastP: 2 / 2 ** 6, leastPHolm: 1, seedsNeeded: 12, difference: null },
    });
  });

  it.each([24, 28, 60])('needs seconds for %i differences, and finds about what normal theory says', (seeds) => {
    const { difference } = reachOf({ seeds, pairs: 1, spreads: alike(1, { seeds: SD, rows: null }) });
    const errors = studentQuantile(0.025, seeds - 1) + studentQuantile(1 - POWER, seeds - 1);
    expect((difference ?? 0) / ((errors * SD) / Math.sqrt(seeds))).toBeCloseTo(1, 1);
  });

  it('grows with the spread, and the margin also with the variation over rows', () => {
    const of = (spread: Spread) => reachOf({ seeds: 8, pairs: 2, spreads: alike(1, spread) });
    const [one, two, rows] = [
      of({ seeds: 0.01, rows: null }),
      of({ seeds: 0.02, rows: null }),
      of({ seeds: 0.01, rows: { standardError: 0.01, count: 500 } }),
    ];
    expect((two.difference ?? 0) / (one.difference ?? 0)).toBeCloseTo(2, 1);
    expect((two.margin ?? 0) / (one.margin ?? 0)).toBeCloseTo(2, 10);
    expect(rows.margin).toBeGreaterThan(1.2 * (one.margin ?? 0));
  });
});

it('the spread of an earlier run comes from its paired differences, by task', () => {
  const scored = (task: string, method: string, scores: number[]): DoneTrial[] =>
    scores.map((accuracy, index) => ({
      ...syntheticTrial({ task, method, rank: 4, seed: index + 1 }),
      metrics: { accuracy },
    }));
  const spreads = spreadsOf([
    ...scored('uci-sentiment', 'lora', [0.8, 0.81, 0.82]),
    ...scored('uci-sentiment', 'sora', [0.8, 0.82, 0.84]), // differences 0, .01, .02
    ...scored('wordnet-supersense', 'lora', [0.8]),
    ...scored('wordnet-supersense', 'sora', [0.8]),
  ]);
  expect([...spreads.keys()]).toEqual(['uci-sentiment']);
  expect(spreads.get('uci-sentiment')?.seeds).toBeCloseTo(0.01, 10);
  expect(spreads.get('uci-sentiment')?.rows).toBeNull();
});
