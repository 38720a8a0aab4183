import { dropoutRate, finite, integerFrom, targetEntries, type MethodOptions } from '@peftjs/core/method';
import * as v from 'valibot';

/** The schema entries of the options. */
export const lohaOptions = {
  ...targetEntries,
  /** The rank of each of the two products. Their elementwise product has a rank of at most r * r. Default 8. */
  r: v.optional(integerFrom(1), 8),
  /** The alpha parameter: the change is scaled by `alpha / r`. Default 8. */
  alpha: v.optional(finite, 8),
  /** Ranks that differ from `r`, by module path or a regular expression for its end. Default {}. */
  rankPattern: v.optional(v.record(v.string(), integerFrom(1)), {}),
  /** Alphas of modules whose alpha is not `alpha`, by the same keys. Default {}. */
  alphaPattern: v.optional(v.record(v.string(), finite), {}),
  /** The probability that the change of an output feature is dropped in a training step. Default 0. */
  rankDropout: v.optional(dropoutRate, 0),
  /** The probability that the whole change of a module is dropped in a training step. Default 0. */
  moduleDropout: v.optional(dropoutRate, 0),
  /** Whether the change starts at zero; if not, it starts at random. Default true. */
  initWeights: v.optional(v.boolean(), true),
};

/** The options of LoHa, with PEFT's names and defaults. */
export type LohaConfig = MethodOptions<typeof lohaOptions>;
