import { activeAdapter, activeRanks } from '@peftjs/core';
import type { TrainPlan } from '@peftjs/core/method';
import { storedParameters } from '@peftjs/core/model';
import { sora, type SoraConfig } from '@peftjs/sora';
import { expect, it } from 'vitest';
import { attached, trainToy } from './harness.js';

const budget = 400;
const random: Partial<SoraConfig> = { selection: 'random', budget };

/** The live ranks at the end of a run with this seed, and the number of parameters they store. */
async function endOf(
  seed: number,
): Promise<{ ranks: Record<string, number>; stored: number; thresholds: Set<number> }> {
  const peft = { ...attached(random), seed };
  const thresholds = new Set<number>();
  const { last } = await trainToy(peft, { onStep: ({ scalars }) => thresholds.add(scalars.threshold ?? NaN) });
  const { layers, values } = last;
  return { ranks: activeRanks(layers, values), stored: storedParameters(layers, values), thresholds };
}

it('a random mask meets the budget, differs by seed, and has no threshold before it', async () => {
  const [first, again, second] = [await endOf(1), await endOf(1), await endOf(2)];
  for (const { stored, thresholds } of [first, second]) {
    expect(stored).toBeLessThanOrEqual(budget);
    expect(stored).toBeGreaterThanOrEqual(0.99 * budget);
    expect([...thresholds]).toEqual([0]);
  }
  expect(again.ranks).toEqual(first.ranks);
  expect(second.ranks).not.toEqual(first.ranks);
});

it('is equally likely to keep ranks of all sizes', () => {
  const { layers, config, values } = activeAdapter(attached({ ...random, r: 8 }));
  const draws = Array.from({ length: 60 }, (_, seed) => {
    const plan: TrainPlan = { totalSteps: 2, warmupSteps: 0, finalSteps: 1, seed };
    const selected = sora.controller?.(layers, config, plan)?.afterStep(1, values)?.values ?? {};
    return activeRanks(layers, { ...values, ...selected });
  });
  const share = (name: string): number => {
    const kept = draws.flatMap((ranks) => Object.entries(ranks).filter(([path]) => path.endsWith(name)));
    return kept.reduce((sum, [, rank]) => sum + rank, 0) / kept.length;
  };
  const [cheap, dear] = [share('attention.query'), share('ffn.in')]; // 16 and 20 parameters a rank
  expect(cheap / dear).toBeGreaterThan(0.8);
  expect(cheap / dear).toBeLessThan(1.25);
});
