import { ShapeError } from '@peftjs/core/method';
import { batchesByLength, type BatchOptions } from './batches.js';
import type { CausalData, CausalRow } from './encode-language.js';
import { checkPositive } from './encode.js';
import type { LabelledEvaluation } from './evaluation.js';

/** Batches to judge a language model by. */
export interface CausalEvaluation extends LabelledEvaluation {
  /**
   * What `score` needs of a row: the sum of its losses and the number of its predicted tokens, instead of its logits `[tokens,
   * vocabulary]`, which for all rows would not fit into memory: `evaluate` and `train` hold those of one batch at a time.
   */
  summarise(row: number, logits: Float32Array): Float32Array;
  /** Perplexity and mean log-likelihood of a token, from the logits of each row or from what `summarise` made of them. */
  score(outputs: readonly Float32Array[]): Record<string, number>;
}

/**
 * Batches of a language set in a fixed order, judged by `perplexity`, of which less is better and which selects a checkpoint.
 * @throws ConfigError for an impossible option.
 */
export function causalEvaluation(data: CausalData, options: BatchOptions): CausalEvaluation {
  checkPositive('batchSize', options.batchSize);
  const batches = batchesByLength(data.rows.keys(), data, options);
  const padded = new Map(
    batches.flatMap(({ rows, labels }) => rows.map((row) => [row, labels.shape[1] as number] as const)),
  );
  const lossOf = (row: number, logits: Float32Array): TokenLoss =>
    tokenLoss(logits, labelsOf(data.rows[row] as CausalRow, padded.get(row) as number));
  return {
    batches,
    primaryMetric: 'perplexity',
    lowerIsBetter: true,
    summarise(row, logits) {
      const { sum, tokens } = lossOf(row, logits);
      return Float32Array.of(sum, tokens);
    },
    score(outputs) {
      if (outputs.length !== data.rows.length) {
        throw new ShapeError(`${data.name}: expected the outputs of ${data.rows.length} rows, got ${outputs.length}`);
      }
      const losses = outputs.map((output, row) => summaryIn(output) ?? lossOf(row, output));
      return { perplexity: perplexity(losses), meanLogLikelihood: meanLogLikelihood(losses) };
    },
  };
}

/** Two numbers are a summary: logits are of two tokens and of a vocabulary at least. */
function summaryIn(output: Float32Array): TokenLoss | undefined {
  return output.length === 2 ? { sum: output[0] as number, tokens: output[1] as number } : undefined;
}

/** The labels of a row, and none for its padding. */
function labelsOf({ labels }: CausalRow, tokens: number): Int32Array {
  const filled = new Int32Array(tokens).fill(-1);
  filled.set(labels);
  return filled;
}

/** How badly tokens were predicted: the sum of their negative log-likelihoods, and how many there were. */
export interface TokenLoss {
  readonly sum: number;
  readonly tokens: number;
}

/**
 * The loss of a row: a token's logits are held against the label of the next. @param logits `[tokens, vocabulary]`, row-major @param labels `[tokens]`, below 0 where none is predicted
 * @throws ShapeError when a label lies outside of the vocabulary or the logits are not a table of so many tokens.
 */
export function tokenLoss(logits: Float32Array, labels: Int32Array): TokenLoss {
  const vocabulary = logits.length / labels.length;
  if (!Number.isInteger(vocabulary)) {
    throw new ShapeError(`expected logits for each of ${labels.length} tokens, got ${logits.length} numbers`);
  }
  let sum = 0;
  let tokens = 0;
  labels.subarray(1).forEach((label, token) => {
    if (label < 0) return;
    if (label >= vocabulary) throw new ShapeError(`expected labels below ${vocabulary}, got ${label}`);
    sum -= logLikelihood(logits.subarray(token * vocabulary, (token + 1) * vocabulary), label);
    tokens++;
  });
  return { sum, tokens };
}

/**
 * exp( - (1/N) sum_i log p(x_i | x_<i) ), over the N tokens that are predicted: of a row those after its first, and of an instruction
 * those of the answer. NaN without tokens, infinite where the exponential is.
 */
export function perplexity(losses: Iterable<TokenLoss>): number {
  return Math.exp(-meanLogLikelihood(losses));
}

/** Mean log-likelihood of a token: the logarithm of the inverse perplexity, and higher is better. NaN without tokens. */
export function meanLogLikelihood(losses: Iterable<TokenLoss>): number {
  let sum = 0;
  let tokens = 0;
  for (const loss of losses) {
    sum += loss.sum;
    tokens += loss.tokens;
  }
  return -sum / tokens;
}

/** Logarithm of the softmax at one place, by the largest logit first, so that nothing overflows. */
function logLikelihood(logits: Float32Array, label: number): number {
  let largest = -Infinity;
  for (const logit of logits) if (!(logit <= largest)) largest = logit; // a NaN stays
  let total = 0;
  for (const logit of logits) total += Math.exp(logit - largest);
  return (logits[label] as number) - largest - Math.log(total);
}
