import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Summary } from '@peftjs/bench';
import { expect, it } from 'vitest';
import { newPage, withRegions, type Published } from './regions.js';
import { scoresOf } from './scores.js';
import { standaloneSvg } from './standalone-svg.js';

const benchmarks = fileURLToPath(new URL('../../docs/benchmarks/', import.meta.url));
const published = readdirSync(`${benchmarks}results`).filter((name) =>
  readdirSync(`${benchmarks}results/${name}`).includes('run.tar.gz'),
);

it('finds the published results', () => {
  expect(published).toContain('standard');
});

it.each(published)("the page of '%s' matches its run", (name) => {
  const page = readFileSync(`${benchmarks}${name}.md`, 'utf8');
  const summary = JSON.parse(readFileSync(`${benchmarks}results/${name}/summary.json`, 'utf8')) as Published;
  expect(page).toBe(withRegions(page, summary));
  expect(page).toContain(`](results/${name}/report.html)`);
});

it('extracts a chart of a report with all the colours that it uses', () => {
  const report = readFileSync(`${benchmarks}results/standard/report.html`, 'utf8');
  const svg = standaloneSvg(report, 'Mean over the tasks');
  expect(svg).toMatch(/^<svg xmlns="http:\/\/www.w3.org\/2000\/svg" /);
  const named = new Set([...svg.matchAll(/var\((--[a-z0-9-]+)\)/g)].map(([, colour]) => colour));
  for (const colour of named) expect(svg).toContain(`${colour}:#`);
  expect(() => standaloneSvg(report, 'A missing chart')).toThrow(/got none/);
});

it('tabulates tasks of one budget side by side, with differences from the reference, for each model', () => {
  const models = ['small', 'large'].map((model, index) => {
    const rows = ['a', 'b'].flatMap((task) => [scored({ model, task }), scored({ model, task, gain: index - 0.25 })]);
    return { rows, overall: [scored({ model }), scored({ model, gain: index - 0.25 })] };
  });
  const [rows, overall] = [models.flatMap((each) => each.rows), models.flatMap((each) => each.overall)];
  expect(scoresOf({ rows, overall })).toBe(`### small

| arm | mean | a | b |
| --- | --: | --: | --: |
| head | 0.500 | 0.500 | 0.500 |
| lora | 0.250 (−0.250) | 0.250 (−0.250) | 0.250 (−0.250) |

### large

| arm | mean | a | b |
| --- | --: | --: | --: |
| lora | 1.250 (+0.750) | 1.250 (+0.750) | 1.250 (+0.750) |
| head | 0.500 | 0.500 | 0.500 |`);
});

/** A row of a summary: of the head, or of LoRA that is better by `gain`. */
function scored({ model = '', task = '', gain = 0 }): Summary['rows'][number] & Summary['overall'][number] {
  const arm = gain === 0 ? { label: 'head', budget: { spec: 'none' } } : { label: 'lora', budget: { spec: 'r=4' } };
  const difference = gain === 0 ? null : { mean: gain };
  return { model, task, ...arm, difference, score: { mean: 0.5 + gain, interval: null } } as ReturnType<typeof scored>;
}

it('writes verdict and scores into a new page, and rejects a page without marks', () => {
  const summary = JSON.parse(readFileSync(`${benchmarks}results/standard/summary.json`, 'utf8')) as Published;
  const verdict = { model: 'm', task: null, budget: 'r=4', sentences: ['No reliable winner.', 'a_b is first.'] };
  const judged = { ...summary, margin: null, claims: [], verdicts: [{ ...verdict, ...NOTHING }] };
  const page = withRegions(newPage('standard', ['pareto']), judged);
  expect(page).toContain('**No reliable winner.** a\\_b is first.\n');
  expect(page).toContain('| houlsby |');
  expect(withRegions(page, judged)).toBe(page);
  expect(() => withRegions('# A page\n', judged)).toThrow(/expected .* in the page/);
});

const NOTHING = {
  ...{ best: null, isReliable: false, equivalent: [], open: [], worse: [], aboveBaseline: [], smallest: null },
};
