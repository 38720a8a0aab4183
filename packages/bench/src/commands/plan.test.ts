import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { syntheticResults } from '../../../cli/test/synthetic-results.js';
import { writeResult } from '@peftjs/cli/results';
import type { Trial } from '@peftjs/cli/trials';
import { describePlan, knownSpreads, plannedBudgets, secondsOf, typicalTrials, type Plan } from './plan.js';
import { addRunCommand } from './run.js';

/** Trials with the fields that a plan reads. */
const trials = (arms: Record<string, (string | null)[]>, tasks = ['a', 'b'], seeds = 6): Trial[] =>
  tasks.flatMap((task) =>
    Object.entries(arms).flatMap(([arm, budgets]) =>
      budgets.flatMap((budget) => Array.from({ length: seeds }, (_, seed) => ({ task, arm, budget, seed }) as Trial)),
    ),
  );

const spreads = { a: { seeds: 0.01, rows: null }, b: { seeds: 0.01, rows: null } };

describe('plannedBudgets', () => {
  it('counts arms that have no budget or choose it at every budget', () => {
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

  it('says nothing of what one arm alone can show', () => {
    const [alone] = plannedBudgets(trials({ lora: ['r=4'] }), spreads);
    expect(alone).toMatchObject({ pairs: 0, overTasks: null, onTask: null });
  });

  it('has no comparison over tasks for a single task', () => {
    expect(plannedBudgets(trials({ lora: ['r=4'], sora: ['r=4'] }, ['a']), null)[0]?.overTasks).toBeNull();
  });
});

it.each([
  ['the reference', 'lora', ['sora r=4', 'lora r=4'], 'lora r=4'],
  ['an arm with a budget', null, ['full null', 'lora r=4'], 'lora r=4'],
  ['no head whose features are kept, even as the reference', 'head', ['head null', 'lora r=4'], 'lora r=4'],
  ['the head if nothing else is trained', null, ['head null'], 'head null'],
  ['no arm that chooses its size', 'sora', ['sora auto', 'sora r=4', 'lora r=4'], 'sora r=4'],
  ['one that does if there is no other', 'head', ['head null', 'sora auto:0.01'], 'sora auto:0.01'],
  ['no arm in stages', 'staged', ['staged null', 'full null'], 'full null'],
])('a typical trial is of %s', (_, reference, arms, typical) => {
  const given = arms.map((each) => {
    const [arm = '', budget = ''] = each.split(' ');
    const settings = arm === 'staged' ? { stages: {} } : {};
    return { task: 'a', arm, method: arm, budget: budget === 'null' ? null : budget, settings } as Trial;
  });
  const found = typicalTrials(given, { headOnly: new Set(['head']), study: { reference } });
  expect(found.map(({ arm, budget }) => `${arm} ${budget}`)).toEqual([typical]);
});

it('a study takes at least as long as its longest trial, however many workers there are', () => {
  const measured = [
    { task: 'a', trialSeconds: 10 },
    { task: 'b', trialSeconds: 30 },
  ];
  const tasks = [{ task: 'a' }, { task: 'b' }];
  expect([1, 2, 8].map((workers) => secondsOf(tasks, measured, workers))).toEqual([40, 30, 30]);
  expect(secondsOf([], measured, 8)).toBe(0);
});

describe('describePlan', () => {
  const plan = (of: Partial<Plan>): string =>
    describePlan({
      trials: { reported: 48, tuning: 30, tuningAtMost: 42 },
      seconds: { planned: 3600, most: 5400, workers: 2 },
      stopsEarly: false,
      choosesSize: false,
      measured: [
        { task: 'a', arm: 'lora', stepMedianMs: 216, compileSeconds: 2, rows: 16, tokens: 15, trialSeconds: 32.5 },
      ],
      margin: 0.001,
      spreads,
      budgets: plannedBudgets(trials({ lora: ['r=4'], sora: ['r=4'], adalora: ['r=4'] }), spreads),
      ...of,
    });

  it('says which trials run, how long they take, and how that was measured', () => {
    const text = plan({});
    expect(text).toContain('48 reported; 30 more tune learning rates, up to 42 if a best rate lies at the edge');
    expect(text).toContain('about 1:00:00 h, 1:30:00 h with wider grids, with 2 workers');
    expect(text).toContain('a: 216 ms per step (median of 8 steps of lora, 16 rows of 15 tokens)');
  });

  it('says that its time is the most with early stopping', () => {
    expect(plan({ stopsEarly: true })).toContain('time: at most about 1:00:00 h');
    expect(plan({})).toContain('time: about 1:00:00 h');
  });

  it('says which difference all tasks together detect, and that a single task cannot pass the correction', () => {
    const text = plan({});
    expect(text).toMatch(
      /over the 2 tasks: a true difference of 0\.0\d+ is detected with 80 % probability; equal arms/,
    );
    expect(text).toContain("the study's margin is 0.001");
    expect(text).toContain(
      "on a single task: no difference can pass Holm's correction: the smallest p, 0.0313, times 3 pairs is 0.0938; use at least 7 seeds",
    );
  });

  it('asks for the spread if it is unknown', () => {
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

  it('comes from an earlier run, also for tasks which that run lacks', async () => {
    const found = await knownSpreads({ out: folder }, ['uci-sentiment', 'other']);
    expect(found?.['uci-sentiment']?.seeds).toBeGreaterThan(0);
    expect(found?.['other']?.seeds).toBeCloseTo(found?.['uci-sentiment']?.seeds ?? 0, 12);
  });

  it('is the stated one, or unknown', async () => {
    const nowhere = join(folder, 'none');
    expect(await knownSpreads({ spread: 0.02, out: folder }, ['x'])).toEqual({ x: { seeds: 0.02, rows: null } });
    expect(await knownSpreads({ out: nowhere }, ['x'])).toBeNull();
    await expect(knownSpreads({ spreadFrom: nowhere, out: folder }, ['x'])).rejects.toThrow('gives no spread');
  });

  it.each([
    ['--spread .01', '--spread is for --plan'],
    ['--spread-from x', '--spread-from is for --plan'],
    ['--plan --spread .01 --spread-from x', 'cannot be used with'],
    ['--plan --shard 0/2', 'cannot be used with'],
    ['--plan --queue redis://host', 'cannot be used with'],
    ['--workers 2 --queue redis://host', 'cannot be used with'],
    ['--shard 0/2 --queue redis://host', 'cannot be used with'],
  ])('refuses flags that have no effect: %s', async (flags, message) => {
    const root = new Command();
    addRunCommand(root);
    for (const command of root.commands) command.exitOverride().configureOutput({ outputError: () => undefined });
    const args = ['run', '--out', 'x', ...flags.split(' ')];
    await expect(root.parseAsync(args, { from: 'user' })).rejects.toThrow(message);
  });
});
