import { expect, it } from 'vitest';
import { syntheticTrial } from '../../../cli/test/synthetic-results.js';
import { seriesByLabel } from './contents.js';
import { columnsFor } from './results.js';
import { summarise } from './statistics/summary.js';

it('the stored column has the mean of stored parameters, the trained column those trained', () => {
  const trial = syntheticTrial({ task: 'uci-sentiment', method: 'sora', rank: 4, seed: 1 });
  const parameters = {
    ...{ trainableAtStart: 1111, storedMean: 2222, stored: 3333 },
    ...{ base: 100_000, optimizerBytes: 8888 },
  };
  const { rows } = summarise([{ ...trial, parameters }], { reference: 'lora' });
  const row = rows[0] ?? expect.fail('no row');
  const cells = columnsFor(row, 'lora').map(({ title, cell }) => [title, JSON.stringify(cell(row))] as const);
  const { stored, 'trained at the start': trained } = Object.fromEntries(cells);
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
