import { ConfigError, createRng, DataError, integerFrom, parseOptions, warnOnce, type Rng } from '@peftjs/core/method';
import { anInteger, assertArgument, aTextList } from '@peftjs/core/model';
import * as v from 'valibot';
import { aDataSet, createDataSet, type DataSet } from './data-set.js';
import { dot, isNumber, nearest, unit, vectorsOf, type SearchHit, type TextEmbeddings } from './nearest.js';

/*
 * Negatives from a model's own search, like `mine_hard_negatives` of sentence-transformers: for each anchor the nearest
 * texts of the corpus that are not its positives, with the same options, defaults and order of the rules:
 *
 *   candidates    the `rangeMax` + p nearest texts; p is the largest number of positives of an anchor
 *   left out      the anchor's positives; those above a margin or `maxScore`, or below `minScore`
 *   range         of what remains, the ranks from `rangeMin` to before `rangeMax`
 *   sampling      the first `numNegatives` of these, or as many at random
 *
 * Unlike there, an anchor that is also a text of the corpus is never its own negative.
 */

/** Embeds texts: a pipeline for 'feature-extraction', or a function that returns the same. */
export type Embed = (texts: readonly string[]) => Promise<TextEmbeddings>;

/** Options of {@link mineHardNegatives}: those of sentence-transformers, in camel case. */
export interface HardNegativesOptions {
  /** Embeds the texts of the corpus: `[texts, width]`. */
  readonly embed: Embed;
  /** Embeds the anchors, e.g. with a prompt for queries. Default: `embed`. */
  readonly embedQueries?: Embed;
  /** Texts that may become negatives, besides the positives of all rows. Default: none. */
  readonly corpus?: readonly string[];
  /** The number of nearest texts to skip: they may be positives that the data do not name. Default 0. */
  readonly rangeMin?: number;
  /**
   * The rank after the last candidate. Default: `rangeMin` + p + `numNegatives`, with ten times `numNegatives` if there
   * is a margin or `maxScore`; p is the largest number of positives of an anchor.
   */
  readonly rangeMax?: number;
  /** The largest cosine of an anchor and a negative. Default: none. */
  readonly maxScore?: number;
  /** The smallest cosine of an anchor and a negative. Default: none. */
  readonly minScore?: number;
  /** By how much a negative's cosine is at least below that of the anchor's least similar positive. Default: none. */
  readonly absoluteMargin?: number;
  /** The same as a share of the size of that cosine: 0.05 allows at most 95 % of a positive one. Default: none. */
  readonly relativeMargin?: number;
  /** The number of negatives of each row. Default 3. */
  readonly numNegatives?: number;
  /** Whether to take the nearest candidates or to draw them. Default 'top'. */
  readonly samplingStrategy?: 'top' | 'random';
  /** The seed of the draws. Default 0. */
  readonly seed?: number;
}

const aNumber = v.optional(v.pipe(v.number(), v.finite()));

const entries = {
  embed: v.function(),
  embedQueries: v.optional(v.function()),
  corpus: v.optional(aTextList, []),
  rangeMin: v.optional(integerFrom(0), 0),
  rangeMax: v.optional(integerFrom(1)),
  maxScore: aNumber,
  minScore: aNumber,
  absoluteMargin: aNumber,
  relativeMargin: aNumber,
  numNegatives: v.optional(integerFrom(1), 3),
  samplingStrategy: v.optional(v.picklist(['top', 'random']), 'top'),
  seed: v.optional(anInteger, 0),
} satisfies Record<keyof HardNegativesOptions, unknown>;

/** The rules for candidates, with their defaults. */
type Rules = Required<Pick<HardNegativesOptions, 'rangeMin' | 'rangeMax' | 'numNegatives' | 'samplingStrategy'>> & {
  readonly [Limit in 'maxScore' | 'minScore' | 'absoluteMargin' | 'relativeMargin']?: number | undefined;
};

/**
 * Adds hard negatives to pairs: wrong answers that a model finds near the anchors. The first two texts of each row
 * count; all positives of equal anchors are positives of each. A row without enough negatives is left out, with a
 * warning that says how many were.
 * @throws ConfigError for an impossible option, or for data that are not pairs or triplets.
 * @throws DataError when no row has enough negatives.
 */
export async function mineHardNegatives(dataSet: DataSet, options: HardNegativesOptions): Promise<DataSet<'triplets'>> {
  assertArgument('dataSet', dataSet, aDataSet);
  const { corpus, seed, ...parsed } = parseOptions('mineHardNegatives', entries, options);
  const { embed, embedQueries = embed } = options;
  const positives = positivesOf(dataSet);
  const sizes = [...positives.values()].map(({ size }) => size);
  const most = sizes.reduce((largest, size) => Math.max(largest, size), 1); // too many for the arguments of a call
  const rules = rulesOf(parsed, most);
  const documents = [...new Set([...corpus, ...[...positives.values()].flatMap((own) => [...own])])];
  const numbers = new Map(documents.map((text, index) => [text, index]));
  const vectors = await unitVectors(embed, documents);
  const queries = await unitVectors(embedQueries, [...positives.keys()]);
  const rng = createRng(seed);
  const candidates = [...documents.keys()];
  const rows = [...positives].flatMap(([anchor, own], index) => {
    const query = queries[index] as Float64Array;
    const right = [...own].map((text) => numbers.get(text) as number);
    const wide = nearest(query, candidates, vectors, rules.rangeMax + most + 1); // the anchor may be among them
    const found = wide.filter(({ corpusId }) => corpusId !== numbers.get(anchor)).slice(0, rules.rangeMax + most);
    const wrong = found.filter((hit) => isNumber(hit) && !right.includes(hit.corpusId));
    const least = Math.min(...right.map((document) => dot(query, vectors[document] as Float64Array)));
    const negatives = chosen(wrong, least, rules, rng.fork(anchor)).map(
      ({ corpusId }) => documents[corpusId] as string,
    );
    return negatives.length < rules.numNegatives
      ? []
      : [...own].map((text) => ({ texts: [anchor, text, ...negatives] }));
  });
  const all = sizes.reduce((sum, size) => sum + size, 0);
  assertEnough(dataSet.name, rows.length, all, rules);
  return createDataSet({ name: `${dataSet.name} with mined negatives`, kind: 'triplets', classes: [], rows });
}

/**
 * Returns the positives of each distinct anchor, in order of appearance.
 * @throws ConfigError for data of another kind.
 */
function positivesOf({ name, kind, rows }: DataSet): ReadonlyMap<string, ReadonlySet<string>> {
  if (kind !== 'pairs' && kind !== 'triplets') {
    throw new ConfigError(
      `mineHardNegatives: expected pairs or triplets, ${name} has rows of kind '${kind}'`,
      'dataSet',
    );
  }
  const positives = new Map<string, Set<string>>();
  for (const { texts } of rows as DataSet<'pairs'>['rows']) {
    const [anchor, positive] = texts;
    positives.set(anchor, (positives.get(anchor) ?? new Set()).add(positive));
  }
  return positives;
}

/**
 * Completes the rules. @throws ConfigError for ranks that hold too few negatives.
 * @param most the largest number of positives of an anchor
 */
function rulesOf(given: Omit<Rules, 'rangeMax'> & { readonly rangeMax?: number | undefined }, most: number): Rules {
  const { rangeMin, numNegatives, absoluteMargin, relativeMargin, maxScore } = given;
  const isLimited = [absoluteMargin, relativeMargin, maxScore].some((limit) => limit !== undefined);
  const { rangeMax = rangeMin + (isLimited ? 10 : 1) * numNegatives + most } = given;
  if (numNegatives <= rangeMax - rangeMin) return { ...given, rangeMax };
  throw new ConfigError(
    `mineHardNegatives: ranks from ${rangeMin} (rangeMin) to before ${rangeMax} (rangeMax) hold fewer than ${numNegatives} negatives (numNegatives): raise rangeMax`,
    'rangeMax',
  );
}

async function unitVectors(embed: Embed, texts: readonly string[]): Promise<Float64Array[]> {
  const found = await embed(texts);
  const { dims } = found;
  const [rows] = dims;
  if (dims.length !== 2 || rows !== texts.length) {
    throw new ConfigError(
      `mineHardNegatives: expected embeddings [${texts.length}, width], got [${dims.join(', ')}]`,
      'embed',
    );
  }
  return vectorsOf(found).map(unit);
}

/** Returns the negatives among an anchor's nearest texts; fewer than wanted if there are not enough. */
function chosen(found: readonly SearchHit[], positive: number, rules: Rules, rng: Rng): readonly SearchHit[] {
  const { rangeMin, rangeMax, numNegatives, samplingStrategy } = rules;
  const { absoluteMargin, relativeMargin, maxScore = Infinity, minScore = -Infinity } = rules;
  const most = Math.min(
    maxScore,
    absoluteMargin === undefined ? Infinity : positive - absoluteMargin,
    relativeMargin === undefined ? Infinity : positive - Math.abs(positive) * relativeMargin,
  );
  const isHard = ({ score }: SearchHit): boolean => score <= most && score >= minScore;
  const offered = found.filter(isHard).slice(rangeMin, rangeMax);
  if (samplingStrategy === 'top') return offered.slice(0, numNegatives);
  const drawn = rng.permutation(offered.length).slice(0, numNegatives).sort();
  return Array.from(drawn, (place) => offered[place] as SearchHit);
}

/** Warns of rows without enough negatives. @throws DataError when there are no others. */
function assertEnough(name: string, kept: number, all: number, { numNegatives }: Rules): void {
  const way = 'raise rangeMax, or loosen the margins and scores';
  if (kept === 0)
    throw new DataError(`${name}: expected ${numNegatives} negatives for some rows, found none; ${way}`, name);
  if (kept < all) {
    warnOnce(`${name}: left out ${all - kept} of ${all} rows, which have fewer than ${numNegatives} negatives; ${way}`);
  }
}
