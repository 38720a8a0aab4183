import { entityScores, rankByScore, retrievalMetrics } from '@peftjs/tasks';
import { afterEach, expect, it, vi } from 'vitest';

afterEach(() => vi.restoreAllMocks());

it('metrics of tags and of rankings', () => {
  const said: unknown[][] = [];
  vi.spyOn(console, 'log').mockImplementation((...values) => said.push(values));
  // #region metrics
  const { f1, byType } = entityScores([['B-PER', 'O', 'B-LOC']], [['B-PER', 'O', 'B-ORG']]); // predicted and actual, by sentence
  console.log(f1, byType.get('PER')); // 0.5 { precision: 1, recall: 1, f1: 1, support: 1 }

  const scores = [[0.1, 0.7, 0.4]]; // of each document, by query
  const rankings = scores.map((row) => ({ ranked: rankByScore(row), relevant: [1] }));
  console.log(retrievalMetrics(rankings)); // { recallAt1: 1, recallAt10: 1, mrr: 1, ndcgAt10: 1 }
  // #endregion metrics
  expect(said).toEqual([
    [0.5, { precision: 1, recall: 1, f1: 1, support: 1 }],
    [{ recallAt1: 1, recallAt10: 1, mrr: 1, ndcgAt10: 1 }],
  ]);
});
