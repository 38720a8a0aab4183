import { expect, it } from 'vitest';
import { failedTrial, syntheticResults, withNames } from '../../../cli/test/synthetic-results.js';
import type { DoneTrial, TrialResult } from '@peftjs/cli/results';
import { renderSummaryCsv, renderMarkdown } from './files.js';
import { renderBlocks } from './page.js';
import { stabilityBlocks } from './stability.js';
import { summarise } from './statistics/summary.js';

const TITLE = 'What decides which ranks are kept?';
const TASKS = ['uci-sentiment', 'wordnet-supersense'];

/** Trials whose ranks depend on the seed, as SoRA's do, or on the task, as AdaLoRA's do. */
const results = syntheticResults({ methods: ['lora', 'sora', 'adalora'], seeds: 4 }).map((trial): DoneTrial => {
  if (trial.arm === 'lora') return trial;
  const shift = trial.arm === 'sora' ? trial.seed : TASKS.indexOf(trial.task);
  const paths = Object.keys(trial.ranks);
  return { ...trial, ranks: Object.fromEntries(paths.map((path, index) => [path, (index + 5 * shift) % 12])) };
});

const summaryOf = (trials: readonly TrialResult[]) => summarise(trials, { reference: 'lora' });

/** The section of the page; empty if there is none. */
async function sectionOf(trials: readonly TrialResult[]): Promise<string> {
  return (await renderBlocks(stabilityBlocks(trials, summaryOf(trials)))).text;
}

/** The cells of the section's table in Markdown: one array per arm and budget. */
function rowsOf(trials: readonly TrialResult[]): string[][] {
  const [, section = ''] = renderMarkdown(trials, summaryOf(trials)).split(`## ${TITLE}`);
  const [, , table = ''] = section.split('\n\n');
  return table
    .split('\n')
    .slice(2)
    .map((line) => line.split('|').slice(1, -1))
    .map((cells) => cells.map((cell) => cell.trim()));
}

it('the report says for each adaptive arm what decides its ranks', async () => {
  const [adalora = [], sora = [], ...others] = rowsOf(results);
  expect(others).toEqual([]);
  expect(adalora.slice(0, 3)).toEqual(['adalora', 'r=4', '1.000 (Jaccard\u00a01.000;\u00a012\u00a0pairs)']);
  expect(adalora.at(-1)).toBe('Seeds agree more than tasks do: the choice follows the task.');
  expect(sora[3]).toBe('1.000 (Jaccard\u00a01.000;\u00a04\u00a0pairs)');
  expect(sora.at(-1)).toBe('Tasks of one seed agree more than seeds of one task: the initial draw decides.');
  const section = await sectionOf(results);
  expect(section).toContain(`<h2><bdi>${TITLE}</bdi></h2>`);
  expect(section).toContain('the choice follows the task.');
  expect(section).toContain('the initial draw decides.');
  expect(section.split('<tr>')).toHaveLength(1 + 1 + 2);
  expect(section.split('<svg')).toHaveLength(1 + 2);
});

it('the report has no such section if every arm keeps one rank everywhere', async () => {
  const uniform = syntheticResults({ methods: ['head', 'lora'] });
  expect(summaryOf(uniform).stability).toEqual([]);
  expect(renderMarkdown(uniform, summaryOf(uniform))).not.toContain(TITLE);
  expect(await sectionOf(uniform)).toBe('');
});

it('the report says why a verdict is impossible', () => {
  const saying = (keep: (trial: DoneTrial) => boolean): string | undefined =>
    rowsOf(results.filter((trial) => trial.arm === 'sora' && keep(trial)))[0]?.at(-1);
  expect(saying(({ seed }) => seed <= 2)).toBe('Open: at least 3 seeds are needed.');
  expect(saying(({ seed }) => seed === 1)).toBe('Open: no two seeds share a task.');
  expect(saying(({ task }) => task === TASKS[0])).toBe('Open: no two tasks share a seed.');
  const fixed = results.filter(({ arm, task, seed }) => arm === 'adalora' && task === TASKS[0] && seed < 3);
  expect(rowsOf(fixed)[0]?.at(-1)).toBe('Every trial kept the same ranks.');
});

it('the report counts pairs without a correlation, and leaves out failed trials', () => {
  const sora = results.filter(({ arm }) => arm === 'sora');
  const [first, second, ...rest] = sora as [DoneTrial, DoneTrial, ...DoneTrial[]];
  const flat = { ...first, ranks: Object.fromEntries(Object.keys(first.ranks).map((path) => [path, 2])) };
  const [row = []] = rowsOf([flat, failedTrial(second, 'NaN'), ...rest]);
  expect(row[2]).toMatch(/;\s9\spairs, 2 without a\scorrelation\)$/);
  expect(row[3]).toMatch(/;\s3\spairs, 1 without a\scorrelation\)$/);
});

it('the section names models if there are several, and escapes names', async () => {
  const other = withNames(results, { model: '<b>other</b>' }).map((trial) => ({ ...trial, id: `o${trial.id}` }));
  const both = [...results, ...other];
  expect(rowsOf(both)).toHaveLength(4);
  expect(await sectionOf(both)).toContain('<small><bdi>&lt;b&gt;other&lt;/b&gt;</bdi></small>');
});

it('summary.csv has the agreement in the lines over the tasks, or in those of the only task', () => {
  const table = (trials: readonly TrialResult[]): Record<string, string>[] => {
    const [header = '', ...lines] = renderSummaryCsv(summaryOf(trials)).trim().split('\r\n');
    const columns = header.split(',');
    return lines.map((line) => {
      const cells = line.split(',').map((cell, index): [string, string] => [columns[index] ?? '', cell]);
      return Object.fromEntries(cells);
    });
  };
  const verdicts = (lines: readonly Record<string, string>[]): unknown[][] =>
    lines.flatMap(({ task, arm, ranksVerdict, ranksOfSeedsJaccard, ranksOfTasksJaccard }) =>
      ranksVerdict === '' ? [] : [[task, arm, ranksVerdict, ranksOfSeedsJaccard === '1', ranksOfTasksJaccard]],
    );
  const [, onlyFirst] = TASKS.map((task) => results.filter((trial) => trial.task !== task));
  expect(verdicts(table(results)).sort()).toEqual([
    ['', 'adalora', 'task', true, expect.stringMatching(/^0\.\d+$/) as unknown],
    ['', 'sora', 'draw', false, '1'],
  ]);
  expect(verdicts(table(onlyFirst ?? [])).sort()).toEqual([
    [TASKS[0], 'adalora', 'same', true, ''],
    [TASKS[0], 'sora', 'open', false, ''],
  ]);
});
