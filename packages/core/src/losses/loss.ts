import type { Scalar, Tensor } from '@tensorflow/tfjs';
import type { Batch, DataKind } from '../contracts/model.js';
import { ConfigError } from '../errors.js';
import type { Named } from '../settings.js';
import type { Tensors } from '../tensors.js';

/** What is minimised on the data: a value with a name and plain settings. */
export interface Loss extends Named {
  /** The kinds of data whose labels it reads; checked before the first step. Left out, it takes any, and labels are not looked at. */
  readonly labels?: DataKind | readonly DataKind[];
  /** The mean over what counts of a batch, as part of the traced step; 0, and no NaN, where nothing counts. */
  loss(outputs: Tensor, batch: LossBatch): Scalar;
  /** How much of the mean over several batches is this one's, e.g. its labelled tokens. Default: its rows. */
  weight?(batch: Batch): number;
}

/** A loss of one's own: the mean over what counts of a batch. Its labels are not checked. */
export type LossFunction = Loss['loss'];

/** A loss as a value: a function goes by its name, which is what a resumed run is checked by. */
export function lossOf(loss: Loss | LossFunction): Loss {
  return typeof loss === 'function' ? { name: loss.name || 'own', loss } : loss;
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

/**
 * Checks that a loss reads the labels of a kind of data.
 * @throws ConfigError naming both.
 */
export function assertReads({ name, labels }: Loss, kind: DataKind): void {
  const kinds = [labels ?? kind].flat();
  if (kinds.includes(kind)) return;
  throw new ConfigError(`the loss '${name}' reads ${kinds.join(' or ')}, the data are ${kind}`, 'loss');
}

/** What a batch counts beside others in a loss: what its mean is over. */
export function lossWeight(loss: Loss, batch: Batch): number {
  return loss.weight?.(batch) ?? [...batch.rowWeights.data].reduce((sum, weight) => sum + weight, 0);
}
