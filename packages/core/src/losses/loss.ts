import * as tf from '@tensorflow/tfjs-core';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import type { Batch, DataKind } from '../contracts/model.js';
import { ConfigError } from '../errors.js';
import type { Named } from '../settings.js';
import type { Tensors } from '../tensors.js';

/** A loss to minimise on the data: a value with a name and plain settings. */
export interface Loss extends Named {
  /**
   * The kinds of data whose labels it reads; checked before the first step. Default: any kind, and labels are not
   * checked.
   */
  readonly labels?: DataKind | readonly DataKind[];
  /**
   * Whether it reads `inputs.referenceLogps`: what the frozen model, without the adapter, gives the two answers of each
   * row of preferences, log p summed over their labelled tokens, `[batch, 2]`. `train` computes it once, before the
   * first step, for data without it. Default false.
   */
  readonly needsReference?: boolean;
  /** The number of texts of a row that it reads, e.g. 3 for a triplet. Default: any. */
  readonly columns?: number;
  /** Computes the weighted mean over a batch, as part of the traced step; 0 (not NaN) where all weights are 0. */
  loss(outputs: Tensor, batch: LossBatch): Scalar;
  /**
   * Computes the same from `surprise`, for a loss that is a mean of -log softmax(logits)[label] over tokens: a language
   * model then never holds the logits of all words.
   * @param surprise returns it for labels of all tokens: int32 `[batch * tokens]` -> `[batch * tokens]`
   */
  ofSurprise?(surprise: (labels: Tensor) => Tensor, batch: LossBatch): Scalar;
  /**
   * Returns the weight of a batch in the mean over several, e.g. its number of labelled tokens. Default: its number of
   * rows.
   */
  weight?(batch: Batch): number;
}

/** A custom loss: the weighted mean over a batch. The labels are not checked. */
export type LossFunction = Loss['loss'];

/** Wraps a loss function as a loss. Its name is the function's, which is compared when a run is resumed. */
export function asLoss(loss: Loss | LossFunction): Loss {
  return typeof loss === 'function' ? { name: loss.name || 'own', loss } : loss;
}

/** What a loss reads of a batch besides the outputs. */
export interface LossBatch {
  /** The labels, in the shapes of `Batch.labels`. */
  readonly labels: Tensor;
  /** The weight of each row, `[batch]`; 0 for a row that only fills the batch. */
  readonly rowWeights: Tensor;
  /**
   * The batch's inputs, e.g. `attentionMask` `[batch, tokens]`, 1 for a token; also those that the model does not read.
   */
  readonly inputs: Tensors;
}

/**
 * Checks that a loss reads the labels of a kind of data, and all texts of a row.
 * @param texts the number of texts of a row, if it is known
 * @throws ConfigError naming both.
 */
export function assertLossReads({ name, labels, columns }: Loss, kind: DataKind, texts = columns): void {
  const kinds = [labels ?? kind].flat();
  if (!kinds.includes(kind)) {
    throw new ConfigError(`the loss '${name}' is for ${kinds.join(' or ')}, but these rows are for ${kind}`, 'loss');
  }
  if (columns === texts || columns === undefined) return;
  throw new ConfigError(
    `the loss '${name}' reads rows of ${columns} texts, the data have ${texts}: leave out the other texts, or choose another loss`,
    'loss',
  );
}

/** Returns the weight of a batch in the mean over several batches. */
export function lossWeight(loss: Loss, batch: Batch): number {
  return loss.weight?.(batch) ?? [...batch.rowWeights.data].reduce((sum, weight) => sum + weight, 0);
}

/** A lower bound of a sum of weights, so that a mean without any weight is 0 / MIN_SUM = 0. */
export const MIN_SUM = 1e-12;

/** Returns the mean of values weighted by a tensor of the same shape; 0 where all weights are 0. */
export function weightedMean(values: Tensor, weights: Tensor): Scalar {
  return tf.div(tf.sum(tf.mul(values, weights)), tf.maximum(tf.sum(weights), MIN_SUM));
}
