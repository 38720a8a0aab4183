import type { Scalar, Tensor } from '@tensorflow/tfjs';
import type { Batch, DataKind } from '../contracts/model.js';
import type { Named } from '../settings.js';
import type { Tensors } from '../tensors.js';

/** What is minimised on the data: a value with a name and plain settings. */
export interface Loss extends Named {
  /** The kind of labels it reads; checked before the first step. Left out, labels are not looked at. */
  readonly labels?: DataKind;
  /** The mean over what counts of a batch, as part of the traced step; 0, and no NaN, where nothing counts. */
  loss(outputs: Tensor, batch: LossBatch): Scalar;
  /** How much of the mean over several batches is this one's, e.g. its labelled tokens. Default: its rows. */
  weight?(batch: Batch): number;
}

/** What a loss reads of a batch besides the outputs. */
export interface LossBatch {
  /** `[batch]`, or `[batch, tokens]`. */
  readonly labels: Tensor;
  /** `[batch]`; 0 for a row that only fills the batch. */
  readonly rowWeights: Tensor;
  /** What the model read, e.g. `attentionMask` `[batch, tokens]`, 1 for a token. */
  readonly inputs: Tensors;
}

/** What a batch counts beside others in a loss: what its mean is over. */
export function lossWeight(loss: Loss, batch: Batch): number {
  return loss.weight?.(batch) ?? [...batch.rowWeights.data].reduce((sum, weight) => sum + weight, 0);
}
