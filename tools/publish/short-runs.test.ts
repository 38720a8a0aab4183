import { readFile } from 'node:fs/promises';
import { readResults } from '@peftjs/bench';
import { mean } from 'simple-statistics';
import { expect, it } from 'vitest';
import { doneOf, publishedFolder, unpacking } from './published-archives.js';

const unpacked = await unpacking();
const page = await readFile(`${publishedFolder}../../methods/sora.md`, 'utf8');

/** The rows of the page's table, split into cells. */
const table = [
  ...page.matchAll(/^\| `(?<arm>[a-z]+\d?-[^`]+)` +\|[^|]+\|(?<first>[^|]*)\|(?<second>[^|]*)\|(?<third>[^|]*)\|$/gm),
];

/** What the page says of every arm of an archive: the mean of four seeds, and how many are above 0. */
async function cellsOf(archive: string): Promise<Record<string, string>> {
  const scores = new Map<string, number[]>();
  for (const { arm, metrics } of doneOf(await readResults(await unpacked('short-runs', archive))))
    scores.set(arm, [...(scores.get(arm) ?? []), metrics.matthewsCorrelation as number]);
  return Object.fromEntries(
    [...scores].map(([arm, values]) => {
      expect(values).toHaveLength(4);
      return [arm, `${mean(values).toFixed(3)} (${values.filter((value) => value > 0).length})`];
    }),
  );
}

it.each([
  ['282-steps', 'first'],
  ['564-steps', 'second'],
  ['bert-base', 'third'],
])("the table of short runs on SoRA's page has the scores of the archive '%s'", async (archive, column) => {
  const written = table.flatMap(({ groups = {} }) => {
    const cell = groups[column]?.trim();
    return cell ? [[groups.arm, cell]] : [];
  });
  expect(Object.fromEntries(written)).toEqual(await cellsOf(archive));
});

it.each([
  ['early-choice', 'after 40 % of the steps, `sora-s8-0.001` has '],
  ['late-choice', 'after 85 %, '],
])("SoRA's page has the score of the archive '%s'", async (archive, sentence) => {
  const { 'sora-s8-0.001': score } = await cellsOf(archive);
  expect(page.replace(/\s+/g, ' ')).toContain(`${sentence}${score}`);
});
