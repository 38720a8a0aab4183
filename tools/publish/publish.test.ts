import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { newPage, withRegions, type Published } from './regions.js';
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
