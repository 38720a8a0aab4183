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
    tokenLoss(logits, (data.rows[row] as CausalRow).labels, padded.get(row) as number);
  return {
    batches,
    primaryMetric: 'perplexity',
    lowerIsBetter: true,
    takesSurprise: true,
    summarise: (row, logits) => Float32Array.from(lossOf(row, logits)),
    score(outputs) {
      if (outputs.length !== data.rows.length) {
        throw new ShapeError(`${data.name}: expected the outputs of ${data.rows.length} rows, got ${outputs.length}`);
      }
      // A row with two numbers is a summary: logits have at least two tokens and a vocabulary of more than one word.
      const losses = outputs.map((output, row) => (output.length === 2 ? output : lossOf(row, output)));
      const total = (part: 0 | 1): number => losses.reduce((sum, loss) => sum + loss[part], 0);
      // exp( - (1/N) sum_i log p(x_i | x_<i) ), over the N predicted tokens: all tokens of a text but the first, or the
      // answer of an instruction. NaN without tokens; infinite where the exponential is.
      const meanLogLikelihood = -total(0) / total(1);
      return { perplexity: Math.exp(-meanLogLikelihood), meanLogLikelihood };
    },
  };
}

/** The sum of the negative log-likelihoods of the predicted tokens, in nats, and their number. */
type TokenLoss = readonly [sum: number, tokens: number];

/**
 * The loss of a row: each token's logits are compared with the label of the next token.
 * @param logits `[padded, vocabulary]`, row-major
 * @param labels `[tokens]`, negative where no token is predicted
 * @throws ShapeError when a label is outside the vocabulary, or the logits are not a table with one row per token.
 */
function tokenLoss(logits: Float32Array, labels: Int32Array, padded: number): TokenLoss {
  const vocabulary = logits.length / padded;
  if (!Number.isInteger(vocabulary)) {
    throw new ShapeError(`expected logits for each of ${padded} tokens, got ${logits.length} numbers`);
  }
  let sum = 0;
  let tokens = 0;
  labels.subarray(1).forEach((label, token) => {
    if (label < 0) return;
    if (label >= vocabulary) throw new ShapeError(`expected labels below ${vocabulary}, got ${label}`);
    sum -= logLikelihood(logits.subarray(token * vocabulary, (token + 1) * vocabulary), label);
    tokens++;
  });
  return [sum, tokens];
}

/** The logarithm of the softmax for one label; the largest logit is subtracted first, so that nothing overflows. */
function logLikelihood(logits: Float32Array, label: number): number {
  let largest = -Infinity;
  for (const logit of logits) if (!(logit <= largest)) largest = logit; // a NaN is kept
  let total = 0;
  for (const logit of logits) total += Math.exp(logit - largest);
  return (logits[label] as number) - largest - Math.log(total);
}
