import { type EvaluationData, ShapeError } from '@peftjs/core';
import { batchesByLength, type BatchOptions } from '../batches.js';
import { checkPositive } from '../encode.js';
import type { CausalData, CausalRow } from './causal-data.js';
import { meanLogLikelihood, perplexity, tokenLoss, type TokenLoss } from './perplexity.js';

/** Batches to judge a language model by. */
export interface CausalEvaluation extends EvaluationData {
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
