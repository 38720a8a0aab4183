import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Summary } from '@peftjs/bench';
import { expect, it } from 'vitest';
import { scoresOf, withScores } from './scores.js';
import { standaloneSvg } from './standalone-svg.js';

const benchmarks = fileURLToPath(new URL('../../docs/benchmarks/', import.meta.url));
const published = readdirSync(`${benchmarks}results`).filter((name) =>
  readdirSync(`${benchmarks}results/${name}`).includes('run.tar.gz'),
);

it('finds what is published', () => {
  expect(published).toContain('standard');
});

it.each(published)("the page of '%s' has the scores of its run", (name) => {
  const page = readFileSync(`${benchmarks}${name}.md`, 'utf8');
  const summary = JSON.parse(readFileSync(`${benchmarks}results/${name}/summary.json`, 'utf8')) as Summary;
  expect(page).toBe(withScores(page, scoresOf(summary)));
  expect(page).toContain(`](results/${name}/report.html)`);
});

it('makes a chart of a report a file of its own, with all the colours that it names', () => {
  const report = readFileSync(`${benchmarks}results/standard/report.html`, 'utf8');
  const svg = standaloneSvg(report, 'Mean over the tasks');
  expect(svg).toMatch(/^<svg xmlns="http:\/\/www.w3.org\/2000\/svg" /);
  const named = new Set([...svg.matchAll(/var\((--[a-z0-9-]+)\)/g)].map(([, colour]) => colour));
  for (const colour of named) expect(svg).toContain(`${colour}:#`);
  expect(() => standaloneSvg(report, 'A chart that is not there')).toThrow(/got none/);
});

it('does not write scores into a page without a place for them', () => {
  expect(() => withScores('# A page\n', '')).toThrow(/expected .* in the page/);
});
