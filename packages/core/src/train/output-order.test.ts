import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { EvaluationData, InputBatch } from '../contracts/model.js';
import { hostIntegers, hostTensor } from '../tensors.js';
import { relativeDistance, referenceExecutor, toyEvaluationData, toyModel } from '@peftjs/conformance';
import { evaluate, predict } from './evaluate.js';

const TOKENS = 5;
const model = toyModel();
const executor = referenceExecutor();

interface Row {
  readonly number: number;
  readonly ids: readonly number[];
}

function batchOf(rows: readonly Row[], sorted?: InputBatch['sorted']): InputBatch {
  const filled = (value: (ids: readonly number[], token: number) => number) =>
    rows.flatMap(({ ids }) => Array.from({ length: TOKENS }, (_, token) => value(ids, token)));
  const ids = Int32Array.from(filled((of, token) => of[token] ?? 0));
  const mask = Float32Array.from(filled((of, token) => Number(token < of.length)));
  const shape = [rows.length, TOKENS];
  return {
    inputs: { inputIds: hostIntegers(ids, shape), attentionMask: hostTensor(mask, shape) },
    rowWeights: hostTensor(new Float32Array(rows.length).fill(1), [rows.length]),
    rows: rows.map(({ number }) => number),
    ...(sorted && { sorted }),
  };
}

/** Cuts a list into parts. */
function cut<T>(list: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(list.length / size) }, (_, at) => list.slice(at * size, (at + 1) * size));
}

const outputsOf = async (batches: readonly InputBatch[]) => predict(model, batches, { executor: await executor });

/** Checks that outputs are those of the rows one by one, without holes. */
async function expectOutputsOf(rows: readonly Row[], outputs: readonly Float32Array[]): Promise<void> {
  expect(Object.keys(outputs)).toHaveLength(rows.length);
  for (const [place, row] of rows.entries()) {
    const [alone = expect.fail('no outputs')] = await outputsOf([batchOf([row])]);
    expect(relativeDistance(outputs[place] ?? expect.fail('a hole'), alone), `row ${place}`).toBeLessThan(1e-6);
  }
}

const ids = fc.array(fc.nat(23), { minLength: 1, maxLength: TOKENS });
const sizes = fc.integer({ min: 1, max: 4 });
const rows = (number: fc.Arbitrary<number>) => fc.array(fc.record({ number, ids }), { minLength: 1, maxLength: 9 });
const distinct = (of: readonly Row[]): boolean => new Set(of.map(({ number }) => number)).size === of.length;

describe('the order of outputs', () => {
  it('is that of the rows as the batches list them, whatever distinct numbers they have', async () => {
    await fc.assert(
      fc.asyncProperty(rows(fc.nat(1e6)).filter(distinct), sizes, async (given, size) => {
        await expectOutputsOf(given, await outputsOf(cut(given, size).map((own) => batchOf(own))));
      }),
      { numRuns: 20 },
    );
  });

  it('is the same for numbers that occur several times, as in batches of two data sets', async () => {
    await fc.assert(
      fc.asyncProperty(rows(fc.nat(2)), sizes, async (given, size) => {
        await expectOutputsOf(given, await outputsOf(cut(given, size).map((own) => batchOf(own))));
      }),
      { numRuns: 20 },
    );
  });

  const given = [4, 2, 0, 3, 1].map((number) => ({ number: number + 50, ids: [number + 1] }));
  const places = [[2, 0], [4, 1], [3]]; // of the rows in each batch
  const sorted = places.map((own) =>
    batchOf(
      own.map((place) => given[place] as Row),
      { places: own, of: 5 },
    ),
  );

  it('is the one before sorting for all batches that were sorted together, in any order', async () => {
    await expectOutputsOf(given, await outputsOf(sorted));
    await expectOutputsOf(given, await outputsOf(sorted.toReversed()));
  });

  it.each<[string, number[]]>([
    ['a part of them', [0, 2]],
    ['two of the sets', [0, 1, 2, 0, 1, 2]],
    ['one of them several times', [0, 0, 2]],
  ])('is that of the batches for %s', async (_, which) => {
    const listed = which.flatMap((batch) => (places[batch] ?? []).map((place) => given[place] as Row));
    await expectOutputsOf(listed, await outputsOf(which.map((batch) => sorted[batch] as InputBatch)));
  });

  it('is the same for what `evaluate` scores, and `summarise` gets the row numbers', async () => {
    let scored: readonly Float32Array[] = [];
    const summarised: number[] = [];
    const data: EvaluationData = {
      ...toyEvaluationData(),
      batches: [batchOf(given.slice(0, 2)), batchOf(given.slice(2))],
      summarise(row, outputs) {
        summarised.push(row);
        return outputs.slice();
      },
      score(outputs) {
        scored = outputs;
        return {};
      },
    };
    await evaluate(model, data, { executor: await executor });
    await expectOutputsOf(given, scored);
    expect(summarised).toEqual(given.map(({ number }) => number));
  });
});
