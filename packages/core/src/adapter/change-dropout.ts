import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { dropoutRate, finite, integerFrom } from '../config.js';
import type { AdapterLayer, StepContext } from '../contracts/layer.js';
import type { Site } from '../contracts/site.js';

/*
 * Dropout of the outputs of a change and of whole modules, as in LyCORIS: drawn at every step, the same for all rows.
 */

/** The schema entries that LyCORIS's methods share, with PEFT's names and defaults. */
export const lycorisEntries = {
  /** The alpha parameter: the change is scaled by `alpha / r`. Default 8. */
  alpha: v.optional(finite, 8),
  /** Ranks that differ from `r`, by module path or a regular expression for its end. Default {}. */
  rankPattern: v.optional(v.record(v.string(), integerFrom(1)), {}),
  /** Alphas of modules whose alpha is not `alpha`, by the same keys. Default {}. */
  alphaPattern: v.optional(v.record(v.string(), finite), {}),
  /** The probability that the change of an output feature is dropped in a training step. Default 0. */
  rankDropout: v.optional(dropoutRate, 0),
  /**
   * The probability that the whole change of a module is dropped in a training step; the rest is not scaled. Default 0.
   */
  moduleDropout: v.optional(dropoutRate, 0),
};

/** The rates of this dropout. */
export interface ChangeDropout {
  readonly rankDropout: number;
  /** Whether the change of kept outputs is divided by their share. Default true. */
  readonly rankDropoutScale?: boolean;
  readonly moduleDropout: number;
}

const RANK_DROPOUT = 'rankDropout';
const MODULE_DROPOUT = 'moduleDropout';

/** Returns the noise that a layer needs for this dropout. */
export function changeNoise({ rankDropout, moduleDropout }: ChangeDropout): Pick<AdapterLayer, 'noise'> {
  const noise = [...(rankDropout > 0 ? [RANK_DROPOUT] : []), ...(moduleDropout > 0 ? [MODULE_DROPOUT] : [])];
  return noise.length > 0 ? { noise } : {};
}

/** Applies this dropout to a change [rows, out]. */
export function dropChange(
  change: Tensor,
  { path, outFeatures }: Site,
  { rankDropout, rankDropoutScale = true, moduleDropout }: ChangeDropout,
  ctx: StepContext,
): Tensor {
  const kept = (name: string, size: number, rate: number): Tensor =>
    tf.cast(tf.greater(ctx.dropout(`${path}.${name}`, tf.ones([1, size]), rate), 0), 'float32'); // 0 or 1 [1, size]
  let rest = change;
  if (ctx.training && rankDropout > 0) {
    const outputs = kept(RANK_DROPOUT, outFeatures, rankDropout);
    const share = rankDropoutScale ? tf.div(tf.maximum(tf.sum(outputs), 1), outFeatures) : 1;
    rest = tf.mul(rest, tf.div(outputs, share));
  }
  if (ctx.training && moduleDropout > 0) rest = tf.mul(rest, kept(MODULE_DROPOUT, 1, moduleDropout));
  return rest;
}
