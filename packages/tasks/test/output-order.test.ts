import { evaluate, predict, type InputBatch, type Model } from '@peftjs/core';
import { referenceExecutor, toyModel } from '@peftjs/conformance';
import { evaluationData, inputBatches, trainingData } from '@peftjs/tasks';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodedRows } from './files.js';

/** Outputs the number of a row: all tokens of row n of `encodedRows` are n + 1, and padding is 0. */
const echo: Model = {
  ...toyModel(),
  lookups: [],
  forward: (_, { inputIds }) => (inputIds ?? expect.fail('no ids')).max(1, true).toFloat().sub(1), // [batch, 1]
};
const executor = referenceExecutor();
const numbersIn = async (batches: readonly InputBatch[]): Promise<number[]> =>
  (await predict(echo, batches, { executor: await executor })).flatMap((outputs) => [...outputs]);

const lengthLists = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 12 });
const rowsOf = (batches: readonly InputBatch[]): number[] => batches.flatMap(({ rows }) => rows);
const inOrder = (lengths: readonly number[]): number[] => [...lengths.keys()];

describe('the order of outputs', () => {
  it('is that of the rows or texts for evaluation data and input batches', async () => {
    await fc.assert(
      fc.asyncProperty(lengthLists, async (lengths) => {
        const data = encodedRows(lengths);
        expect(await numbersIn(evaluationData(data, { batchSize: 3 }).batches)).toEqual(inOrder(lengths));
        expect(await numbersIn(inputBatches(data.rows, { batchSize: 3 }))).toEqual(inOrder(lengths));
      }),
      { numRuns: 20 },
    );
  });

  it('is that of `rows` for batches of training data, and for two data sets together', async () => {
    const training = trainingData(encodedRows([5, 1, 4, 2, 8, 3, 7, 6]), { batchSize: 3, seed: 1 }).epoch(0);
    for (const batch of training) expect(await numbersIn([batch])).toEqual(batch.rows);
    expect(await numbersIn(training)).toEqual(rowsOf(training));
    const both = [
      [2, 1, 3],
      [3, 1],
    ].flatMap((lengths) => inputBatches(encodedRows(lengths).rows, { batchSize: 2 }));
    expect(await numbersIn(both)).toEqual([1, 0, 2, 1, 0]);
  });

  it('is that of the data set for held-out rows', async () => {
    const lengths = [9, 1, 8, 2, 7, 3, 6, 4, 5, 1, 9, 2];
    const data = trainingData(encodedRows(lengths), { batchSize: 3, seed: 1 });
    const { heldOut } = data.holdOut?.(9) ?? expect.fail('expected held-out rows');
    const rows = rowsOf(heldOut);
    expect(rows).not.toEqual(rows.toSorted((a, b) => a - b)); // the batches are sorted by length
    expect(await numbersIn(heldOut)).toEqual(rows.toSorted((a, b) => a - b));
  });

  it('scores each row against its own label', async () => {
    const data = encodedRows([5, 1, 4, 2], 'regression');
    const own = { ...data, rows: data.rows.map((row, number) => ({ ...row, label: number })) };
    const { meanSquaredError } = await evaluate(echo, evaluationData(own, { batchSize: 3 }), {
      executor: await executor,
    });
    expect(meanSquaredError).toBe(0);
  });
});
