import { readResults, renderReport, summarise, type Summary } from '@peftjs/bench';
import { expect, it } from 'vitest';
import { unpacking } from './published-archives.js';
import { newPage, withRegions } from './regions.js';
import { scoresOf } from './scores.js';
import { standaloneSvg } from './standalone-svg.js';

const unpacked = await unpacking();
const results = (await readResults(await unpacked('auto', 'run'))).filter(({ arm, budget }) =>
  ['head none', 'lora r=1'].includes(`${arm} ${budget.spec}`),
);
const summary = summarise(results, { reference: 'head' });

it('extracts a chart of a report with all the colours that it uses', async () => {
  const report = await renderReport(results, summary);
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
  const sentences = ['No reliable winner.', 'a_b is first.'];
  const judged = { ...summary, verdicts: summary.verdicts.map((verdict) => ({ ...verdict, sentences })) };
  const page = withRegions(newPage('auto', ['pareto']), judged);
  expect(page).toContain('**No reliable winner.** a\\_b is first.\n');
  expect(page).toContain('| lora |');
  expect(withRegions(page, judged)).toBe(page);
  expect(() => withRegions('# A page\n', judged)).toThrow(/expected .* in the page/);
});
