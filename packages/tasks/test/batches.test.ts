import type { Batch } from '@peftjs/core';
import { ConfigError, ShapeError } from '@peftjs/core/method';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  createDataSet,
  embeddedTasks,
  encodeRows,
  evaluationData,
  metricNamed,
  paddingShare,
  trainingData,
  type Tokenizer,
} from '@peftjs/tasks';
import { classified, encodedRows, readInstalled, wordTokenizer } from './files.js';

const lengthLists = fc.array(fc.integer({ min: 1, max: 120 }), { minLength: 1, maxLength: 150 });
const batchSizes = fc.integer({ min: 1, max: 40 });
const seeds = fc.integer({ min: 0, max: 2 ** 31 });
const rowsOf = (batches: readonly Batch[]) => batches.flatMap(({ rows }) => rows);
const tokensOf = ({ inputs }: Batch) => inputs['inputIds']?.shape[1] ?? 0;

/** The rows of a batch as its tensors hold them: the tokens where the mask is 1. */
function readBack(batch: Batch): number[][] {
  const [ids, mask] = [batch.inputs['inputIds'], batch.inputs['attentionMask']];
  const tokens = tokensOf(batch);
  return batch.rows.map((_, place) => {
    const from = place * tokens;
    const shown = mask?.data.subarray(from, from + tokens) ?? [];
    return Array.from(ids?.data.subarray(from, from + tokens) ?? []).filter((_, at) => shown[at] === 1);
  });
}

describe('trainingData', () => {
  it('has every row once per epoch, untruncated, in full batches but one', () => {
    fc.assert(
      fc.property(lengthLists, batchSizes, seeds, (lengths, batchSize, seed) => {
        const data = encodedRows(lengths);
        const training = trainingData(data, { batchSize, seed });
        const batches = training.epoch(1);
        expect(batches).toHaveLength(training.batchesPerEpoch);
        expect(training.batchesPerEpoch).toBe(Math.ceil(lengths.length / batchSize));
        expect(rowsOf(batches).sort((a, b) => a - b)).toEqual([...lengths.keys()]);
        expect(batches.filter(({ rows }) => rows.length < batchSize).length).toBeLessThanOrEqual(1);
        for (const batch of batches) {
          expect(readBack(batch)).toEqual(batch.rows.map((row) => Array.from(data.rows[row]?.ids ?? [])));
        }
      }),
    );
  });

  it('pads to the longest row of a batch', () => {
    fc.assert(
      fc.property(lengthLists, batchSizes, seeds, (lengths, batchSize, seed) => {
        for (const { inputs, labels, rowWeights, rows } of trainingData(encodedRows(lengths), {
          batchSize,
          seed,
        }).epoch(0)) {
          const shape = [rows.length, Math.max(...rows.map((row) => lengths[row] ?? 0))];
          expect([inputs['inputIds']?.shape, inputs['attentionMask']?.shape]).toEqual([shape, shape]);
          expect([labels.shape, rowWeights.shape]).toEqual([[rows.length], [rows.length]]);
          expect(Array.from(rowWeights.data)).toEqual(rows.map(() => 1));
        }
      }),
    );
  });

  it('has an order that depends on the seed and the epoch', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 30, maxLength: 90 }),
        seeds,
        (lengths, seed) => {
          const data = encodedRows(lengths);
          const order = (by: number, epoch: number) =>
            rowsOf(trainingData(data, { batchSize: 4, seed: by }).epoch(epoch));
          expect(trainingData(data, { batchSize: 4, seed }).epoch(2)).toEqual(
            trainingData(data, { batchSize: 4, seed }).epoch(2),
          );
          expect(order(seed + 1, 0)).not.toEqual(order(seed, 0));
          expect(order(seed, 1)).not.toEqual(order(seed, 0));
        },
      ),
    );
  });

  it('mixes the lengths of its batches', () => {
    const lengths = Array.from({ length: 320 }, (_, row) => 1 + (row % 64));
    const tokens = trainingData(encodedRows(lengths), { batchSize: 8, seed: 1 }).epoch(0).map(tokensOf);
    expect(tokens).not.toEqual([...tokens].sort((a, b) => a - b));
    expect(new Set(tokens.slice(0, 20)).size).toBeGreaterThan(2);
  });

  it('groups rows of similar length, in different groups each epoch', () => {
    const lengths = Array.from({ length: 640 }, (_, row) => 20 + ((row * 37) % 101));
    const training = trainingData(encodedRows(lengths), { batchSize: 8, seed: 1 });
    const [mates, again] = [0, 1].map((epoch) =>
      training
        .epoch(epoch)
        .flatMap(({ rows }) => rows.flatMap((a) => rows.filter((b) => b < a).map((b) => `${a} ${b}`))),
    );
    for (const pair of mates ?? []) {
      const [a = 0, b = 0] = pair.split(' ').map((row) => lengths[Number(row)] ?? 0);
      expect(Math.max(a, b) / Math.min(a, b)).toBeLessThan(1.2);
    }
    const kept = new Set(again);
    expect((mates ?? []).filter((pair) => kept.has(pair)).length / (mates?.length ?? 0)).toBeLessThan(0.25);
  });

  it('pads with the given token', () => {
    const [batch] = trainingData(encodedRows([3, 5]), { batchSize: 2, seed: 1, padId: 9 }).epoch(0);
    const place = batch?.rows.indexOf(0) ?? 0;
    expect(Array.from(batch?.inputs['inputIds']?.data.subarray(place * 5, place * 5 + 5) ?? [])).toEqual([
      1, 1, 1, 9, 9,
    ]);
  });

  it('reports its kind, and has labels of its type', () => {
    const objectiveOf = (kind: 'classification' | 'regression') => {
      const training = trainingData(encodedRows([3, 5], kind), { batchSize: 2, seed: 1 });
      return [training.kind, training.epoch(0)[0]?.labels.dtype];
    };
    expect(objectiveOf('classification')).toEqual(['classification', 'int32']);
    expect(objectiveOf('regression')).toEqual(['regression', 'float32']);
  });

  it.each([
    ['a batch of no rows', { batchSize: 0 }],
    ['half a row', { batchSize: 1.5 }],
  ])('rejects %s', (_, options) => {
    expect(() => trainingData(encodedRows([3, 5]), { seed: 1, ...options })).toThrow(ConfigError);
    expect(() => evaluationData(encodedRows([3, 5]), options)).toThrow(ConfigError);
  });
});

describe('held-out rows', () => {
  const data = encodedRows([3, 5, 4, 3, 9, 7, 2, 8, 6, 4]);
  const training = (seed = 1) => trainingData(data, { batchSize: 3, seed });
  const held = (count: number, seed?: number) => training(seed).holdOut?.(count) ?? expect.unreachable();

  it('are not trained on, and all other rows are', () => {
    const { rest, heldOut } = held(4);
    expect(rowsOf(heldOut)).toHaveLength(4);
    for (const epoch of [0, 1]) {
      const rows = [...rowsOf(heldOut), ...rowsOf(rest.epoch(epoch))];
      expect(rows.sort((a, b) => a - b)).toEqual([...data.rows.keys()]);
    }
    expect([rest.kind, rest.batchesPerEpoch]).toEqual(['classification', 2]);
    expect(training().epoch(0)).toHaveLength(4);
  });

  it('are in batches like those of an evaluation', () => {
    const { heldOut } = held(4);
    expect(heldOut.map(({ rows }) => rows.length)).toEqual([3, 1]);
    expect(heldOut.map(tokensOf)).toEqual(heldOut.map(tokensOf).sort((a, b) => a - b));
    for (const batch of heldOut) {
      expect(readBack(batch)).toEqual(batch.rows.map((row) => Array.from(data.rows[row]?.ids ?? [])));
    }
  });

  it('are in batches of at most eight, for little padding', () => {
    const many = trainingData(encodedRows(Array.from({ length: 30 }, (_, row) => 1 + row)), { batchSize: 16, seed: 1 });
    const { heldOut, rest } = many.holdOut?.(20) ?? expect.unreachable();
    expect(heldOut.map(({ rows }) => rows.length)).toEqual([8, 8, 4]);
    expect(rest.epoch(0).map(({ rows }) => rows.length)).toEqual([10]);
  });

  it('are drawn by the seed', () => {
    expect(held(4)).toEqual({ ...held(4), rest: expect.anything() as unknown });
    const drawn = [1, 2, 3, 4].map((seed) =>
      rowsOf(held(4, seed).heldOut)
        .sort((a, b) => a - b)
        .join(),
    );
    expect(new Set(drawn).size).toBeGreaterThan(1);
    expect(held(4).rest.epoch(1)).toEqual(held(4).rest.epoch(1));
  });

  it.each([0, 1.5, 10])('cannot be %s of ten rows', (count) => {
    expect(() => held(count)).toThrow(ConfigError);
  });
});

describe('evaluationData', () => {
  it('evaluates every row once, in batches of growing length', () => {
    fc.assert(
      fc.property(lengthLists, batchSizes, (lengths, batchSize) => {
        const { batches } = evaluationData(encodedRows(lengths), { batchSize });
        expect(rowsOf(batches).sort((a, b) => a - b)).toEqual([...lengths.keys()]);
        expect(batches).toHaveLength(Math.ceil(lengths.length / batchSize));
        expect(batches.map(tokensOf)).toEqual(batches.map(tokensOf).sort((a, b) => a - b));
      }),
    );
  });

  it('scores classes by the largest logit', () => {
    const { score, primaryMetric } = evaluationData(encodedRows([3, 4, 5, 6]), { batchSize: 2 });
    const outputs = [
      [2, 1],
      [0, 1],
      [1, 2],
      [-3, -2],
    ].map((logits) => Float32Array.from(logits));
    expect(primaryMetric).toBe('accuracy');
    expect(score(outputs)).toEqual({
      accuracy: 0.75,
      macroF1: (2 / 3 + 4 / 5) / 2,
      expectedCalibrationError: expect.closeTo(0.75 - 1 / (1 + Math.exp(-1)), 7) as number,
    });
  });

  it('returns the prediction of every row, and can score some of them again', () => {
    const data = evaluationData(encodedRows([3, 4, 5]), { batchSize: 2 });
    const outputs = [Float32Array.of(2, 1), Float32Array.of(3, 1), Float32Array.of(0, 1)];
    const rows = data.predictions?.(outputs) ?? { predicted: [], actual: [] };
    expect(rows).toEqual({ predicted: [0, 0, 1], actual: [0, 1, 0] });
    expect(data.scoreRows?.(rows, [0, 0, 2])['accuracy']).toBe(2 / 3);
    expect(metricNamed(data.primaryMetric)?.(rows.predicted as never, rows.actual as never)).toBe(1 / 3);
    expect(data.scoreRows?.(rows, [0])).toEqual({ accuracy: 1, macroF1: 1 }); // the others need outputs
    for (const name of ['perplexity', 'expectedCalibrationError']) expect(metricNamed(name)).toBeUndefined();
  });

  it('counts a row without finite logits as wrong', () => {
    const { score } = evaluationData(encodedRows([3, 4]), { batchSize: 2 });
    expect(score([Float32Array.of(NaN, NaN), Float32Array.of(NaN, 1)])['accuracy']).toBe(0.5);
  });

  it('scores numbers by the only output', () => {
    const data = encodedRows([3, 4, 5], 'regression');
    const { score, primaryMetric } = evaluationData(data, { batchSize: 2 });
    const scores = score([1, 3, 1].map((value) => Float32Array.of(value)));
    expect(primaryMetric).toBe('pearson');
    expect(scores['pearson']).toBeCloseTo(1, 12);
    expect(scores['meanSquaredError']).toBe(2);
    const ofTwo = data.rows.map(() => Float32Array.of(1, 2));
    expect(() => score(ofTwo)).toThrow('one output a row, the model gives 2');
  });

  it('accepts other metrics', () => {
    const metrics = { primary: 'errors', metrics: { errors: (a: readonly number[]) => -a.length } };
    const { score, primaryMetric } = evaluationData(encodedRows([3]), { batchSize: 2, metrics });
    expect([primaryMetric, score([Float32Array.of(1, 2)])]).toEqual(['errors', { errors: -1 }]);
  });

  it('rejects the outputs of other rows', () => {
    const { score } = evaluationData(encodedRows([3, 4]), { batchSize: 2 });
    expect(() => score([Float32Array.of(1, 2)])).toThrow(ShapeError);
  });
});

describe('encodeRows', () => {
  it('keeps the first tokens and counts the truncated rows', async () => {
    const data = await classified([0, 1, 2], (row) => 'a b c d'.slice(0, 1 + 2 * row));
    const { rows, truncated } = encodeRows(data, wordTokenizer(), { maxTokens: 2 });
    expect(rows.map(({ ids, label }) => [Array.from(ids), label])).toEqual([
      [[1], 0],
      [[1, 2], 1],
      [[1, 2], 2],
    ]);
    expect(truncated).toBe(1);
  });

  it('lets the tokenizer truncate, which keeps the closing token, and counts the truncated rows', async () => {
    const closing: Tokenizer = {
      encode(text, _pair, { maxTokens }) {
        const words = text.split(' ').map((_, at) => at + 1);
        const ids = [...words.slice(0, maxTokens - 1), 99];
        return { ids, truncated: ids.length <= words.length };
      },
    };
    const data = await classified([0, 1, 2], (row) => 'a b c d'.slice(0, 1 + 2 * row));
    const { rows, truncated } = encodeRows(data, closing, { maxTokens: 3 });
    expect(rows.map(({ ids }) => Array.from(ids))).toEqual([
      [1, 99],
      [1, 2, 99],
      [1, 2, 99],
    ]);
    expect(truncated).toBe(1);
  });

  it('passes the token types of pairs to the batch', async () => {
    const rows = [
      { text: 'a b', pair: 'c', label: 0 },
      { text: 'a', pair: 'b', label: 1 },
    ];
    const data = await createDataSet({ name: 'pairs', kind: 'classification', classes: ['0', '1'], rows });
    const encoded = encodeRows(data, wordTokenizer(), { maxTokens: 4 });
    const { batches } = evaluationData(encoded, { batchSize: 2 });
    expect(Array.from(batches[0]?.inputs['tokenTypeIds']?.data ?? [])).toEqual([0, 1, 0, 0, 0, 1]);
    expect(evaluationData(encodedRows([2]), { batchSize: 1 }).batches[0]?.inputs).not.toHaveProperty('tokenTypeIds');
  });

  it('rejects a row without tokens and an impossible length', async () => {
    const data = await classified([0, 1], (row) => (row === 1 ? ' ' : 'a'));
    expect(() => encodeRows(data, wordTokenizer(), { maxTokens: 8 })).toThrow(/row 2/);
    expect(() => encodeRows(data, wordTokenizer(), { maxTokens: 0 })).toThrow(ConfigError);
  });
});

describe('padding', () => {
  it("is the share of token positions without a row's token", () => {
    const { batches } = evaluationData(encodedRows([2, 4, 4]), { batchSize: 2 });
    expect(batches.map(({ rows }) => rows)).toEqual([[0, 1], [2]]);
    expect(paddingShare(batches)).toBeCloseTo(1 - 10 / 12, 12);
    expect(paddingShare([])).toBe(0);
  });

  it('stays below 7 % on the embedded tasks', async () => {
    for (const task of embeddedTasks.values()) {
      const encoded = encodeRows((await task.load(readInstalled)).train, wordTokenizer(), { maxTokens: 128 });
      expect(paddingShare(trainingData(encoded, { batchSize: 32, seed: 1 }).epoch(0))).toBeLessThan(0.07);
    }
  });
});
