import { integerFrom, lycorisEntries, targetEntries, type MethodOptions } from '@peftjs/core/method';
import * as v from 'valibot';

/** The schema entries of the options. */
export const lokrOptions = {
  ...targetEntries,
  ...lycorisEntries,
  /** The rank of a decomposed factor. A factor is decomposed if its longer side is more than `2 r`. Default 8. */
  r: v.optional(integerFrom(1), 8),
  /** Whether the first factor of the Kronecker product is decomposed too, not only the second. Default false. */
  decomposeBoth: v.optional(v.boolean(), false),
  /**
   * The sides of the first factor. Where it does not divide a module's features, the side is their largest divisor
   * that is at most this and at most their square root; -1 sets no limit but the square root. Default -1.
   */
  decomposeFactor: v.optional(v.pipe(v.number(), v.integer()), -1),
  /** Whether the outputs that `rankDropout` keeps are scaled up to make up for the dropped ones. Default false. */
  rankDropoutScale: v.optional(v.boolean(), false),
  /** Which factor starts at zero: the first (`true`), the second (`'lycoris'`) or none (`false`). Default true. */
  initWeights: v.optional(v.union([v.boolean(), v.literal('lycoris')]), true),
};

/** The options of LoKr, with PEFT's names and defaults. */
export type LokrConfig = MethodOptions<typeof lokrOptions>;
