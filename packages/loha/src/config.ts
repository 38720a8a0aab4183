import { integerFrom, lycorisEntries, targetEntries, type MethodOptions } from '@peftjs/core/method';
import * as v from 'valibot';

/** The schema entries of the options. */
export const lohaOptions = {
  ...targetEntries,
  ...lycorisEntries,
  /** The rank of each of the two products. Their elementwise product has a rank of at most r * r. Default 8. */
  r: v.optional(integerFrom(1), 8),
  /** Whether the change starts at zero; if not, it starts at random. Default true. */
  initWeights: v.optional(v.boolean(), true),
};

/** The options of LoHa, with PEFT's names and defaults. */
export type LohaConfig = MethodOptions<typeof lohaOptions>;
