/**
 * Combines the tokens of a text into entities, exactly as transformers' `TokenClassificationPipeline` does; the strategy
 * `'words'`, and tags that begin with E- or S-, are ours.
 */
import type { TokenSpan } from '@peftjs/models';
import { argMax } from './scores.js';

/**
 * How tokens are combined into entities.
 * - `'none'`: each token separately
 * - `'simple'`: neighbours with the same tag are joined; B-X and S-X start an entity, I-X continues it, E-X and S-X end it
 * - `'first'`, `'max'`, `'average'`: the same for whole words, with the tag of the first token, of the token with the
 *   highest score, or of the mean of the tokens' scores
 * - `'words'`: as `'first'`, for a text that is read as training reads tagged words, with punctuation apart. To the
 *   other strategies, as to transformers, what is between blanks is a word unless `##` marks words: `(Vienna).`
 */
export type AggregationStrategy = 'none' | 'simple' | 'first' | 'average' | 'max' | 'words';

/** A token and its label. */
export interface TokenEntity {
  /** The label, e.g. `B-PER`. */
  readonly entity: string;
  /** The probability of the label. */
  readonly score: number;
  /** The token's index in the model's input, including special tokens. */
  readonly index: number;
  /** The token in the vocabulary. */
  readonly word: string;
  /** The first character: the token covers `text.slice(start, end)`. */
  readonly start: number;
  /** The end of the characters (exclusive). */
  readonly end: number;
}

/** Neighbouring tokens with the same tag. */
export interface EntityGroup {
  /** The label without its prefix, B- or another, e.g. `PER`. */
  readonly entity_group: string;
  /** The mean of the scores of its tokens or words. */
  readonly score: number;
  /** Its tokens joined. The original text is `text.slice(start, end)`. */
  readonly word: string;
  /** The first character in the text. */
  readonly start: number;
  /** The end of the characters (exclusive). */
  readonly end: number;
}

/** A token with the scores of all labels. */
export interface ScoredToken {
  /** The token's index in the model's input. */
  readonly index: number;
  /** The characters that it covers. */
  readonly span: TokenSpan;
  /** The probability of each label. */
  readonly scores: readonly number[];
}

/** The names of labels and the text of tokens. */
export interface EntityOptions {
  /** The labels, in the order of the outputs. */
  readonly labels: readonly string[];
  /** Joins vocabulary pieces to a text. */
  readonly join: (pieces: readonly string[]) => string;
}

/** A token or a word with its label. */
type Tagged = Omit<TokenEntity, 'index'>;

/** Combines the tokens of a text into entities. */
export function entitiesOf(
  tokens: readonly ScoredToken[],
  strategy: AggregationStrategy,
  naming: EntityOptions,
): TokenEntity[] | EntityGroup[] {
  const { labels } = naming;
  const alone = (token: ScoredToken): Tagged => tagged([token], token.scores, labels);
  if (strategy === 'none') return tokens.map((token) => ({ ...alone(token), index: token.index }));
  if (strategy === 'simple') return grouped(tokens.map(alone), naming);
  const words = wordsOf(tokens).map((word) => ({
    ...tagged(word, WORD_SCORES[strategy](word), labels),
    word: naming.join(word.map(({ span }) => span.piece)),
  }));
  return grouped(words, naming);
}

function tagged(tokens: readonly ScoredToken[], scores: readonly number[], labels: readonly string[]): Tagged {
  const [first, last] = [tokens[0], tokens.at(-1)] as [ScoredToken, ScoredToken];
  const label = argMax(scores);
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

/** Functions that compute the scores of a word from those of its tokens. */
const WORD_SCORES: Readonly<Record<'words' | 'first' | 'average' | 'max', (word: Word) => readonly number[]>> = {
  words: ([{ scores }]) => scores,
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

/** Joins each part with the previous one if they have the same type and no entity starts or ends between them. */
function grouped(parts: readonly Tagged[], { labels, join }: EntityOptions): EntityGroup[] {
  const isScheme = labels.some((label) => /^[BI]-/.test(label)); // else E- and S- may be part of a type, `E-MAIL`
  const typeOf = (entity: string): string => (isScheme ? entity.replace(/^[BIES]-/, '') : entity);
  const groups: [Tagged, ...Tagged[]][] = [];
  for (const part of parts) {
    const group = groups.at(-1);
    const before = group?.at(-1);
    const isBetween = !before || (isScheme && (/^[BS]-/.test(part.entity) || /^[ES]-/.test(before.entity)));
    if (group && !isBetween && typeOf(part.entity) === typeOf(before.entity)) group.push(part);
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
