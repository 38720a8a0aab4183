import { expect, it } from 'vitest';
import { syntheticTrial } from '../../../cli/test/synthetic-results.js';
import { panelsOf, seriesByLabel } from './contents.js';
import { resultsTable } from './results.js';
import { summarise } from './statistics/summary.js';

it('the stored column has the mean of stored parameters, the trained column those trained', () => {
  const trial = syntheticTrial({ task: 'uci-sentiment', method: 'sora', rank: 4, seed: 1 });
  const parameters = {
    ...{ trainableAtStart: 1111, storedMean: 2222, stored: 3333 },
    ...{ base: 100_000, optimizerBytes: 8888 },
  };
  const [panel] = panelsOf([], summarise([{ ...trial, parameters }], { reference: 'lora' }));
  const { columns, groups } = resultsTable(panel ?? expect.fail('no panel'), 'lora', []);
  const cellOf = (title: string): string =>
    JSON.stringify(groups[0]?.rows[0]?.[columns.findIndex((column) => column.title === title)]);
  const [stored, trained] = [cellOf('stored'), cellOf('trained at the start')];
  expect(stored).toMatch(/"main":"3,333".*2,222 on average/);
  expect(trained).toContain('"main":"1,111"');
  expect(trained).not.toContain('2,222');
});

it('an arm at another budget keeps its look, which differs from the look of the baseline', () => {
  const trials = ['head', 'sora'].map((method) =>
    syntheticTrial({ task: 'uci-sentiment', method, rank: method === 'head' ? null : 4, seed: 1 }),
  );
  const seriesOf = seriesByLabel(summarise(trials, { reference: 'lora' }).rows);
  expect(seriesOf('sora (auto)').look).toEqual(seriesOf('sora').look);
  expect(seriesOf('sora').look).not.toEqual(seriesOf('head').look);
});
