import { integerFrom, parseOptions, ShapeError } from '@peftjs/core/method';
import { assertArgument, objectLike } from '@peftjs/core/model';
import * as v from 'valibot';

/** A found vector. */
export interface SearchHit {
  /** Its index in the corpus. */
  readonly corpusId: number;
  /** Its cosine with the query. */
  readonly score: number;
}

/** Options of {@link semanticSearch}. */
export interface SemanticSearchOptions {
  /** The number of vectors to find for each query. Default 10. */
  readonly topK?: number;
}

/** A vector of any type. */
type Vector = ArrayLike<number>;

/** Embeddings of texts as numbers and their shape, `[texts, width]`: what a pipeline for 'feature-extraction' returns. */
export interface TextEmbeddings {
  /** The numbers in row-major order. */
  readonly data: Float32Array;
  /** The shape. */
  readonly dims: readonly number[];
}

const someVectors = objectLike<readonly Vector[] | TextEmbeddings>(
  "embeddings: a list of vectors, or what a pipeline for 'feature-extraction' returns",
  {},
  (given) => Array.isArray(given) || ('data' in given && 'dims' in given),
);

/**
 * Finds the nearest vectors of a corpus for each query by their cosines, best first: an exact search in memory, like
 * `semantic_search` of sentence-transformers. Ties keep the order of the corpus.
 * @throws ShapeError when the vectors do not all have the same length, and for embeddings of tokens.
 * @example const [hits] = semanticSearch(await embed('a wading bird'), await embed(['heron', 'anvil']));
 */
export function semanticSearch(
  queryEmbeddings: readonly Vector[] | TextEmbeddings,
  corpusEmbeddings: readonly Vector[] | TextEmbeddings,
  options: SemanticSearchOptions = {},
): SearchHit[][] {
  assertArgument('queryEmbeddings', queryEmbeddings, someVectors);
  assertArgument('corpusEmbeddings', corpusEmbeddings, someVectors);
  const { topK } = parseOptions('semanticSearch', { topK: v.optional(integerFrom(1), 10) }, options);
  const [queries, documents] = [vectorsOf(queryEmbeddings), vectorsOf(corpusEmbeddings)];
  assertOneWidth([...queries, ...documents]);
  const corpus = documents.map(unit);
  const candidates = [...corpus.keys()];
  return queries.map((query) => nearest(unit(query), candidates, corpus, topK));
}

/** Returns a vector for each text. @throws ShapeError for embeddings with other axes than texts and numbers. */
export function vectorsOf(given: readonly Vector[] | TextEmbeddings): readonly Vector[] {
  if (!('dims' in given)) return given;
  const { data, dims } = given;
  const [count = 0, width = 0] = dims;
  if (dims.length !== 2) {
    throw new ShapeError(
      `expected embeddings [texts, width], got [${dims.join(', ')}]: leave out pooling: 'none'`,
      'embeddings',
    );
  }
  return Array.from({ length: count }, (_, row) => data.subarray(row * width, (row + 1) * width));
}

function assertOneWidth(vectors: readonly Vector[]): void {
  const [first] = vectors;
  const odd = vectors.find(({ length }) => length !== first?.length);
  if (!odd) return;
  throw new ShapeError(`expected vectors of one length, got ${first?.length} and ${odd.length}`, 'embeddings');
}

/**
 * Returns the candidates with the largest cosines, at most `most` of them, best first; ties keep the order of the
 * candidates, and a vector that is not a number comes last.
 * @param vectors vectors of length 1
 */
export function nearest(
  query: Float64Array,
  candidates: readonly number[],
  vectors: readonly Float64Array[],
  most: number,
): SearchHit[] {
  const best: SearchHit[] = [];
  for (const corpusId of candidates) {
    const product = dot(query, vectors[corpusId] as Float64Array);
    const score = Number.isNaN(product) ? -Infinity : product;
    if (best.length === most && score <= (best.at(-1)?.score ?? 0)) continue;
    const place = best.findIndex((other) => score > other.score);
    best.splice(place === -1 ? best.length : place, 0, { corpusId, score });
    best.length = Math.min(best.length, most);
  }
  return best;
}

/** Whether both vectors of a hit were numbers. */
export function isNumber({ score }: SearchHit): boolean {
  return score > -Infinity;
}

/** x / ||x||; zeros stay zeros. */
export function unit(vector: Vector): Float64Array {
  const x = Float64Array.from(vector);
  const length = Math.sqrt(dot(x, x)) || 1;
  return x.map((value) => value / length);
}

/** Uses four independent sums, which halves the time on large files. */
export function dot(a: Float64Array, b: Float64Array): number {
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  let at = 0;
  for (; at + 3 < a.length; at += 4) {
    s0 += (a[at] as number) * (b[at] as number);
    s1 += (a[at + 1] as number) * (b[at + 1] as number);
    s2 += (a[at + 2] as number) * (b[at + 2] as number);
    s3 += (a[at + 3] as number) * (b[at + 3] as number);
  }
  for (; at < a.length; at++) s0 += (a[at] as number) * (b[at] as number);
  return s0 + s1 + s2 + s3;
}
