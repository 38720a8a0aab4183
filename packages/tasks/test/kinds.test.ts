import { hostTensor, type Batch, type InputBatch } from '@peftjs/core';
import { ConfigError, DataError, hostIntegers } from '@peftjs/core/method';
import { describe, expect, it } from 'vitest';
import {
  createDataSet,
  encodeRows,
  encodeTexts,
  evaluationData,
  inputBatches,
  splitSelection,
  trainingData,
  type DataSet,
  type Tokenizer,
} from '@peftjs/tasks';

/**
 * One token per character: its code. Each word is followed by a closing token, which the model reads as part of the
 * word.
 */
const characters: Tokenizer = {
  encode: (text, _pair, { maxTokens }) => ({
    ids: Array.from(text, (character) => character.charCodeAt(0)).slice(0, maxTokens),
    truncated: text.length > maxTokens,
  }),
  encodeWords(words, { maxTokens }) {
    const of = words.flatMap((word, index) =>
      Array.from(word, (character) => [character.charCodeAt(0), index] as const),
    );
    const whole = [[1, undefined] as const, ...of, [2, undefined] as const];
    const kept = whole.length > maxTokens ? [...whole.slice(0, maxTokens - 1), [2, undefined] as const] : whole;
    return { ids: kept.map(([id]) => id), words: kept.map(([, word]) => word), truncated: whole.length > maxTokens };
  },
};

const codes = (text: string): number[] => Array.from(text, (character) => character.charCodeAt(0));
const options = { batchSize: 4, seed: 1 };

function onlyBatch({ epoch }: { epoch(index: number): readonly Batch[] }): Batch {
  const [batch, ...others] = epoch(0);
  expect(others).toEqual([]);
  return batch as Batch;
}

/** The outputs of a model for each row of the batches, computed from its tokens. */
function outputsOf(batches: readonly InputBatch[], compute: (ids: number[]) => readonly number[]): Float32Array[] {
  const outputs: Float32Array[] = [];
  for (const { inputs, rows } of batches) {
    const { data, shape: [, tokens = 0] } = inputs['inputIds'] as Batch['labels']; // oxfmt-ignore
    rows.forEach((row, place) => {
      const ids = Array.from(data.subarray(place * tokens, (place + 1) * tokens));
      outputs[row] = Float32Array.from(compute(ids.filter((id) => id > 0)));
    });
  }
  return outputs;
}

describe('rows with several labels', async () => {
  const rows = [
    { text: 'a', labels: [0, 2] },
    { text: 'bb', labels: [] },
    { text: 'ccc', labels: [2] },
  ];
  const classes = ['x', 'y', 'z'];
  const encoded = encodeRows(await createDataSet({ name: 'rows', kind: 'multi-label', classes, rows }), characters, {
    maxTokens: 8,
  });

  it('have a 0 or 1 for each label in a batch', () => {
    const { labels, rows: order } = onlyBatch(trainingData(encoded, options));
    const expected = order.flatMap((row) => [[1, 0, 1], [0, 0, 0], [0, 0, 1]][row] ?? []); // oxfmt-ignore
    expect(labels).toEqual(hostTensor(Float32Array.from(expected), [3, 3]));
  });

  it('are predicted where the sigmoid is above one half', () => {
    const { score, primaryMetric } = evaluationData(encoded, { batchSize: 2 });
    const logits = [[2, -1, 0.1], [0, -1, 3], [-1, -1, -2]]; // oxfmt-ignore
    expect(primaryMetric).toBe('microF1');
    const scores = { microF1: 4 / 6, macroF1: (1 + 0 + 1 / 2) / 3, 'f1.x': 1, 'f1.y': 0, 'f1.z': 1 / 2 };
    expect(score(logits.map((row) => Float32Array.from(row)))).toEqual(scores);
  });
});

describe('tagged rows', async () => {
  const rows = [
    { words: ['ab', 'c'], tags: [0, 2] },
    { words: ['d', 'efg', 'h'], tags: [2, 0, 1] },
  ];
  const classes = ['B-X', 'I-X', 'O'];
  const dataSet = await createDataSet({ name: 'tags', kind: 'token-classification', classes, rows });
  const encoded = encodeRows(dataSet, characters, { maxTokens: 16 });

  it("have a word's tag at its first token, and no tag elsewhere", () => {
    const { inputs, labels, rows: order } = onlyBatch(trainingData(encoded, options));
    const padded = (values: number[], filler: number) => [
      ...values,
      ...new Array<number>(7 - values.length).fill(filler),
    ];
    const ids = [[1, ...codes('abc'), 2], [1, ...codes('defgh'), 2]]; // oxfmt-ignore
    const tags = [[-100, 0, -100, 2, -100], [-100, 2, 0, -100, -100, 1, -100]]; // oxfmt-ignore
    expect(inputs['inputIds']?.data).toEqual(Int32Array.from(order.flatMap((row) => padded(ids[row] ?? [], 0))));
    expect(labels).toEqual(
      hostIntegers(Int32Array.from(order.flatMap((row) => padded(tags[row] ?? [], -100))), [2, 7]),
    );
  });

  it('are scored by the tags of words, from logits or from summaries', () => {
    const { batches, score, summarise, primaryMetric } = evaluationData(encoded, { batchSize: 2 });
    const tagOf = new Map([['a', 0], ['b', 1], ['c', 2], ['d', 0], ['e', 0], ['f', 2], ['g', 2], ['h', 2]]); // oxfmt-ignore
    const logitsOf = (id: number) => classes.map((_, tag) => Number(tagOf.get(String.fromCharCode(id)) === tag));
    const padTo = Math.max(...batches.map(({ labels }) => labels.shape[1] as number));
    const outputs = outputsOf(batches, (ids) =>
      [...ids, ...new Array<number>(padTo - ids.length).fill(0)].flatMap(logitsOf),
    );
    expect(primaryMetric).toBe('entityF1');
    // predicted: X at 'ab'; X at 'd'; X at 'efg'. actual: X at 'ab'; X at 'efg' 'h'
    const scores = {
      entityF1: expect.closeTo((2 * 1) / (3 + 2), 12) as number,
      entityPrecision: 1 / 3,
      entityRecall: 1 / 2,
      tokenAccuracy: 3 / 5,
      'f1.X': expect.closeTo(2 / 5, 12) as number,
    };
    expect(score(outputs)).toEqual(scores);
    const summaries = outputs.map((output, row) => summarise?.(row, output) as Float32Array);
    expect(summaries.map((summary) => [...summary])).toEqual([[0, 2], [0, 0, 2]]); // oxfmt-ignore
    expect(score(summaries)).toEqual(scores);
  });

  it('are scored by the share of right tags if no tag begins an entity', () => {
    const { primaryMetric, score } = evaluationData({ ...encoded, classes: ['N', 'V', 'X'] }, { batchSize: 2 });
    expect(primaryMetric).toBe('tokenAccuracy');
    expect(score([Float32Array.of(0, 1), Float32Array.of(2, 0, 1)])).toEqual({ tokenAccuracy: 4 / 5 });
  });

  it('have no right tags where no logit is a number', () => {
    const { score, batches } = evaluationData(encoded, { batchSize: 2 });
    const nothing = batches.flatMap(({ rows: of, labels }) =>
      of.map(() => new Float32Array(3 * (labels.shape[1] ?? 0)).fill(NaN)),
    );
    expect(score(nothing)).toMatchObject({ entityF1: 0, tokenAccuracy: 0 });
  });

  it('lose the words that do not fit, and are not scored on them', () => {
    const cut = encodeRows(dataSet, characters, { maxTokens: 5 });
    expect(cut).toMatchObject({ truncated: 1, maxTokens: 5 });
    expect(cut.rows[1]?.labels).toEqual(Int32Array.of(-100, 2, 0, -100, -100));
    expect(evaluationData(cut, options).score([Float32Array.of(0, 2), Float32Array.of(2, 0)])).toMatchObject({
      entityF1: 1,
    });
  });

  it('need a tokenizer that accepts words', () => {
    const { encode } = characters;
    expect(() => encodeRows(dataSet, { encode }, { maxTokens: 8 })).toThrow(ConfigError);
    const none: Tokenizer = { ...characters, encodeWords: () => ({ ids: [], words: [] }) };
    expect(() => encodeRows(dataSet, none, { maxTokens: 8 })).toThrow(DataError);
  });
});

/** A text's embedding: whether it contains each of three letters. */
const lettersOf = (ids: number[]): number[] => codes('abc').map((letter) => Number(ids.includes(letter)));

describe('pairs and triplets', async () => {
  const pairs = await createDataSet({
    name: 'pairs',
    kind: 'pairs',
    classes: [],
    rows: [{ texts: ['a?', 'a'] }, { texts: ['b?', 'abc'] }, { texts: ['b?', 'ab'] }, { texts: ['a', 'c'] }],
  });
  const triplets = await createDataSet({
    name: 'triplets',
    kind: 'triplets',
    classes: [],
    rows: [{ texts: ['a?', 'ab', 'abc'] }, { texts: ['c?', 'c', 'a'] }],
  });
  const encode = <K extends 'pairs' | 'triplets'>(dataSet: DataSet<K>) =>
    encodeRows(dataSet, characters, { maxTokens: 8 });

  it('are columns of texts, in order, padded to the longest text of all', () => {
    const batch = onlyBatch(trainingData(encode(triplets), options));
    const texts = [0, 1, 2].flatMap((column) => batch.rows.map((row) => triplets.rows[row]?.texts[column] as string));
    const ids = texts.flatMap((text) => [...codes(text), ...new Array<number>(3 - text.length).fill(0)]);
    expect(batch).toMatchObject({ columns: 3, labels: hostTensor(new Float32Array(2), [2]) });
    expect(batch.inputs['inputIds']).toEqual(hostIntegers(Int32Array.from(ids), [6, 3]));
    expect(batch.inputs['attentionMask']?.shape).toEqual([6, 3]);
    expect(batch.rowWeights.shape).toEqual([2]);
    expect(onlyBatch(trainingData(encode(pairs), options))).toMatchObject({ columns: 2 });
  });

  it('are scored by what anchors find among all positives and negatives, each text computed once', () => {
    const { batches, score, primaryMetric } = evaluationData(encode(pairs), { batchSize: 4 });
    expect(batches.flatMap(({ rows }) => rows).sort()).toEqual([0, 1, 2, 3, 4, 5]); // a? a b? abc ab c
    expect(batches[0]).not.toHaveProperty('labels');
    const scores = score(outputsOf(batches, lettersOf));
    // a?: a, ab, abc, c. b?: ab .71, abc .58, a, c. a, which does not find itself: ab, abc, c
    expect(primaryMetric).toBe('ndcgAt10');
    expect(scores['recallAt1']).toBeCloseTo((1 + 1 / 2 + 0) / 3, 12);
    expect(scores['recallAt10']).toBe(1);
    expect(scores['mrr']).toBeCloseTo((1 + 1 + 1 / 3) / 3, 12);
    expect(scores['ndcgAt10']).toBeCloseTo((1 + 1 + 1 / Math.log2(4)) / 3, 12);
  });

  it('are not twice in a batch if possible', async () => {
    const rows = Array.from({ length: 64 }, (_, row) => ({ texts: [`q${row}`, `p${row % 8}`] }));
    const encoded = encode(await createDataSet({ name: 'p', kind: 'pairs', classes: [], rows }));
    const batches = trainingData(encoded, { batchSize: 8, seed: 3 }).epoch(0);
    for (const { rows: of } of batches) expect(new Set(of.map((row) => row % 8)).size).toBe(8);
    expect(batches.flatMap(({ rows: of }) => [...of]).sort((a, b) => a - b)).toEqual([...rows.keys()]);
    const same = encode(
      await createDataSet({ name: 'p', kind: 'pairs', classes: [], rows: rows.map(() => ({ texts: ['q', 'p'] })) }),
    );
    expect(trainingData(same, { batchSize: 8, seed: 3 }).epoch(0)).toHaveLength(8);
  });

  it('are held out in batches of the training size, as each other’s negatives', async () => {
    const rows = Array.from({ length: 24 }, (_, row) => ({ texts: [`q${row}`, `p${row}`] }));
    const encoded = encode(await createDataSet({ name: 'p', kind: 'pairs', classes: [], rows }));
    const held = trainingData(encoded, { batchSize: 12, seed: 3 }).holdOut?.(12);
    expect(held?.heldOut.map(({ rows: of }) => of.length)).toEqual([12]);
  });

  it('can find negatives', () => {
    const { batches, score } = evaluationData(encode(triplets), { batchSize: 4 });
    // a?: a, ab, abc, c; its positive is second. c?: c
    expect(score(outputsOf(batches, lettersOf))).toMatchObject({ recallAt1: 1 / 2, mrr: 3 / 4 });
  });

  it('can have several negatives, the same number in every row', async () => {
    const content = { name: 'several', kind: 'triplets', classes: [] } as const;
    const rows = [{ texts: ['a?', 'ab', 'abc', 'c'] }, { texts: ['c?', 'c', 'a', 'b'] }];
    const several = encode(await createDataSet({ ...content, rows }));
    expect(onlyBatch(trainingData(several, options))).toMatchObject({
      columns: 4,
      inputs: { inputIds: { shape: [8, 3] } },
    });
    const { batches, score } = evaluationData(several, { batchSize: 4 });
    // a?: a, ab, abc, c, b; its positive is second. c?: c
    expect(score(outputsOf(batches, lettersOf))).toMatchObject({ recallAt1: 1 / 2, mrr: 3 / 4 });
    await expect(createDataSet({ ...content, rows: [...rows, { texts: ['a', 'b', 'c'] }] })).rejects.toThrow(
      'several: expected 4 texts in row 3 (an anchor, its positive and the same number of negatives in every row), got 3',
    );
  });

  it('are never found if no embedding is a number', () => {
    const { batches, score } = evaluationData(encode(triplets), { batchSize: 4 });
    expect(score(outputsOf(batches, () => [NaN, NaN]))).toMatchObject({ recallAt10: 0, mrr: 0 });
  });

  it('stay together if their texts are the same', async () => {
    const rows = Array.from({ length: 40 }, (_, row) => ({ texts: [`q${row % 20}`, `p${row % 20}`] }));
    const { train, selection } = await splitSelection(
      await createDataSet({ name: 'p', kind: 'pairs', classes: [], rows }),
      { seed: 1 },
    );
    const kept = new Set(train.rows.map(({ texts }) => texts.join()));
    expect([train.rows.length, selection.rows.length]).toEqual([36, 4]);
    for (const { texts } of selection.rows) expect(kept.has(texts.join())).toBe(false);
  });
});

describe('scored pairs', async () => {
  const rows = [
    { texts: ['a', 'a'], score: 1 },
    { texts: ['a', 'ab'], score: 0.4 },
    { texts: ['ab', 'c'], score: -0.5 },
  ];
  const encoded = encodeRows(await createDataSet({ name: 's', kind: 'scored-pairs', classes: [], rows }), characters, {
    maxTokens: 8,
  });

  it('have their scores as labels', () => {
    const { labels, rows: order, columns } = onlyBatch(trainingData(encoded, options));
    expect(columns).toBe(2);
    expect(labels).toEqual(
      hostTensor(
        Float32Array.from(order, (row) => rows[row]?.score ?? 0),
        [3],
      ),
    );
  });

  it('are scored by the correlation of cosines and labels', () => {
    const { batches, score, primaryMetric } = evaluationData(encoded, { batchSize: 8 });
    expect(batches.map(({ rows: of }) => of)).toEqual([[0, 2, 1]]); // a c ab
    const scores = score(outputsOf(batches, lettersOf));
    expect(primaryMetric).toBe('spearman');
    expect(scores['spearman']).toBeCloseTo(1, 12);
    const known = [[1, Math.SQRT1_2, 0], [1, 0.4, -0.5]]; // oxfmt-ignore
    const centred = (values: number[]) => values.map((value) => value - values.reduce((a, b) => a + b) / 3);
    const product = (a: number[], b: number[]) => a.reduce((sum, value, at) => sum + value * (b[at] ?? 0), 0);
    const [a = [], b = []] = known.map(centred);
    expect(scores['pearson']).toBeCloseTo(product(a, b) / Math.sqrt(product(a, a) * product(b, b)), 7);
  });
});

describe('encodeTexts', () => {
  it('returns the tokens of texts and pairs, truncated if they are too long', () => {
    const paired: Tokenizer = { encode: (text, pair) => ({ ids: codes(text + (pair ?? '')), typeIds: [0, 1] }) };
    const [text, pair] = encodeTexts(['a', ['b', 'cd']], paired, { maxTokens: 2 });
    expect(text?.ids).toEqual(Int32Array.from(codes('a')));
    expect(pair).toEqual({ ids: Int32Array.from(codes('bc')), typeIds: Int32Array.of(0, 1) });
    expect(() => encodeTexts(['a', ''], characters, { maxTokens: 2 })).toThrow('texts: expected row 2 to have tokens');
    const unknown = { maxTokens: 2, truncation: 'longest_first' };
    expect(() => encodeTexts(['a'], characters, unknown)).toThrow(/'truncation' is unknown; known are maxTokens$/);
  });
});

describe('inputBatches', () => {
  it('have texts without labels, from the shortest to the longest', () => {
    const texts = ['ccc', 'a', 'bb'].map((text) => ({ ids: Int32Array.from(codes(text)) }));
    const batches = inputBatches(texts, { batchSize: 2, padId: 9 });
    expect(batches.map(({ rows }) => rows)).toEqual([[1, 2], [0]]);
    expect(batches[0]?.inputs['inputIds']).toEqual(hostIntegers(Int32Array.from([97, 9, 98, 98]), [2, 2]));
    expect(() => inputBatches(texts, { batchSize: 0 })).toThrow(ConfigError);
    expect(inputBatches([], { batchSize: 1 })).toEqual([]);
  });
});
