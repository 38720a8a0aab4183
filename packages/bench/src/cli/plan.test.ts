import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { syntheticResults } from '../../test/synthetic-results.js';
import { writeResult } from '../results/files.js';
import type { Trial } from '../study/trials.js';
import { checkPlanFlags, describePlan, knownSpreads, plannedBudgets, type Plan } from './plan.js';

/** What a plan reads of a trial. */
const trials = (arms: Record<string, (string | null)[]>, tasks = ['a', 'b'], seeds = 6): Trial[] =>
  tasks.flatMap((task) =>
    Object.entries(arms).flatMap(([arm, budgets]) =>
      budgets.flatMap((budget) => Array.from({ length: seeds }, (_, seed) => ({ task, arm, budget, seed }) as Trial)),
    ),
  );

const spreads = { a: { seeds: 0.01, rows: null }, b: { seeds: 0.01, rows: null } };

describe('plannedBudgets', () => {
  it('counts arms without a budget, and those that choose one, at every budget', () => {
    const budgets = plannedBudgets(
      trials({ head: [null], sora: ['r=1', 'r=4', 'auto'], lora: ['r=1', 'r=4'], once: ['r=4'] }),
      null,
    );
    expect(budgets.map(({ budget, arms, pairs, tasks }) => [budget, arms, pairs, tasks])).toEqual([
      ['r=1', 4, 6, 2],
      ['r=4', 5, 10, 2],
    ]);
    expect(plannedBudgets(trials({ head: [null], full: [null] }), null)).toMatchObject([{ budget: 'none', pairs: 1 }]);
  });

  it('has nothing over tasks where there is one', () => {
    expect(plannedBudgets(trials({ lora: ['r=4'], sora: ['r=4'] }, ['a']), null)[0]?.overTasks).toBeNull();
  });
});

describe('describePlan', () => {
  const plan = (of: Partial<Plan>): string =>
    describePlan({
      trials: { reported: 48, tuning: 30, tuningAtMost: 42 },
      seconds: { planned: 3600, most: 5400, workers: 2 },
      measured: [
        { task: 'a', arm: 'lora', stepMedianMs: 216, compileSeconds: 2, rows: 16, tokens: 15, trialSeconds: 32.5 },
      ],
      margin: 0.001,
      spreads,
      budgets: plannedBudgets(trials({ lora: ['r=4'], sora: ['r=4'], adalora: ['r=4'] }), spreads),
      ...of,
    });

  it('says what is run, how long, and on what that was measured', () => {
    const text = plan({});
    expect(text).toContain(
      '48 that are reported; 30 that tune learning rates, up to 42 where a best rate lies at the edge',
    );
    expect(text).toContain('about 1:00:00 h, 1:30:00 h with wider grids, with 2 workers');
    expect(text).toContain('a: 216 ms a step, the median of 8 of lora on 16 rows of 15 tokens');
  });

  it('says what is found over the tasks, and that a single task cannot pass the correction', () => {
    const text = plan({});
    expect(text).toMatch(/over the 2 tasks: a true difference of 0\.0\d+ is found with 80 % probability; equal arms/);
    expect(text).toContain('the study states 0.001');
    expect(text).toContain(
      "on a single task: no difference can pass Holm's correction: the smallest p, 0.0313, times 3 pairs is 0.0938; it takes 7 seeds",
    );
  });

  it('asks for a spread where none is known', () => {
    const text = plan({ spreads: null });
    expect(text).toContain('--spread .01');
    expect(text).not.toContain('80 %');
  });
});

describe('the spread', () => {
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'peft-bench-spread-'));
    const results = syntheticResults({ tasks: ['uci-sentiment'], methods: ['lora', 'sora'], seeds: 3 });
    for (const result of results) await writeResult(folder, result);
  });
  afterAll(() => rm(folder, { recursive: true }));

  it('is that of an earlier run, for tasks that it did not have, too', async () => {
    const found = await knownSpreads({ out: folder }, ['uci-sentiment', 'other']);
    expect(found?.['uci-sentiment']?.seeds).toBeGreaterThan(0);
    expect(found?.['other']?.seeds).toBeCloseTo(found?.['uci-sentiment']?.seeds ?? 0, 12);
  });

  it('is the one stated, or not known', async () => {
    const nowhere = join(folder, 'none');
    expect(await knownSpreads({ spread: 0.02, out: folder }, ['x'])).toEqual({ x: { seeds: 0.02, rows: null } });
    expect(await knownSpreads({ out: nowhere }, ['x'])).toBeNull();
    await expect(knownSpreads({ spreadFrom: nowhere, out: folder }, ['x'])).rejects.toThrow('does not tell a spread');
  });

  it.each([
    [{ spread: 0.01 }, '--spread is for --plan'],
    [{ spreadFrom: 'x' }, '--spread-from is for --plan'],
    [{ plan: true, spread: 0.01, spreadFrom: 'x' }, 'leave one out'],
  ])('is refused where it says nothing: %j', (flags, message) => {
    expect(() => checkPlanFlags(flags)).toThrow(message);
  });
});
