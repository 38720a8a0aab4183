import { describe, expect, it } from 'vitest';
import { failedTrial, syntheticResults } from '../../../../cli/test/synthetic-results.js';
import { primaryMetric, type DoneTrial } from '@peftjs/cli/results';
import type { ScoredRow, SummaryRow } from './rows.js';
import { summarise } from './summary.js';

const reference = 'lora';
const results = syntheticResults({ tasks: ['uci-sentiment'], seeds: 6 });

const lowerIsBetter = (trial: DoneTrial): DoneTrial => ({
  ...trial,
  selection: { ...trial.selection, lowerIsBetter: true },
});

function rowOf(rows: readonly SummaryRow[], label: string): SummaryRow {
  const row = rows.find((candidate) => candidate.label === label);
  if (!row) expect.fail(`there is no row '${label}' among ${rows.map((candidate) => candidate.label).join(', ')}`);
  return row;
}

describe('summarise', () => {
  it('gives a row per method, budget and task', () => {
    const { rows } = summarise(syntheticResults({ ranks: [2, 4] }), { reference });
    expect(rows.map(({ task, label, budget }) => `${task} ${label} ${budget.spec}`).sort()).toEqual(
      ['uci-sentiment', 'wordnet-supersense'].flatMap((task) =>
        ['adalora r=2', 'adalora r=4', 'head none', 'lora r=2', 'lora r=4', 'sora r=2', 'sora r=4'].map(
          (arm) => `${task} ${arm}`,
        ),
      ),
    );
  });

  it('gives a row to every arm, whichever method it has', () => {
    const other = results
      .filter(({ method }) => method === 'sora')
      .map((trial) => ({ ...trial, arm: 'sora-hard', id: `hard-${trial.id}` }));
    const { rows } = summarise([...results, ...other], { reference: 'sora-hard' });
    expect(
      rows
        .filter(({ method }) => method === 'sora')
        .map(({ label }) => label)
        .sort(),
    ).toEqual(['sora', 'sora-hard']);
    expect(rowOf(rows, 'sora').difference).toMatchObject({ to: 'sora-hard', mean: 0, p: 1 });
  });

  it('pairs differences by seed, whatever the order of the files', () => {
    const { difference } = rowOf(summarise([...results].reverse(), { reference }).rows, 'sora');
    const of = (method: string, seed: number): number =>
      primaryMetric(results.find((trial) => trial.method === method && trial.seed === seed) as DoneTrial);
    const expected = [1, 2, 3, 4, 5, 6].reduce((sum, seed) => sum + of('sora', seed) - of('lora', seed), 0) / 6;
    expect(difference).toMatchObject({ to: 'lora', pairs: 6 });
    expect(difference?.mean).toBeCloseTo(expected, 12);
  });

  it('compares a method without a budget with the reference only if that is unambiguous', () => {
    expect(rowOf(summarise(results, { reference: 'head' }).rows, 'lora').difference?.to).toBe('head');
    expect(rowOf(summarise(results, { reference }).rows, 'head').difference).toBeNull();
  });

  it('ranks by the mean, and only rows that met their budget in every seed', () => {
    const best = summarise(results, { reference }).rows.find(({ rank }) => rank === 1);
    const spoiled = results.map((trial) =>
      trial.method === best?.method && trial.seed === 2 ? { ...trial, budget: { ...trial.budget, met: false } } : trial,
    );
    const { rows } = summarise(spoiled, { reference });
    expect(rowOf(rows, String(best?.label))).toMatchObject({ rank: null, unranked: 'budget missed' });
    expect(rows.filter(({ rank }) => rank === 1)).toHaveLength(1);
    expect(rowOf(rows, 'head').unranked).toBe('no budget');
  });

  it('ranks the lowest mean first if less is better; differences keep their sign', () => {
    const [rows, reversed] = [results, results.map(lowerIsBetter)].map((of) => summarise(of, { reference }).rows) as [
      SummaryRow[],
      SummaryRow[],
    ];
    const ranked = (of: readonly SummaryRow[]): string[] => of.flatMap(({ rank, label }) => (rank ? [label] : []));
    expect(ranked(rows)).toHaveLength(3);
    expect(ranked(reversed)).toEqual(ranked(rows).reverse());
    expect(reversed.map(({ lowerIsBetter }) => lowerIsBetter)).toEqual(reversed.map(() => true));
    expect(rowOf(reversed, 'sora').rank).toBe(4 - (rowOf(rows, 'sora').rank ?? 0));
    expect(rowOf(reversed, 'sora').difference).toEqual(rowOf(rows, 'sora').difference);
  });

  it('does not rank a row that lacks seeds, and lists failed trials', () => {
    const [first, ...rest] = results.filter(({ method }) => method === 'sora');
    if (!first) expect.fail('no trial');
    const others = results.filter(({ method }) => method !== 'sora');
    const { rows, failed } = summarise([...others, ...rest, failedTrial(first, 'loss is NaN')], { reference });
    expect(rowOf(rows, 'sora')).toMatchObject({ rank: null, unranked: '5 of 6 seeds', difference: { pairs: 5 } });
    expect(failed).toEqual([
      {
        id: first.id,
        arm: 'sora',
        method: 'sora',
        task: 'uci-sentiment',
        budget: 'r=4',
        seed: 1,
        message: 'loss is NaN',
      },
    ]);
  });

  it('does not rank arms that lack different seeds', () => {
    const lacks = { lora: 1, sora: 2 } as Record<string, number>;
    const { rows, verdicts } = summarise(
      results.filter(({ arm, seed }) => seed !== lacks[arm]),
      { reference },
    );
    for (const arm of ['lora', 'sora']) expect(rowOf(rows, arm).unranked).toBe('5 of 6 seeds');
    expect(JSON.stringify(verdicts)).toContain('Not ranked: sora (5 of 6 seeds) and lora (5 of 6 seeds).');
  });

  it('gives a configuration one number on all tasks, in whatever order it ran on them', () => {
    const both = syntheticResults({ methods: ['head', 'sora'] });
    const again = (learningRate: number, task: string, day: number): DoneTrial[] =>
      both.flatMap((trial) => {
        if (trial.arm !== 'sora' || trial.task !== task) return [];
        return {
          ...trial,
          learningRate,
          id: `${trial.id}-${learningRate}`,
          finishedAt: `2027-01-0${day}T00:00:00.000Z`,
        };
      });
    const [first, second] = ['uci-sentiment', 'wordnet-supersense'] as const;
    const trials = [...again(1, first, 1), ...again(2, first, 2), ...again(2, second, 3), ...again(1, second, 4)];
    const { rows } = summarise([...both.filter(({ arm }) => arm === 'head'), ...trials], { reference: 'head' });
    const numbered = rows.filter(({ arm }) => arm === 'sora').map(({ label, learningRate }) => [label, learningRate]);
    expect(new Set(numbered.map(String))).toEqual(new Set(['sora (1),1', 'sora (2),2']));
  });

  it('separates configurations and numbers them, oldest first', () => {
    const slower = results
      .filter(({ method }) => method === 'sora')
      .map((trial) => ({ ...trial, id: `${trial.id}-b`, learningRate: 1e-4, finishedAt: '2027-01-01T00:00:00.000Z' }));
    const { rows } = summarise([...slower, ...results], { reference });
    expect(rowOf(rows, 'sora (1)').learningRate).toBe(2e-3);
    expect(rowOf(rows, 'sora (2)').learningRate).toBe(1e-4);
  });

  it('separates rates of groups of parameters', () => {
    const faster = results
      .filter(({ method }) => method === 'sora')
      .map((trial) => ({ ...trial, id: `${trial.id}-b`, learningRates: { gate: 0.1 } }));
    expect(rowOf(summarise([...results, ...faster], { reference }).rows, 'sora (2)').seeds).not.toEqual([]);
  });

  it('does not separate trials that state a default from those that do not', () => {
    const stated = results.map((trial) =>
      trial.seed > 1 ? { ...trial, protocol: { ...trial.protocol, dropout: 0, scaling: null } } : trial,
    );
    const seeds = (of: typeof results) => rowOf(summarise(of, { reference }).rows, 'sora').seeds;
    expect(seeds(stated)).toEqual(seeds(results));
  });

  it('never compares numbers of different engines', () => {
    const elsewhere = results.map((trial) =>
      trial.method === 'sora' ? { ...trial, engine: { ...trial.engine, dtype: 'q8' } } : trial,
    );
    expect(rowOf(summarise(elsewhere, { reference }).rows, 'sora').difference).toBeNull();
  });

  it('never compares or ranks budgets that count different parameters', () => {
    const trained = results.map((trial) =>
      trial.method === 'sora' ? { ...trial, budget: { ...trial.budget, matchedOn: 'trained' as const } } : trial,
    );
    const { rows, comparisons } = summarise(trained, { reference });
    expect(rowOf(rows, 'sora')).toMatchObject({ difference: null, rank: 1 });
    expect(rows.filter(({ rank }) => rank === 1)).toHaveLength(2);
    expect(comparisons.some(({ a, b }) => a === 'sora' || b === 'sora')).toBe(false);
  });

  it('orders rows by their mean, and ranks each among those under the same conditions, on tasks and over them', () => {
    const trials = syntheticResults({ seeds: 2 }).map((trial) =>
      trial.arm === 'adalora' ? { ...trial, budget: { ...trial.budget, matchedOn: 'trained' as const } } : trial,
    );
    const { rows, overall } = summarise(trials, { reference });
    const ranked = (of: readonly ScoredRow[]) =>
      of.flatMap(({ label, rank }) => (rank === null ? [] : `${rank} ${label}`));
    expect(ranked(rows.filter(({ task }) => task === 'uci-sentiment'))).toEqual(['1 lora', '2 sora', '1 adalora']);
    expect(ranked(overall)).toEqual(['1 sora', '2 lora', '1 adalora']);
  });

  it('says that fewer than six seeds cannot reach p < 0.05', () => {
    const few = summarise(syntheticResults({ seeds: 2 }), { reference }).notes.join(' ');
    expect(few).toContain('smallest possible p is 0.5');
    expect(few).toContain('p < 0.05 cannot be reached');
    expect(summarise(results, { reference }).notes.join(' ')).not.toContain('cannot be reached');
  });

  it('explains intervals although one row has a single seed', () => {
    const { notes } = summarise([...results, ...syntheticResults({ methods: ['bitfit'], seeds: 1 })], { reference });
    expect(notes.join(' ')).toMatch(/Some rows rest on one seed.*Intervals are 95 %.*With 6 seeds they are too narrow/);
  });

  it('gives identical scores p = 1 and no difference, on a task and over tasks', () => {
    const both = syntheticResults({ methods: ['lora'], seeds: 6 });
    const twin = both.map((trial) => ({ ...trial, id: `twin-${trial.id}`, arm: 'twin' }));
    const { rows, overall, comparisons } = summarise([...both, ...twin], { reference });
    const nothing = { mean: 0, interval: { low: 0, high: 0 }, p: 1, pHolm: 1 };
    expect(comparisons.map(({ task, a, b }) => [task, a, b])).toEqual([
      ['uci-sentiment', 'lora', 'twin'],
      ['wordnet-supersense', 'lora', 'twin'],
      [null, 'lora', 'twin'],
    ]);
    for (const comparison of comparisons) expect(comparison).toMatchObject(nothing);
    expect(rowOf(rows, 'twin').difference).toMatchObject(nothing);
    expect(overall.find(({ label }) => label === 'twin')?.difference).toMatchObject({ ...nothing, pairs: 12 });
  });

  it('detects a planted difference; Holm covers the pairs of a budget, on each task and over the tasks', () => {
    const trials = syntheticResults({ methods: ['lora', 'adalora', 'sora'], seeds: 6 }).map((trial) =>
      trial.arm === 'sora' ? { ...trial, metrics: { accuracy: primaryMetric(trial) + 0.2 } } : trial,
    );
    const { comparisons, rows, overall } = summarise(trials, { reference });
    const found = comparisons.filter(({ a, b }) => a === 'lora' && b === 'sora');
    expect(found.map(({ p }) => p)).toEqual([2 / 2 ** 6, 2 / 2 ** 6, 2 / 2 ** 12]);
    expect(found.map(({ pHolm }) => pHolm)).toEqual([6 / 2 ** 6, 6 / 2 ** 6, 6 / 2 ** 12]);
    const { difference } = rowOf(rows, 'sora');
    expect(difference).toMatchObject({ p: 2 / 2 ** 6, pHolm: 6 / 2 ** 6 });
    expect(difference?.mean).toBeCloseTo(-(found[0]?.mean ?? 0), 12);
    expect(difference?.interval?.low).toBeCloseTo(-(found[0]?.interval?.high ?? 0), 12);
    expect(overall.find(({ label }) => label === 'sora')).toMatchObject({
      rank: 1,
      difference: { pHolm: 6 / 2 ** 12 },
    });
  });

  it('averages over tasks only arms trained on all of them, and metrics of one direction', () => {
    const both = syntheticResults({ seeds: 2 });
    const partly = both.filter(({ arm, task }) => arm !== 'sora' || task === 'uci-sentiment');
    const labels = (of: readonly DoneTrial[]): string[] => summarise(of, { reference }).overall.map((row) => row.label);
    expect(labels(both).sort()).toEqual(['adalora', 'head', 'lora', 'sora']);
    expect(labels(partly).sort()).toEqual(['adalora', 'head', 'lora']);
    expect(labels(results)).toEqual([]);
    const mixed = both.map((trial) => (trial.task === 'uci-sentiment' ? lowerIsBetter(trial) : trial));
    expect(labels(mixed)).toEqual([]);
    expect(summarise(mixed, { reference }).notes.join(' ')).toContain('no mean over tasks');
    const another = results.map((trial) => ({ ...lowerIsBetter(trial), model: 'gpt2' }));
    expect(summarise([...both, ...another], { reference }).notes.join(' ')).not.toContain('no mean over tasks');
  });

  it('compares every pair at a budget, arms without a budget at each, whatever the order of the files', () => {
    const trials = syntheticResults({ ranks: [2, 4], seeds: 3 });
    const { comparisons } = summarise(trials, { reference });
    expect(comparisons).toHaveLength(2 * 6 * 3); // budgets x pairs x (tasks and over them)
    expect(comparisons.filter(({ a, b }) => a === 'head' && b === 'lora').map(({ budget }) => budget)).toEqual(
      ['r=2', 'r=2', 'r=4', 'r=4', 'r=2', 'r=4'], // on tasks, then over them
    );
    expect(summarise([...trials].reverse(), { reference }).comparisons).toEqual(comparisons);
  });

  it('distinguishes an arm that chooses its size from the same arm at a budget', () => {
    const auto = results
      .filter(({ arm }) => arm === 'sora')
      .map((trial) => ({
        ...trial,
        id: `auto-${trial.id}`,
        budget: { ...trial.budget, requested: null, spec: 'auto' },
      }));
    const { comparisons } = summarise([...results, ...auto], { reference });
    expect(comparisons).toHaveLength(10);
    expect(comparisons.find(({ a, b }) => a === 'sora' && b === 'sora (auto)')).toMatchObject({
      mean: 0,
      budget: 'r=4',
    });
  });

  it('compares an arm that chooses its size by its own scores, not by those of the same arm at a budget', () => {
    const trials = syntheticResults({ methods: ['head', 'lora', 'sora'], seeds: 3 });
    const auto = trials
      .filter(({ arm }) => arm === 'sora')
      .map((trial) => ({
        ...trial,
        ...{ id: `auto-${trial.id}`, finishedAt: '2000-01-01T00:00:00.000Z' },
        ...{ budget: { ...trial.budget, requested: null, spec: 'auto' } },
        metrics: { accuracy: primaryMetric(trial) - 0.3 },
      }));
    const differences = (against: string): string[] => {
      const { rows, overall } = summarise([...trials, ...auto], { reference: against });
      const meanOf = (to: string, { task, budget }: { task?: string; budget: { spec: string } }): number => {
        const spec = to === 'head' ? 'none' : to === 'sora (auto)' ? 'auto' : budget.spec;
        const arm = to.replace(' (auto)', '');
        const among = task === undefined ? overall : rows.filter((row) => row.task === task);
        return among.find(({ label, budget: of }) => label === arm && of.spec === spec)?.score.mean ?? NaN;
      };
      return [...rows, ...overall].flatMap((row) => {
        const { label, budget, score, difference } = row;
        if (!difference) return [];
        expect(difference.mean).toBeCloseTo(score.mean - meanOf(difference.to, row), 12);
        return `${label} ${budget.spec} - ${difference.to}`;
      });
    };
    const againstHead = ['sora auto - head', 'lora r=4 - head', 'sora r=4 - head'];
    expect(differences('head').sort()).toEqual([...againstHead, ...againstHead, ...againstHead].sort());
    const againstSora = ['head none - sora (auto)', 'lora r=4 - sora'];
    expect(differences('sora').sort()).toEqual([...againstSora, ...againstSora, ...againstSora].sort());
  });

  it('says what six seeds cannot show on a single task', () => {
    const notes = summarise(syntheticResults({ seeds: 6 }), { reference }).notes.join(' ');
    expect(notes).toContain('is 0.03125, and 0.1875 over 6 pairs');
    expect(notes).toContain('takes 8 seeds');
  });

  it('is the same for the same results, and valid JSON', () => {
    const summary = summarise(results, { reference });
    expect(summarise(results, { reference })).toEqual(summary);
    expect(JSON.parse(JSON.stringify(summary))).toEqual(summary);
  });
});
