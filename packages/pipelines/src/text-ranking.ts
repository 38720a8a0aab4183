import { ConfigError, DataError, describe } from '@peftjs/core/method';
import { firstNames } from '@peftjs/core/model';
import { callOptions } from './call-options.js';
import { answers, outputMeaning, type CallOptions, type Inference } from './inference.js';
import { descendingOrder, scoreEntries, scoresOf, type ScoreFunction } from './scores.js';

/** A ranked document. */
export interface RankedDocument {
  /** Its index among the given documents. */
  readonly index: number;
  /** Its relevance to the query. */
  readonly score: number;
}

/** Options of a text-ranking call. */
export interface RankOptions extends CallOptions {
  /** The number of documents to return; null for all. Default null. */
  readonly topK?: number | null;
  /**
   * How outputs become scores. Default: sigmoid for one output, the default of sentence-transformers' `CrossEncoder`,
   * whatever function the model's own config.json names; softmax for two, where the second class is the score.
   */
  readonly functionToApply?: ScoreFunction;
}

/** Ranks documents by their relevance to a query, with a cross-encoder that reads the query and a document together. */
export interface TextRanker {
  /** Returns the documents, best first; equal ones keep their order. */
  (query: string, documents: readonly string[], options?: RankOptions): Promise<RankedDocument[]>;
  /** Frees the model's resources once running calls have ended. */
  dispose(): Promise<void>;
}

/** Ranks documents. */
export async function rank(
  inference: Inference,
  query: unknown,
  documents: unknown,
  options: unknown,
): Promise<RankedDocument[]> {
  const { adapter, topK, functionToApply } = callOptions(inference.task, scoreEntries, options);
  if (typeof query !== 'string' || query.trim() === '') {
    throw new DataError(`text-ranking: expected a query, got ${describe(query)}`, 'query');
  }
  if (!Array.isArray(documents)) {
    throw new DataError(`text-ranking: expected a list of documents, got ${describe(documents)}`, 'documents');
  }
  const pairs = documents.map((textPair: unknown) => ({ text: query, textPair }));
  const { found } = await answers(inference, pairs, adapter);
  const scores = found.map(({ outputs, meaning: { temperature } }) => {
    const own = scoresOf(outputs, functionToApply ?? (outputs.length === 1 ? 'sigmoid' : 'softmax'), temperature);
    return own.at(-1) as number;
  });
  return descendingOrder(scores)
    .slice(0, topK ?? scores.length)
    .map((index) => ({ index, score: scores[index] as number }));
}

/** @throws ConfigError when the model is not a cross-encoder: it must have one or two outputs. */
export function assertCrossEncoder(inference: Inference): void {
  const { labels } = outputMeaning(inference, undefined);
  if (labels.length <= 2) return;
  throw new ConfigError(
    `text-ranking: expected a model with one output, or two with relevance second; it has ${labels.length}: ${firstNames(labels)}`,
    'source',
  );
}
