import type { RowPredictions, RowValue } from '@peftjs/core';
import { countEntities, totalOf, type TagSequences } from './entities.js';
import { meanReciprocalRank, ndcgAt, recallAt, type Ranking } from './retrieval.js';
import { ofAll, ratioOfSums, weighted, type OfRows, type WeightedMetric } from './values.js';

/** The metrics of a retriever, of what it found first and of what answers each query. */
export const ofRankings = {
  ndcgAt10: (rankings) => ndcgAt(10, rankings),
  mrr: (rankings) => meanReciprocalRank(rankings),
  recallAt1: (rankings) => recallAt(1, rankings),
  recallAt10: (rankings) => recallAt(10, rankings),
} satisfies Readonly<Record<string, (rankings: readonly Ranking[]) => number>>;

type Numbers = readonly number[];
type Tags = readonly string[];

/** The share of words with the right tag; 0 without words. */
const tokenAccuracyOf: OfRows<Tags> = (predicted, actual) =>
  ratioOfSums(
    actual.map((tags, row) => [tags.filter((tag, word) => predicted[row]?.[word] === tag).length, tags.length]),
  );

/** The share of words with the right tag; 0 without words. */
export function tokenAccuracy(predicted: TagSequences, actual: TagSequences): number {
  return ofAll(tokenAccuracyOf, predicted, actual);
}

/** F1 over all labels of all rows. */
const microF1Of: OfRows<Numbers> = (predicted, actual) =>
  ratioOfSums(
    actual.map((labels, row) => {
      const named = predicted[row] ?? [];
      return [2 * ones(labels.filter((_, label) => named[label] === 1)), ones(named) + ones(labels)];
    }),
  );

function ones(values: Numbers): number {
  return values.filter((value) => value === 1).length;
}

/** F1 over all entities of all sentences. */
const entityF1Of: OfRows<Tags> = (predicted, actual) =>
  ratioOfSums(
    actual.map((tags, row) => {
      const { right, found, wanted } = totalOf([...countEntities([predicted[row] ?? []], [tags]).values()]);
      return [2 * right, found + wanted];
    }),
  );

/** A mean over queries with an answer. */
function ofQueries(metric: (rankings: readonly Ranking[]) => number): OfRows<Numbers> {
  return (predicted, actual) =>
    ratioOfSums(
      actual.map((relevant, query) =>
        relevant.length === 0 ? [0, 0] : [metric([{ ranked: predicted[query] ?? [], relevant }]), 1],
      ),
    );
}

const { ndcgAt10, mrr, recallAt1, recallAt10 } = ofRankings;

const byName: Readonly<Record<string, OfRows<never>>> = {
  ...weighted,
  microF1: microF1Of,
  entityF1: entityF1Of,
  tokenAccuracy: tokenAccuracyOf,
  ndcgAt10: ofQueries(ndcgAt10),
  mrr: ofQueries(mrr),
  recallAt1: ofQueries(recallAt1),
  recallAt10: ofQueries(recallAt10),
};

/**
 * A metric as a function of how often each row is drawn, for a bootstrap over rows: what rows contribute is computed
 * once. Values equal those of `metricNamed` on the repeated rows. Undefined for a metric that is not computed from rows;
 * `macroF1` is that of classes.
 */
export function weightedMetric(name: string, { predicted, actual }: RowPredictions): WeightedMetric | undefined {
  if (!Object.hasOwn(byName, name) || (name === 'macroF1' && predicted.some(Array.isArray))) return undefined;
  return (byName[name] as OfRows<RowValue>)(predicted, actual);
}
