import { DataError, ShapeError } from '@peftjs/core/method';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  entityF1,
  entityScores,
  f1OfLabels,
  macroF1OfLabels,
  microF1,
  rankByScore,
  retrievalMetrics,
} from '@peftjs/tasks';

function golden(name: string): unknown {
  return JSON.parse(readFileSync(new URL(`fixtures/metrics-${name}.json`, import.meta.url), 'utf8'));
}

/** Compares values to 1e-12: floats are summed in another order here. */
function expectClose(ours: readonly number[], expected: readonly number[], where: string): void {
  const isClose = (value: number, at: number) => Math.abs(value - (expected[at] ?? NaN)) < 1e-12;
  expect(
    ours.length === expected.length && ours.every(isClose),
    `${where}: ${ours.join()} for ${expected.join()}`,
  ).toBe(true);
}

describe('entities', () => {
  it('have the precision, recall and F1 of seqeval on 1,000 random taggings, overall and by type', () => {
    const { tags, taggings } = golden('entities') as {
      tags: string[];
      taggings: { actual: string; predicted: string; scores: number[] }[];
    };
    const letters = 'abcdefghijklmnopqrstuvwxyz';
    const parse = (text: string) =>
      text.split(' ').map((sentence) => Array.from(sentence, (letter) => tags[letters.indexOf(letter)] as string));
    expect(taggings).toHaveLength(1000);
    for (const { actual, predicted, scores } of taggings) {
      const { precision, recall, f1, byType } = entityScores(parse(predicted), parse(actual));
      const ofTypes = [...byType.values()].flatMap((of) => [of.precision, of.recall, of.f1, of.support]);
      expectClose([precision, recall, f1, ...ofTypes], scores, `${predicted} for ${actual}`);
    }
  });

  it('are right if type, start, end and sentence are right', () => {
    const actual = [['B-PER', 'I-PER', 'O'], ['B-LOC']];
    expect(entityF1(actual, actual)).toBe(1);
    expect(entityF1([['B-PER', 'I-PER', 'O'], ['B-PER']], actual)).toBe(0.5);
    expect(entityF1([['B-PER', 'O', 'O'], ['B-LOC']], actual)).toBe(0.5);
    expect(entityF1([['B-PER', 'I-PER', 'I-PER'], ['I-LOC']], actual)).toBe(0.5);
  });

  it('score 0 without entities', () => {
    const nothing = { precision: 0, recall: 0, f1: 0, support: 0, byType: new Map() };
    expect(entityScores([['O']], [['O']])).toEqual(nothing);
    expect(entityScores([], [])).toEqual(nothing);
  });

  it('reject other sentences, other lengths and an empty tag', () => {
    expect(() => entityF1([['O']], [['O'], ['O']])).toThrow(ShapeError);
    expect(() => entityF1([['O'], ['O']], [['O'], ['O', 'O']])).toThrow(/2 predicted tags for sentence 2.*got 1/);
    expect(() => entityF1([['']], [['O']])).toThrow(DataError);
  });
});

describe('rows with several labels', () => {
  it('have the F1 of scikit-learn: micro, macro and per label', () => {
    const { cases } = golden('labels') as {
      cases: { predicted: string[]; actual: string[]; micro: number; macro: number; labels: number[] }[];
    };
    const parse = (rows: readonly string[]) => rows.map((row) => Array.from(row, Number));
    for (const { predicted, actual, micro, macro, labels } of cases) {
      const rows = [parse(predicted), parse(actual)] as const;
      const ours = [microF1(...rows), macroF1OfLabels(...rows), ...f1OfLabels(...rows)];
      expectClose(ours, [micro, macro, ...labels], actual.join());
    }
  });

  it('reject other rows and other labels', () => {
    expect(() => microF1([[1]], [])).toThrow(ShapeError);
    expect(() => microF1([[1], [1, 0]], [[1], [1]])).toThrow(/expected 1 labels in every row, got 2/);
  });
});

describe('retrieval', () => {
  it('has the values of the InformationRetrievalEvaluator of sentence-transformers', () => {
    const { cases } = golden('retrieval') as {
      cases: { name: string; scores: number[][]; relevant: number[][]; values: Record<string, number> }[];
    };
    for (const { name, scores, relevant, values } of cases) {
      const ours = retrievalMetrics(
        scores.map((row, query) => ({ ranked: rankByScore(row), relevant: relevant[query] ?? [] })),
      );
      expectClose(Object.values(ours), Object.values(values), name);
      expect(Object.keys(ours)).toEqual(Object.keys(values));
    }
  });

  it('follows its formulas', () => {
    const metrics = retrievalMetrics([{ ranked: ['c', 'a', 'b'], relevant: ['a', 'b'] }]);
    const ndcgAt10 = (1 / Math.log2(3) + 1 / Math.log2(4)) / (1 / Math.log2(2) + 1 / Math.log2(3));
    expect(metrics).toEqual({ recallAt1: 0, recallAt10: 1, mrr: 0.5, ndcgAt10 });
  });

  it('ranks NaN last, and keeps equal scores in order', () => {
    expect(rankByScore([NaN, 0.5, -Infinity, 0.5, 2])).toEqual([4, 1, 3, 0, 2]);
  });

  it('rejects a document that is ranked twice, and is 0 without queries', () => {
    expect(() => retrievalMetrics([{ ranked: [1, 1], relevant: [1] }])).toThrow(DataError);
    expect(retrievalMetrics([])).toEqual({ recallAt1: 0, recallAt10: 0, mrr: 0, ndcgAt10: 0 });
  });
});
