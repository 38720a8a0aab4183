/**
 * Perplexity = exp( - (1/N) sum_i log p(x_i | x_<i) ), over the N tokens that are predicted: of a row those after its first, and
 * of an instruction those of the answer. A token's logits are held against the label of the next.
 */
import { ShapeError } from '@peftjs/core';

/** How badly tokens were predicted: the sum of their negative log-likelihoods, and how many there were. */
export interface TokenLoss {
  readonly sum: number;
  readonly tokens: number;
}

/**
 * The loss of a row. @param logits `[tokens, vocabulary]`, row-major @param labels `[tokens]`, below 0 where none is predicted
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

/** exp of the mean loss of a token; NaN without tokens, infinite where the exponential is. */
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
