import { dropoutRate, finite, integerFrom, targetEntries, type MethodOptions } from '@peftjs/core/method';
import * as v from 'valibot';

/** The schema entries of the options. */
export const lokrOptions = {
  ...targetEntries,
  /** The rank of a decomposed factor. A factor is decomposed if its longer side is more than `2 r`. Default 8. */
  r: v.optional(integerFrom(1), 8),
  /** The alpha parameter: the change is scaled by `alpha / r`. Default 8. */
  alpha: v.optional(finite, 8),
  /** Ranks that differ from `r`, by module path or a regular expression for its end. Default {}. */
  rankPattern: v.optional(v.record(v.string(), integerFrom(1)), {}),
  /** Alphas of modules whose alpha is not `alpha`, by the same keys. Default {}. */
  alphaPattern: v.optional(v.record(v.string(), finite), {}),
  /** Whether the first factor of the Kronecker product is decomposed too, not only the second. Default false. */
  decomposeBoth: v.optional(v.boolean(), false),
  /**
   * The side of the first factor, or the nearest divisor below it; -1 chooses sides near the square root. Default -1.
   */
  decomposeFactor: v.optional(v.pipe(v.number(), v.integer()), -1),
  /** The probability that the change of an output feature is dropped in a training step. Default 0. */
  rankDropout: v.optional(dropoutRate, 0),
  /** Whether the outputs that `rankDropout` keeps are scaled up to make up for the dropped ones. Default false. */
  rankDropoutScale: v.optional(v.boolean(), false),
  /** The probability that the whole change of a module is dropped in a training step. Default 0. */
  moduleDropout: v.optional(dropoutRate, 0),
  /** Which factor starts at zero: the first (`true`), the second (`'lycoris'`) or none (`false`). Default true. */
  initWeights: v.optional(v.union([v.boolean(), v.literal('lycoris')]), true),
};

/** The options of LoKr, with PEFT's names and defaults. */
export type LokrConfig = MethodOptions<typeof lokrOptions>;
