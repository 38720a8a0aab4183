/** How the tokens of a text become entities: the strategies of transformers' `TokenClassificationPipeline`, to the letter. */
import type { TokenSpan } from '@peftjs/models';
import { best } from './scores.js';

/**
 * - `'none'`: each token by itself
 * - `'simple'`: neighbours with one tag are joined: B-X begins an entity, I-X goes on with it
 * - `'first'`, `'max'`, `'average'`: the same for whole words, each with the tag of its first token, of its surest one, or of the mean of
 *   its tokens' scores
 */
export type AggregationStrategy = 'none' | 'simple' | 'first' | 'average' | 'max';

/** A token and its label. */
export interface TokenEntity {
  readonly entity: string;
  readonly score: number;
  /** Its place among the tokens that the model reads, the one that begins a text included. */
  readonly index: number;
  /** As the vocabulary has it. */
  readonly word: string;
  /** It is `text.slice(start, end)`. */
  readonly start: number;
  readonly end: number;
}

/** Neighbouring tokens with one tag. */
export interface EntityGroup {
  /** The label without what tells beginnings apart: `PER` of `B-PER` and `I-PER`. */
  readonly entity_group: string;
  /** The mean of its parts. */
  readonly score: number;
  /** Its tokens joined; `text.slice(start, end)` is how the text has it. */
  readonly word: string;
  readonly start: number;
  readonly end: number;
}

/** A token with the scores of all labels. */
export interface ScoredToken {
  readonly index: number;
  readonly span: TokenSpan;
  readonly scores: readonly number[];
}

/** What entities are made with. */
export interface Naming {
  readonly labels: readonly string[];
  /** The text of pieces of the vocabulary. */
  readonly join: (pieces: readonly string[]) => string;
}

/** A token or a word with its label. */
type Tagged = Omit<TokenEntity, 'index'>;

/** The entities of a text. */
export function entitiesOf(
  tokens: readonly ScoredToken[],
  strategy: AggregationStrategy,
  naming: Naming,
): TokenEntity[] | EntityGroup[] {
  const { labels } = naming;
  if (strategy === 'none')
    return tokens.map((token) => ({ ...tagged([token], token.scores, labels), index: token.index }));
  if (strategy === 'simple') {
    return grouped(
      tokens.map((token) => tagged([token], token.scores, labels)),
      naming,
    );
  }
  const words = wordsOf(tokens).map((word) => ({
    ...tagged(word, WORD_SCORES[strategy](word), labels),
    word: naming.join(word.map(({ span }) => span.piece)),
  }));
  return grouped(words, naming);
}

function tagged(tokens: readonly ScoredToken[], scores: readonly number[], labels: readonly string[]): Tagged {
  const [first, last] = [tokens[0], tokens.at(-1)] as [ScoredToken, ScoredToken];
  const label = best(scores);
  return {
    entity: labels[label] as string,
    score: scores[label] as number,
    word: first.span.piece,
    start: first.span.start,
    end: last.span.end,
  };
}

type Word = readonly [ScoredToken, ...ScoredToken[]];

function wordsOf(tokens: readonly ScoredToken[]): Word[] {
  const words: [ScoredToken, ...ScoredToken[]][] = [];
  for (const token of tokens) {
    const word = words.at(-1);
    if (word && token.span.continuesWord) word.push(token);
    else words.push([token]);
  }
  return words;
}

/** The scores of a word of those of its tokens. */
const WORD_SCORES: Readonly<Record<'first' | 'average' | 'max', (word: Word) => readonly number[]>> = {
  first: ([{ scores }]) => scores,
  max: (word) => word.reduce((surest, token) => (highest(token) > highest(surest) ? token : surest)).scores,
  average: (word) => word[0].scores.map((_, label) => mean(word.map(({ scores }) => scores[label] as number))),
};

function highest({ scores }: ScoredToken): number {
  return Math.max(...scores);
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Joins neighbours: one that goes on with the tag before it, and does not begin an entity. */
function grouped(parts: readonly Tagged[], { join }: Naming): EntityGroup[] {
  const groups: [Tagged, ...Tagged[]][] = [];
  for (const part of parts) {
    const group = groups.at(-1);
    const before = group?.at(-1);
    const goesOn = before && tagOf(part.entity) === tagOf(before.entity) && !part.entity.startsWith('B-');
    if (group && goesOn) group.push(part);
    else groups.push([part]);
  }
  return groups.map((group) => ({
    entity_group: group[0].entity.replace(/^[^-]*-/, ''),
    score: mean(group.map(({ score }) => score)),
    word: join(group.map(({ word }) => word)),
    start: group[0].start,
    end: (group.at(-1) as Tagged).end,
  }));
}

function tagOf(entity: string): string {
  return entity.replace(/^[BI]-/, '');
}
