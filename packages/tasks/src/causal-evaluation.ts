import { parseOptions, ShapeError } from '@peftjs/core/method';
import { assertArgument } from '@peftjs/core/model';
import { batchEntries, batchesByLength, type BatchOptions, encodedRows, paddedLengths } from './batches.js';
import type { CausalData, CausalRow } from './encode-language.js';
import type { LabelledEvaluation } from './evaluation.js';

/** Batches to evaluate a language model on. */
export interface CausalEvaluation extends LabelledEvaluation {
  /**
   * Reduces a row's logits `[tokens, vocabulary]` to the two numbers that `score` needs: the sum of the losses and the
   * number of predicted tokens. The logits of all rows would not fit into memory; `evaluate` and `train` hold those of
   * one batch at a time.
   */
  summarise(row: number, logits: Float32Array): Float32Array;
  /** Perplexity and mean log-likelihood per token, from each row's logits or from its summary by `summarise`. */
  score(outputs: readonly Float32Array[]): Record<string, number>;
}

/**
 * Creates the batches of a language set, in a fixed order, with the metric `perplexity`: lower is better, and it
 * selects the checkpoint.
 * @throws ConfigError for an impossible option.
 */
export function causalEvaluation(data: CausalData, options: BatchOptions): CausalEvaluation {
  assertArgument('data', data, encodedRows);
  parseOptions('causalEvaluation', batchEntries, options);
  const batches = batchesByLength(data.rows.keys(), data, options);
  const padded = paddedLengths(batches);
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

/** A row with two numbers is a summary: logits have at least two tokens and a vocabulary of more than one word. */
function summaryIn(output: Float32Array): TokenLoss | undefined {
  return output.length === 2 ? { sum: output[0] as number, tokens: output[1] as number } : undefined;
}

/** The labels of a row, filled with -1 for its padding. */
function labelsOf({ labels }: CausalRow, tokens: number): Int32Array {
  const filled = new Int32Array(tokens).fill(-1);
  filled.set(labels);
  return filled;
}

/** How well tokens were predicted. */
export interface TokenLoss {
  /** The sum of their negative log-likelihoods, in nats. */
  readonly sum: number;
  /** The number of predicted tokens. */
  readonly tokens: number;
}

/**
 * The loss of a row: each token's logits are compared with the label of the next token.
 * @param logits `[tokens, vocabulary]`, row-major
 * @param labels `[tokens]`, negative where no token is predicted
 * @throws ShapeError when a label is outside the vocabulary, or the logits are not a table with one row per token.
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
 * exp( - (1/N) sum_i log p(x_i | x_<i) ), over the N predicted tokens: all tokens of a text but the first, or the
 * answer of an instruction. NaN without tokens; infinite where the exponential is.
 */
export function perplexity(losses: Iterable<TokenLoss>): number {
  return Math.exp(-meanLogLikelihood(losses));
}

/**
 * The mean log-likelihood per token: the negative logarithm of the perplexity; higher is better. NaN without tokens.
 */
export function meanLogLikelihood(losses: Iterable<TokenLoss>): number {
  let sum = 0;
  let tokens = 0;
  for (const loss of losses) {
    sum += loss.sum;
    tokens += loss.tokens;
  }
  return -sum / tokens;
}

/** The logarithm of the softmax for one label; the largest logit is subtracted first, so that nothing overflows. */
function logLikelihood(logits: Float32Array, label: number): number {
  let largest = -Infinity;
  for (const logit of logits) if (!(logit <= largest)) largest = logit; // a NaN is kept
  let total = 0;
  for (const logit of logits) total += Math.exp(logit - largest);
  return (logits[label] as number) - largest - Math.log(total);
}
