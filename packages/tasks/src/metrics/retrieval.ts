import { DataError } from '@peftjs/core/method';
import { aList, assertArgument } from '@peftjs/core/model';
import { mean, ratioOfSums, sum, type RowMetric } from './values.js';

/** The search results of one query. */
export interface Ranking<Id = number> {
  /** The found documents, best first, each once; {@link retrievalMetrics} needs ten. */
  readonly ranked: readonly Id[];
  /** The documents that answer the query, in any order. */
  readonly relevant: Iterable<Id>;
}

/**
 * Ranks documents by their scores, best first: `[.2, .9]` becomes `[1, 0]`. Ties keep their order, and NaN comes last.
 */
export function rankByScore(scores: ArrayLike<number>): number[] {
  const ranks = Array.from(scores, (score) => (Number.isNaN(score) ? -Infinity : score));
  return [...ranks.keys()].sort((a, b) =>
    ranks[a] === ranks[b] ? a - b : (ranks[b] as number) - (ranks[a] as number),
  );
}

/** The metrics of a retriever, by name: `recallAt1`, `recallAt10`, `mrr` (over the first ten) and `ndcgAt10`. */
export function retrievalMetrics<Id>(rankings: readonly Ranking<Id>[]): Record<string, number> {
  return {
    recallAt1: recallAt(1, rankings),
    recallAt10: recallAt(10, rankings),
    mrr: meanReciprocalRank(rankings),
    ndcgAt10: ndcgAt(10, rankings),
  };
}

/** Makes a metric of predictions: the documents found for each query, best first, and those that answer it. */
export function ofQueries(metric: (rankings: readonly Ranking[]) => number): RowMetric<readonly number[]> {
  type Found = readonly (readonly number[])[];
  const rankings = (found: Found, wanted: Found): Ranking[] =>
    found.map((ranked, query) => ({ ranked, relevant: wanted[query] ?? [] }));
  return Object.assign((found: Found, wanted: Found) => metric(rankings(found, wanted)), {
    weighted: (found: Found, wanted: Found) =>
      ratioOfSums(rankings(found, wanted).map((own) => ([...own.relevant].length === 0 ? [0, 0] : [metric([own]), 1]))),
  });
}

/** The share of the relevant documents that are among the first k, averaged over queries. */
export function recallAt<Id>(k: number, rankings: readonly Ranking<Id>[]): number {
  return averaged(k, rankings, (hits, relevant) => sum(hits) / relevant);
}

/** 1 / the rank of the first relevant document, or 0 if none is among the first k, averaged over queries. */
export function meanReciprocalRank<Id>(rankings: readonly Ranking<Id>[], k = 10): number {
  return averaged(k, rankings, (hits) => (hits.includes(1) ? 1 / (1 + hits.indexOf(1)) : 0));
}

/**
 * Normalised discounted cumulative gain: a relevant document at rank r (from 1) gains 1 / log2(r + 1); the sum over the
 * first k ranks is divided by that of the best possible order, and averaged over queries.
 */
export function ndcgAt<Id>(k: number, rankings: readonly Ranking<Id>[]): number {
  return averaged(k, rankings, (hits, relevant) => {
    const best = new Array<number>(Math.min(k, relevant)).fill(1);
    return gain(hits) / gain(best);
  });
}

function gain(hits: readonly number[]): number {
  return sum(hits.map((hit, index) => hit / Math.log2(index + 2)));
}

/**
 * The mean over the queries with relevant documents (sentence-transformers leaves out the others, too); 0 if there are
 * none. `metric` gets 1 for each relevant and 0 for each other document at the first k ranks, and the number of
 * relevant documents.
 */
function averaged<Id>(
  k: number,
  rankings: readonly Ranking<Id>[],
  metric: (hits: readonly number[], relevant: number) => number,
): number {
  assertArgument('rankings', rankings, aList);
  const answered = rankings.map(({ ranked, relevant }, query) => {
    const first = ranked.slice(0, k);
    if (new Set(first).size < first.length) {
      throw new DataError(`query ${query + 1}: expected each document once in a ranking, got one twice`);
    }
    const wanted = new Set(relevant);
    return { hits: first.map((document) => Number(wanted.has(document))), relevant: wanted.size };
  });
  const judged = answered.filter(({ relevant }) => relevant > 0);
  return mean(judged.map(({ hits, relevant }) => metric(hits, relevant)));
}
