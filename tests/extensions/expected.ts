import { expect } from 'vitest';
import type { Exercised } from './exercise.js';

/** Checks the results of a run against the formulas. */
export function expectRight(found: Exercised): void {
  const { features, logits, labels, losses, rates, firstMoves, fromEager, fromResumed, named, refusals } = found;
  // 'a b': the mean of (1, 0) and (0, 2) is (0.5, 1); mixed (2.5 + 0.5, 5.5 - 0.5); softsign (3 / 4, 5 / 6)
  for (const row of features) {
    expect(row[0]).toBeCloseTo(3 / 4, 6);
    expect(row[1]).toBeCloseTo(5 / 6, 6);
  }
  const focal = logits.map((row, index) => {
    const probability =
      Math.exp(row[labels[index] ?? -1] ?? NaN) / row.reduce((sum, logit) => sum + Math.exp(logit), 0);
    return -((1 - probability) ** 2) * Math.log(probability);
  });
  expect(focal).toHaveLength(8);
  expect(losses[0]).toBeCloseTo(focal.reduce((sum, loss) => sum + loss, 0) / focal.length, 5);
  expect(losses).toHaveLength(6);
  expect(losses[5]).toBeLessThan(losses[0] ?? NaN);
  expect(rates).toEqual([0.25, 0.25, 0.125, 0.125, 0.0625, 0.0625]);
  expect(firstMoves).toHaveLength(2 + 4 + 2); // B [1, 2], the head's weight [2, 2] and bias [2]
  for (const move of firstMoves) expect(Math.abs(move)).toBeCloseTo(0.25, 6);
  expect(fromEager).toBeLessThan(1e-5);
  expect(fromResumed).toBe(0);
  expect(named).toMatchObject({
    ...{ loss: 'focal', 'loss.gamma': 2 },
    ...{ optimizer: 'sign-sgd', 'optimizer.momentum': 0.9 },
    ...{ schedule: 'halving', 'schedule.parts': 3, 'schedule.warmup': 'positive' },
  });
  expect(refusals).toEqual({
    loss: expect.stringMatching(/^resume: loss\.gamma was 2 and is now 1\. Resume/) as string,
    optimizer: expect.stringMatching(/^resume: optimizer\.momentum was 0\.9 and is now 0\.5\. Resume/) as string,
    schedule: expect.stringMatching(/^resume: schedule was "halving" and is now "linear"\. Resume/) as string,
    kernel: expect.stringMatching(/'TheirSoftsign'/) as string,
    modelType: expect.stringMatching(/unknown 'model_type' "soft-bag".*pass others as modelTypes, or export/) as string,
    reader: 'train.colon: expected a file that ends in .tsv, .csv, .jsonl, .conll or .parquet',
  });
}
