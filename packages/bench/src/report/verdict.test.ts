import { describe, expect, it } from 'vitest';
import { around, failedTrial, trialsOf } from '../../../cli/test/synthetic-results.js';
import type { DoneTrial, TrialResult } from '@peftjs/cli/results';
import { summarise, type AnalysisPlan } from './statistics/summary.js';
import { renderMarkdown } from './files.js';
import { verdictParagraphs } from './findings.js';
import { mainVerdicts, type Verdict } from './verdict.js';

const stated: AnalysisPlan = { reference: 'lora', margin: 0.01 };

function verdictOf(trials: readonly TrialResult[], how: AnalysisPlan = stated): Verdict {
  const [verdict, ...others] = mainVerdicts(summarise(trials, how).verdicts);
  expect(others).toEqual([]);
  return verdict ?? expect.fail('no verdict');
}

const HEAD = { scores: around(0.7, 0.002) };

it('names the reliable winner, and its lead', () => {
  const verdict = verdictOf(
    trialsOf({ head: HEAD, lora: { scores: around(0.8, 0.003) }, sora: { scores: around(0.85, 0.003, -1) } }),
  );
  expect(verdict).toMatchObject({ best: 'sora', isReliable: true, worse: ['lora'], open: [], smallest: 'sora' });
  expect(verdict.sentences).toEqual([
    'Use sora, the reliable winner at r = 4, over 2 tasks: mean accuracy 0.850, ahead of lora by 0.050 (adjusted p ≤ 0.0015).',
    'Each of them beats head (0.700) by 0.100 to 0.150.',
  ]);
});

it('never calls arms equal that are merely not reliably different', () => {
  const verdict = verdictOf(
    trialsOf({ head: HEAD, lora: { scores: around(0.8, 0.04) }, sora: { scores: around(0.805, 0.04, -1) } }),
  );
  expect(verdict).toMatchObject({ isReliable: false, equivalent: [], open: ['lora'], worse: [] });
  expect(verdict.sentences[0]).toBe(
    'We cannot tell these methods apart at r = 4, over 2 tasks; use lora, which the others are compared with.',
  );
  expect(verdict.sentences[2]).toMatch(
    /^The lead of sora over lora lies between −0\.0\d\d and \+0\.0[2-6]\d \(95 %\)\.$/,
  );
  expect(verdict.sentences.join(' ')).not.toMatch(/equal|equivalent|no difference|the same/);
});

it('calls the mean of different metrics a score', () => {
  const trials = trialsOf({ lora: { scores: around(0.8, 0.002) } }).map((trial) =>
    trial.task === 'uci-sentiment'
      ? trial
      : { ...trial, metrics: { f1: 0.8 }, selection: { ...trial.selection, metric: 'f1' } },
  );
  expect(verdictOf(trials).sentences[0]).toMatch(
    /^Only lora was trained at r = 4, over 2 tasks: mean score 0\.\d{3}\.$/,
  );
});

it('counts the arms that are not reliably different if there are many, after those that are worse', () => {
  const arms = ['lora', 'sora', 'adalora', 'l1ra', 'gora', 'vera'].map(
    (label, at) => [label, { scores: around(0.8, 0.04 * (at - 2.5)) }] as const,
  );
  const { sentences } = verdictOf(trialsOf({ ...Object.fromEntries(arms), oft: { scores: around(0.6, 0.002) } }));
  expect(sentences[2]).toMatch(/^oft is reliably worse than \w+, by 0\.\d{3}\.$/);
  expect(sentences[0]).toMatch(
    /^We cannot tell the best methods apart .*; use lora, which the others are compared with\.$/,
  );
  expect(sentences[3]).toMatch(/^The lead of \w+ over 5 other arms lies between −0\.\d{3} and \+0\.\d{3} \(95 %\)\.$/);
});

it('groups equivalent arms, and names the smallest method that is no worse', () => {
  const verdict = verdictOf(
    trialsOf({
      head: HEAD,
      lora: { scores: around(0.8, 0.002) },
      sora: { scores: around(0.8005, 0.002, -1) },
      ia3: { scores: around(0.799, 0.0015), isFree: true, stored: 5376 },
      full: { scores: around(0.88, 0.002), isFree: true, stored: 6_800_000 },
    }),
  );
  expect(verdict.equivalent).toEqual([['sora', 'lora', 'ia3']]);
  expect(verdict.sentences).toEqual([
    'Several methods are equally good at r = 4, over 2 tasks; use lora, which the others are compared with.',
    'sora has the highest mean accuracy, 0.800.',
    'sora, lora and ia3 are equivalent within 0.01.',
    'Each of them beats head (0.700) by 0.099 to 0.101.',
    'The smallest that loses less than 0.01 to sora: ia3 (5,376 parameters).',
    'Above the budget, full (6,800,000 parameters) is reliably better than sora, by 0.080.',
  ]);
});

it('says so if a difference is both reliable and small', () => {
  const { sentences, isReliable } = verdictOf(
    trialsOf({ lora: { scores: around(0.8, 0.002) }, sora: { scores: around(0.803, 0.0015) } }),
  );
  expect(isReliable).toBe(true);
  expect(sentences[0]).toContain('Use sora, the reliable winner');
  expect(sentences[1]).toBe('sora and lora are equivalent within 0.01 all the same: the lead is reliable but small.');
});

it('says if nothing beats the head, and, without a margin, that equivalence was not tested', () => {
  const trials = trialsOf({
    head: { scores: around(0.8, 0.01) },
    lora: { scores: around(0.8, 0.01, -1) },
    sora: { scores: around(0.6, 0.01) },
    vera: { scores: around(0.8, 0.05) },
  });
  const { sentences } = verdictOf(trials, { reference: 'lora' });
  expect(sentences[0]).toBe('Use head: nothing is reliably better at r = 4, over 2 tasks.');
  expect(sentences).toContain('Nothing is reliably better than head (0.800).');
  expect(sentences).toContain('sora is reliably worse than head (0.800), by 0.200.');
  expect(sentences.join(' ')).not.toMatch(/equivalent|no worse/);
  const [, untested] = verdictParagraphs(summarise(trials, { reference: 'lora' }));
  expect(untested?.[0]).toMatch(/^Equivalence was not tested: /);
});

it('says how many seeds are needed, and names a single task', () => {
  const few = trialsOf({ head: { scores: [0.7, 0.71] }, lora: { scores: [0.8, 0.81] }, sora: { scores: [0.9, 0.91] } });
  expect(verdictOf(few).sentences[1]).toBe(
    'With 2 seeds on 2 tasks the smallest possible p, corrected for 3 pairs, is 0.38; 4 seeds are needed.',
  );
  const onOne = verdictOf(few.filter(({ task }) => task === 'uci-sentiment'));
  expect(onOne.sentences.slice(0, 2)).toEqual([
    'Too few seeds to tell these methods apart at r = 4, on uci-sentiment; use lora, which the others are compared with.',
    'With 2 seeds on 1 task the smallest possible p, corrected for 3 pairs, is 1; 7 seeds are needed.',
  ]);
});

it('leaves out arms that lack a seed or missed the budget, and counts failed trials', () => {
  const trials = trialsOf({ lora: { scores: around(0.8, 0.002) }, sora: { scores: around(0.9, 0.002) } });
  const at = trials.findIndex(({ arm, seed }) => arm === 'sora' && seed === 3);
  const some: TrialResult[] = trials.map((trial, index) => (index === at ? failedTrial(trial, 'NaN') : trial));
  const summary = summarise(some, stated);
  expect(verdictParagraphs(summary)).toEqual([
    [
      'Only lora can be ranked at r = 4, over 2 tasks: mean accuracy 0.800.',
      'Not ranked: sora (5 of 6 seeds on uci-sentiment).',
    ],
    ['1 trial failed and is excluded from all numbers: sora at r = 4 (1).'],
  ]);
  const none = summarise(
    trials.map((trial) => failedTrial(trial, 'NaN')),
    stated,
  );
  expect(none.verdicts).toEqual([]);
});

it('does not rank arms without a budget that lack a seed, however good the others are', () => {
  const [high, low] = [around(0.9, 0.002), around(0.6, 0.002)];
  const trials = trialsOf({
    lora: { scores: [...high.slice(0, 4), ...low.slice(0, 2)] },
    ia3: { scores: high.slice(0, 4).map((score) => score - 0.02), isFree: true, stored: 5376 },
  });
  const verdict = verdictOf(trials);
  expect(verdict.best).toBe('lora');
  expect(verdict.sentences.at(-1)).toBe('Not ranked: ia3 (4 of 6 seeds on uci-sentiment).');
  expect(verdict.sentences.join(' ')).not.toMatch(/Too few seeds|The lead of/);
  const [alone] = verdictParagraphs(
    summarise(
      trials.filter(({ arm, seed }) => arm === 'ia3' || seed === 1),
      stated,
    ),
  );
  expect(alone?.[0]).toMatch(/^Too few seeds to tell/); // more seeds than its rival are no reason against an arm
});

it('says which arms were trained under other conditions, instead of comparing them', () => {
  const trials = trialsOf({
    lora: { scores: around(0.8, 0.03) },
    sora: { scores: around(0.801, 0.03, -1) },
    vera: { scores: around(0.5, 0.002) },
    dora: { scores: around(0.4, 0.002) },
  }).map((trial): DoneTrial => {
    if (trial.arm === 'vera') return { ...trial, engine: { ...trial.engine, dtype: 'q8' } };
    return trial.arm === 'dora' ? { ...trial, protocol: { ...trial.protocol, epochs: 30 } } : trial;
  });
  const verdict = verdictOf(trials);
  expect(verdict).toMatchObject({ best: 'sora', isReliable: false, open: ['lora'], worse: [] });
  expect(verdict.sentences).toContain('vera and dora are not compared with sora: trained under other conditions.');
  expect(verdict.sentences.join(' ')).toMatch(/The lead of sora over lora lies between .* and \+0\.0[2-4]\d/);
});

it('names the arms and budgets without results on every task', () => {
  const trials = trialsOf({
    lora: { scores: around(0.8, 0.002) },
    adalora: { scores: around(0.7, 0.003) },
    sora: { scores: around(0.9, 0.002) },
  });
  const isLost = ({ arm, task }: TrialResult): boolean => arm === 'sora' && task === 'uci-sentiment';
  const atEight = trials
    .filter(({ arm, task }) => arm === 'lora' && task !== 'uci-sentiment')
    .map((trial) => ({ ...trial, id: `${trial.id}-8`, budget: { ...trial.budget, spec: 'r=8', requested: 9e5 } }));
  const [atFour, alone] = verdictParagraphs(summarise([...trials.filter((each) => !isLost(each)), ...atEight], stated));
  expect(atFour?.[0]).toMatch(/^Use lora, the reliable winner at r = 4/);
  expect(atFour?.at(-1)).toBe('Not ranked: sora (no result on uci-sentiment).');
  expect(alone).toEqual([
    'No arm can be ranked at r = 8, over 2 tasks.',
    'Not ranked: lora (no result on uci-sentiment).',
  ]);
});

it('gives two arms of one name that choose their size different names', () => {
  const trials = trialsOf({
    lora: { scores: around(0.8, 0.002) },
    sora: { scores: around(0.801, 0.003), isFree: true, stored: 5376 },
  });
  const withSpec = (trial: DoneTrial, spec: string, by: number): DoneTrial => ({
    ...trial,
    id: `${trial.id}-${spec}`,
    budget: { ...trial.budget, spec },
    metrics: { accuracy: (trial.metrics.accuracy ?? NaN) - by },
  });
  const both = trials.flatMap((trial) =>
    trial.arm === 'sora' ? [withSpec(trial, 'auto', 0), withSpec(trial, 'auto:0.05', 0.2)] : [trial],
  );
  expect(verdictOf(both)).toMatchObject({
    best: 'sora (auto)',
    worse: ['sora (auto:0.05)'],
    equivalent: [['sora (auto)', 'lora']],
  });
});

it('prefers the lowest mean if less is better', () => {
  const trials = trialsOf({ lora: { scores: around(5, 0.1) }, sora: { scores: around(4, 0.1, -1) } }).map((trial) => ({
    ...trial,
    selection: { ...trial.selection, lowerIsBetter: true },
  }));
  const { sentences } = verdictOf(trials, { ...stated, margin: 0.1 });
  expect(sentences[0]).toMatch(/^Use sora, the reliable winner .* mean accuracy 4\.000, ahead of lora by 1\.000/);
});

it('says for each claim stated before the run whether it is shown', () => {
  const trials = trialsOf({ lora: { scores: around(0.8, 0.002) }, sora: { scores: around(0.8, 0.002, -1) } });
  const claim = { arm: 'sora', budget: 'r=4', noWorseThan: 'lora', itsBudget: 'r=4' };
  const claims = [claim, { ...claim, margin: 0.0001 }, { ...claim, arm: 'vera' }];
  const [, kept, open, untested] = verdictParagraphs(summarise(trials, { ...stated, claims }));
  expect(kept).toEqual([
    'Stated before the run and confirmed: sora at r = 4 loses less than 0.01 to lora at r = 4.',
    expect.stringMatching(/^The difference is 0\.000 \[.*\], adjusted p .*, over 2 tasks\.$/) as string,
  ]);
  expect(open?.[0]).toMatch(/^Stated before the run but not confirmed: sora at r = 4 loses less than /);
  expect(open?.at(-1)).toBe('Nor is the opposite shown.');
  const far = trialsOf({ lora: { scores: around(0.8, 0.002) }, sora: { scores: around(0.7, 0.002, -1) } });
  expect(verdictParagraphs(summarise(far, { ...stated, claims: [claim] })).at(-1)).toHaveLength(2); // the opposite is shown
  expect(untested).toEqual([
    'Stated before the run but not tested: vera at r = 4 loses less than 0.01 to lora at r = 4; vera has no result on uci-sentiment.',
  ]);
});

it('calls a tie a tie, and advises the arm that is best on average where the reference is worse', () => {
  const scores = around(0.8, 0.03);
  const { sentences } = verdictOf(
    trialsOf({ sora: { scores }, gora: { scores }, lora: { scores: around(0.5, 0.01) } }),
    { reference: 'lora' },
  );
  expect(sentences).toContain(
    'We cannot tell the best methods apart at r = 4, over 2 tasks; use gora, which is best on average.',
  );
  expect(sentences).toContain('sora ties with gora.');
});

it('claims nothing on fewer than 50 rows', () => {
  const scores = (score: number) => ({ scores: Array<number>(6).fill(score) });
  const on = (count: number, arms: Parameters<typeof trialsOf>[0] = { lora: scores(0.5), sora: scores(0.9) }) =>
    verdictOf(
      trialsOf(arms).map((trial) => {
        const predicted = Array.from({ length: count }, (_, row) =>
          Number(row < count * (trial.metrics.accuracy ?? 0)),
        );
        return { ...trial, rows: { actual: Array<number>(count).fill(1), predicted } };
      }),
    );
  expect(on(50)).toMatchObject({ best: 'sora', isReliable: true });
  expect(on(40)).toMatchObject({ best: 'sora', isReliable: false });
  expect(on(40).sentences.slice(0, 2)).toEqual([
    'Too few rows to tell these methods apart at r = 4, over 2 tasks; use sora, which is best on average.',
    'The scores rest on only 40 rows; ranking methods takes at least 50.',
  ]);
  expect(on(40).sentences.join(' ')).not.toContain('reliably');
  const withHead = { head: scores(0.3), lora: scores(0.5), sora: scores(0.9) };
  expect(on(50, withHead).sentences.at(-1)).toMatch(/^Each of them beats head/);
  expect(on(40, withHead).sentences.join(' ')).not.toMatch(/beat|reliably/);
  expect(on(40, { lora: scores(0.5) }).sentences.at(-1)).toMatch(/^The scores rest on only 40 rows/);
});

it.each([
  ['at the budget', (trial: DoneTrial) => trial],
  ['without budgets', (trial: DoneTrial) => ({ ...trial, budget: { ...trial.budget, requested: null, spec: 'none' } })],
])('names no winner %s that is reliably worse than the frozen model', (_, of) => {
  const arms = { head: { scores: around(0.9, 0.002) }, lora: { scores: around(0.8, 0.003) } };
  const verdict = verdictOf(trialsOf({ ...arms, sora: { scores: around(0.85, 0.003, -1) } }).map(of));
  expect(verdict).toMatchObject({ best: 'sora', isReliable: false, worse: ['lora'], aboveBaseline: [] });
  expect(verdict.sentences[0]).toMatch(/^Use head: nothing is reliably better/);
  expect(verdict.sentences.slice(1, 3)).toEqual([
    'sora has the highest mean accuracy after head, 0.850.',
    'lora is reliably worse than sora, by 0.050.',
  ]);
});

describe('the results of an earlier run in the folder, under other conditions', () => {
  const earlier = (arms: Parameters<typeof trialsOf>[0]): DoneTrial[] =>
    trialsOf(arms).map((trial) => ({
      ...trial,
      ...{ id: `${trial.id}-1`, finishedAt: '2026-11-01T00:00:00.000Z' },
      protocol: { ...trial.protocol, epochs: 1 },
    }));
  const [sora, lora] = [{ scores: around(0.9, 0.003) }, { scores: around(0.8, 0.003, -1) }];

  it('unrank no arm, though they have more seeds', () => {
    const more = earlier({ vera: { scores: [...around(0.7, 0.01), 0.7, 0.7] } });
    const { verdicts, rows } = summarise([...trialsOf({ lora, sora }), ...more], stated);
    expect(rows.map(({ unranked }) => unranked)).toEqual(rows.map(() => null));
    const [{ sentences } = expect.fail()] = mainVerdicts(verdicts);
    expect(sentences).toEqual([
      'Use sora at r = 4, over 2 tasks: it is reliably better than every other candidate trained under the same conditions.',
      'sora has the highest mean accuracy, 0.900.',
      'lora is reliably worse than sora, by 0.100.',
      'vera is not compared with sora: trained under other conditions.',
    ]);
  });

  it('recommend no arm, and no more seeds, if the best mean is among them', () => {
    const { sentences } = verdictOf([
      ...trialsOf({ lora, sora }),
      ...earlier({ vera: { scores: around(0.95, 0.003) } }),
    ]);
    expect(sentences).toEqual([
      'No arm can be recommended at r = 4, over 2 tasks: vera has the best mean, but no other candidate was trained under its conditions.',
      'vera has the highest mean accuracy, 0.950.',
      'sora and lora are not compared with vera: trained under other conditions.',
    ]);
  });

  it('recommend their frozen model, if it is not worse than the best mean', () => {
    const before = earlier({ head: { scores: around(0.96, 0.002) }, vera: { scores: around(0.95, 0.003) } });
    const { sentences } = verdictOf([...trialsOf({ lora, sora }), ...before]);
    expect(sentences[0]).toBe('Use head: nothing is reliably better at r = 4, over 2 tasks.');
  });

  it('give no frozen model to compare with, and no rows that would be too few', () => {
    const before = earlier({ head: { scores: around(0.85, 0.002) }, lora: { scores: around(0.7, 0.002) } });
    const rows = { actual: [1, 0], predicted: [1, 1] };
    const now = trialsOf({ head: { scores: around(0.75, 0.002) }, lora, sora });
    const { sentences } = verdictOf([...before.map((trial) => ({ ...trial, rows })), ...now]);
    expect(sentences[0]).toMatch(/^Use sora at r = 4, over 2 tasks: /);
    expect(sentences).toContain('Each of them beats head (2) (0.750) by 0.050 to 0.150.');
  });

  it('leave the reference what it is, on the tasks and over them', () => {
    const now = trialsOf({ lora: { scores: around(0.8, 0.04) }, sora: { scores: around(0.805, 0.04, -1) } });
    const summary = summarise([...earlier({ lora: { scores: around(0.5, 0.002) } }), ...now], stated);
    const differences = [...summary.rows, ...summary.overall].flatMap(({ label, difference }) =>
      difference ? [`${label} - ${difference.to}`] : [],
    );
    expect(differences).toEqual(['sora - lora (2)', 'sora - lora (2)', 'sora - lora (2)']);
    expect(mainVerdicts(summary.verdicts)[0]?.sentences[0]).toMatch(
      /; use lora \(2\), which the others are compared with\.$/,
    );
  });
});

it('does not advise a frozen model that lacks seeds, and says so', () => {
  const { sentences } = verdictOf(
    trialsOf({
      head: { scores: [0.5, 0.51] },
      lora: { scores: around(0.8, 0.003) },
      sora: { scores: around(0.8, 0.004, -1) },
    }),
  );
  expect(sentences[0]).toMatch(/; use lora, which the others are compared with\.$/);
  expect(sentences.at(-1)).toBe('Not ranked: head (2 of 6 seeds on uci-sentiment).');
  expect(sentences.join(' ')).not.toContain('Nothing is reliably better');
});

it('does not take an adapter that has lost all its ranks for the frozen model', () => {
  const arms = { head: HEAD, lora: { scores: around(0.8, 0.003) }, sora: { scores: around(0.75, 0.003, -1) } };
  const trials = trialsOf({ ...arms, sora: { ...arms.sora, isFree: true, stored: 0 } }).map((trial) =>
    trial.arm === 'sora' ? { ...trial, parameters: { ...trial.parameters, storedMean: 4000 } } : trial,
  );
  const { sentences } = verdictOf(trials);
  expect(sentences).toContain('Each of them beats head (0.700) by 0.050 to 0.100.');
  expect(renderMarkdown(trials, summarise(trials, stated))).toContain('| sora (kept no rank) |');
});

it('says if arms at a budget differ in size', () => {
  const sizes = (by: number): string[] =>
    verdictOf(
      trialsOf({ lora: { scores: around(0.8, 0.003) }, sora: { scores: around(0.85, 0.003, -1) } }).map((trial) =>
        trial.arm === 'sora'
          ? { ...trial, budget: { ...trial.budget, requested: by * (trial.budget.requested ?? NaN) } }
          : trial,
      ),
    ).sentences.slice(1);
  expect(sizes(1)).toEqual([]);
  expect(sizes(4)).toEqual([
    'Arms differ in size: r = 4 stands for 57,344 to 229,376 parameters, depending on the modules that an arm adapts.',
  ]);
});
