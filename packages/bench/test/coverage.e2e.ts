import { readFileSync } from 'node:fs';
import { createRng, type Rng } from '@peftjs/core/method';
import { expect, it } from 'vitest';
import { bootstrapInterval } from '../src/report/statistics/estimates.js';

const page = readFileSync(new URL('../../../docs/concepts/comparisons.md', import.meta.url), 'utf8');
/** Seeds, and the percentages that the page states for normal and for exponential differences. */
const stated = [...page.matchAll(/^\| (\d+) +\| (\d+) % +\| (\d+) % +\|$/gm)].map((row) => row.slice(1).map(Number));

const distributions: readonly ((rng: Rng) => number)[] = [
  (rng) => rng.normal(),
  (rng) => -Math.log(1 - rng.uniform()) - 1, // exponential, with mean 0
];

/** The percentage of intervals of so many seeds that contain the true mean, 0. */
function coverage(seeds: number, draw: (rng: Rng) => number, studies = 1_000): number {
  const rng = createRng(0).fork(`${seeds} seeds`);
  let covered = 0;
  for (let study = 0; study < studies; study++) {
    const { low, high } = bootstrapInterval([Array.from({ length: seeds }, () => draw(rng))]);
    if (low <= 0 && 0 <= high) covered++;
  }
  return (100 * covered) / studies;
}

it.each(stated)('intervals of %i seeds cover the mean as often as the page says', (seeds, ...percentages) => {
  for (const [index, draw] of distributions.entries()) {
    expect(Math.abs(coverage(seeds, draw) - (percentages[index] as number))).toBeLessThan(3);
  }
});

it('the page states five numbers of seeds', () => {
  expect(stated.map(([seeds]) => seeds)).toEqual([3, 5, 7, 10, 20]);
});
